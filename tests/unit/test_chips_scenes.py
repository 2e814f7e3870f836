"""Which scene of an acquisition is shown, and which bands belong together."""

from datetime import UTC, datetime

import pytest

from app.chips.bands import band_set
from app.chips.scenes import ChipScene, rank_acquisitions

MAY, JUNE = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


def a_scene(obsid, acquisition="A", obstime=MAY, baseline="05.10", made=None, share=1.0):
    return ChipScene(obsid, f"S{obsid}", obstime, acquisition, "dn", baseline, made, {}, share)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (a_scene(9, share=0.5, baseline="05.11"), a_scene(1, share=0.9)),
        (a_scene(9, share=1.0, baseline="04.00"), a_scene(1, share=0.999)),
        (a_scene(9, made=MAY), a_scene(1, made=JUNE)),
        (a_scene(9), a_scene(1, made=MAY)),
        (a_scene(1), a_scene(9)),
    ],
    ids=["covers more", "newer baseline of equal cover", "newer product", "known age", "last"],
)
def test_the_scenes_of_an_acquisition_stand_best_first(worse, better):
    ranks = [[better, worse]]
    assert rank_acquisitions([worse, better]) == rank_acquisitions([better, worse]) == ranks


def test_acquisitions_come_by_time():
    scenes = [a_scene(1, "B", JUNE), a_scene(2, "A", MAY), a_scene(3, "C", MAY)]
    assert [[scene.obsid for scene in ranks] for ranks in rank_acquisitions(scenes)] == [
        [2],
        [3],
        [1],
    ]


@pytest.mark.parametrize(
    ("words", "level", "kinds", "names"),
    [
        (("B08", "b04", "SCL"), None, ("s2",), ("B08", "B04", "SCL")),
        (("VVb", "VHb"), None, ("bs",), ("VV", "VH")),
        (("VV",), None, ("bs",), ("VV",)),
        (("VVc",), None, ("c1d", "c6", "c12"), ("VV",)),
        (("VV",), "CARD-COH12", ("c12",), ("VV",)),
        (("B8A",), "LEVEL2A", ("s2",), ("B8A",)),
    ],
)
def test_bands_say_the_kinds_that_have_them(words, level, kinds, names):
    found = band_set(words, level)
    assert (found.kinds, found.names) == (kinds, names)


@pytest.mark.parametrize(
    ("words", "level"), [(("B08", "VV"), None), (("VVb", "VVc"), None), (("B08",), "CARD-BS")]
)
def test_bands_of_different_products_do_not_go_together(words, level):
    with pytest.raises(ValueError, match="no bands of"):
        band_set(words, level)
