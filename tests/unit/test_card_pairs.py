"""Pairs of SLC for coherence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from card.find.pairs import find_pairs
from store.inputs import InputProduct

START = datetime(2026, 7, 1, 5, 30, 10, tzinfo=UTC)


def slc(platform: str, days: float, orbit: int = 45, shift_s: float = 0, **facts) -> InputProduct:
    start = START + timedelta(days=days, seconds=shift_s)
    known = InputProduct(
        f"{platform}_IW_SLC__1SDV_{start:%Y%m%dT%H%M%S}", "SLC", "IW_SLC__1S", platform, start,
        start + timedelta(seconds=27), round(1000 + 14.58 * days), orbit, "MULTIPOLYGON EMPTY",
        "s3://eodata/x.SAFE",
    )  # fmt: skip
    return replace(known, **facts)


def found(*products: InputProduct, **options):
    return [
        (pair.product.platform, pair.days, [one.platform for one in pair.predecessors])
        for pair in find_pairs(products, **options)
    ]


def test_predecessors_are_sought_across_satellites():
    passes = [slc("S1A", 0), slc("S1C", 6), slc("S1D", 7), slc("S1A", 12)]
    assert found(*passes) == [
        ("S1C", 6, ["S1A"]),
        ("S1D", 1, ["S1C"]),
        ("S1A", 6, ["S1C"]),
        ("S1A", 12, ["S1A"]),
    ]
    assert found(*passes, intervals_d=(12,)) == [("S1A", 12, ["S1A"])]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (slc("S1A", 0, orbit=46), "another track"),
        (slc("S1A", 0, shift_s=25), "no burst in common"),
        (slc("S1A", 1), "no interval"),
        (slc("S1A", 5), "one day, but not C and D"),
        (slc("S1A", 0, level="GRD"), "no SLC"),
        (slc("S1A", 0, state="absent"), "not in the store"),
        (slc("S1A", 0, bursts=("045_IW1_2",)), "other bursts"),
    ],
)
def test_what_shares_no_ground_is_no_pair(other, why):
    assert found(other, slc("S1C", 6, bursts=("045_IW1_1",))) == [], why


def test_slices_are_cut_differently_in_each_pass():
    before = [slc("S1A", 0, shift_s=-14), slc("S1A", 0, shift_s=11)]
    [pair] = find_pairs([*before, slc("S1C", 6)])
    assert pair.predecessors == tuple(before)


def test_bursts_are_paired_where_they_are_known():
    before = [
        slc("S1A", 0, shift_s=-14, bursts=("1", "2")),
        slc("S1A", 0, shift_s=11, bursts=("2", "3")),
        slc("S1A", 0, shift_s=13, bursts=("9",)),
    ]
    [pair] = find_pairs([*before, slc("S1C", 6, bursts=("2", "3", "4"))])
    assert pair.bursts == ("2", "3")
    assert pair.predecessors == tuple(before[:2])


def test_a_slice_that_was_processed_twice_counts_once():
    twice = [slc("S1A", 0, reference="a", state="offline"), slc("S1A", 0, reference="b"),
             slc("S1A", 0, reference="c", state="offline")]  # fmt: skip
    [pair] = find_pairs([*twice, slc("S1C", 6)])
    assert [one.reference for one in pair.predecessors] == ["b"]


def test_a_real_pair_is_found(shared_data):
    import zipfile

    from card.find.level1 import of_manifest
    from store import products

    real = []
    for path in (shared_data / "s1_metadata").glob("S1A_IW_SLC__1SDV_2023*.zip"):
        name = path.name.removesuffix(".SAFE.zip")
        manifest = zipfile.ZipFile(path).read(f"{name}.SAFE/manifest.safe")
        real.append(of_manifest(products.parse(name), f"s3://eodata/{name}.SAFE", manifest))
    [pair] = find_pairs(real)
    assert (pair.days, pair.product.relative_orbit) == (12, 52)
