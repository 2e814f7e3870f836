"""Kept images: bounded in bytes, the longest unused go first, shared by processes."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from app.chips.cache import ImageCache
from store.errors import ConfigError

BLOCK = 4096


def kept(folder) -> list:
    return [p for p in folder.iterdir() if p.name != "tally"]


def test_an_image_is_found_by_its_key_only(tmp_path):
    cache = ImageCache(tmp_path, 10 * BLOCK)
    cache.put("a", b"image")
    assert (cache.get("a"), cache.get("b")) == (b"image", None)


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = ImageCache(tmp_path, 10 * BLOCK)
    for key in "abcdefghij":
        cache.put(key, b"x" * BLOCK)
    for age, path in enumerate(sorted(kept(tmp_path), key=lambda p: p.stat().st_mtime_ns)):
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.get("a")
    cache.put("k", b"x" * BLOCK)
    assert cache.get("a")
    assert cache.get("b") is None
    assert cache.get("k")


def test_the_folder_never_grows_beyond_its_bound_with_many_writers(tmp_path):
    program = """
import sys
from pathlib import Path
from app.chips.cache import ImageCache
cache = ImageCache(Path(sys.argv[1]), 20 * 4096)
for n in range(60):
    cache.put(f"{sys.argv[2]} {n}", b"x" * 5000)
"""
    command = [sys.executable, "-c", program, tmp_path]
    writers = [subprocess.Popen([*command, name]) for name in "ab"]
    most = 0
    while any(writer.poll() is None for writer in writers):
        with suppress(FileNotFoundError):  # one goes while we look
            most = max(most, sum(p.stat().st_blocks * 512 for p in kept(tmp_path)))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert 8 * BLOCK < most <= 20 * BLOCK


def test_a_tally_that_is_lost_or_wrong_is_counted_again(tmp_path):
    cache = ImageCache(tmp_path, 4 * BLOCK)
    for key in "abc":
        cache.put(key, b"x")
    (tmp_path / "tally").write_text("nonsense")
    for key in "defgh":
        cache.put(key, b"x")
    assert len(kept(tmp_path)) <= 4


def test_an_image_larger_than_the_bound_is_not_kept(tmp_path):
    cache = ImageCache(tmp_path, BLOCK)
    cache.put("a", b"x" * (BLOCK + 1))
    assert cache.get("a") is None
    nothing = ImageCache(tmp_path, 0)
    nothing.put("b", b"")
    assert nothing.get("b") is None


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="CBM_CHIP_CACHE_DIR"):
        ImageCache(tmp_path / "file" / "folder", BLOCK)
