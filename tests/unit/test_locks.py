"""What is tested is what is shipped: the lock files agree, and hold no address to download from."""

import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).parents[2] / "requirements"


def pinned(name: str) -> dict[str, set[str]]:
    """Versions by package; more than one where markers choose."""
    text = (LOCKS / f"{name}.lock").read_text()
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


@pytest.mark.parametrize("image", ["store", "app", "card", "extraction"])
def test_an_image_has_the_versions_that_are_tested(image):
    tested = pinned("dev")
    assert pinned(image)
    assert not {
        package: (versions, tested.get(package))
        for package, versions in pinned(image).items()
        if versions != tested.get(package)
    }


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.lock")), ids=lambda path: path.name)
def test_a_lock_names_no_address(lock):
    assert "://" not in lock.read_text()
