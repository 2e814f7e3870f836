"""Descriptions damaged by chance beside a sound product: that one is always registered."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from card.find import folder
from store import catalogue, db
from tests.attack.outcomes import Outcome, report
from tests.mutations import (
    damaged_xml,
    mutations,
    radar_product,
    sentinel2_product,
    stac_item,
)

FULL = bool(os.environ.get("CBM_TEST_FULL"))
ITEMS, SAFES, DIMAPS = (3000, 1000, 1000) if FULL else (300, 60, 60)


def damaged_items(place: Path, rng: random.Random) -> int:
    for number, item in zip(range(ITEMS), mutations(stac_item(), rng), strict=False):
        if "id" in item and rng.random() < 0.9:
            item["id"] = f"item {number}"
        (place / f"{number}.json").write_text(json.dumps(item))
    return ITEMS


def sound_item(place: Path) -> None:
    (place / "sound.json").write_text(json.dumps(stac_item()))


def damaged_products(
    place: Path, rng: random.Random, count: int, make: Callable, metadata: str
) -> int:
    """Copies of a sound product under other names, each with one of its metadata damaged."""
    model = make(place.parent / "model")
    for number in range(1, count + 1):
        named = make(place.parent / "names", number)
        home = place / named.name
        shutil.copytree(model, home, copy_function=lambda a, b: Path(b).symlink_to(a))
        shutil.rmtree(named)
        target = rng.choice(sorted(home.rglob(metadata)))
        text = target.read_text()
        target.unlink()
        target.write_text(damaged_xml(text, rng))
        _rename(home, model.name, named.name)
    return count


def _rename(home: Path, old: str, new: str) -> None:
    """Give what is called as its product in a folder the folder's name."""
    for path in sorted(home.rglob("*"), reverse=True):
        if old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))


def damaged_safes(place: Path, rng: random.Random) -> int:
    return damaged_products(place, rng, SAFES, sentinel2_product, "MTD_*.xml")


def damaged_dimaps(place: Path, rng: random.Random) -> int:
    return damaged_products(place, rng, DIMAPS, radar_product, "*.dim")


KINDS = {
    "damaged STAC Items": (sound_item, damaged_items),
    "damaged SAFE products": (sentinel2_product, damaged_safes),
    "damaged BEAM-DIMAP products": (radar_product, damaged_dimaps),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_product_is_registered_whatever_lies_beside_it(database, tmp_path, name):
    sound, damage = KINDS[name]
    (alone := tmp_path / "alone").mkdir()
    (place := tmp_path / "here").mkdir()
    sound(alone)
    [expected] = folder.scan(alone).scenes
    sound(place)
    tried = damage(place, random.Random(7))
    found = folder.scan(place)
    done = catalogue.register(database, found.scenes)
    wrong = [problem for problem in found.problems if "nobody foresaw" in problem.why]
    rows = db.fetch_all(database, "SELECT reference, bands::text FROM scene")
    by_reference = {row.reference: row.bands for row in rows}
    if expected.reference not in by_reference:
        wrong.append("the sound product is not registered")
    if len(rows) + len(done.refused) < len({scene.reference for scene in found.scenes}):
        wrong.append("scenes are lost without a word")
    report(Outcome(name, tried, len(wrong)), wrong)
