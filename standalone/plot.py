"""The demo's picture: one parcel's series over the season."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib import dates as mdates
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from standalone.series import ParcelRecord, Point

_INK = "#22303c"
_FAINT = "#8a949e"
_LINE = "#e3e7ea"
_LEFT, _RIGHT, _SCALE = 0.075, 0.97, 0.03  # of the page's width; the last is a second scale's
_BOTTOM, _HEIGHT = 0.17, 0.66  # of its height
_COLOURS = ("#1f7a4d", "#7b4b94")


def draw_ndvi(path: Path, of: ParcelRecord, points: Sequence[Point], credit: str) -> None:
    """Draw a parcel's NDVI: clear dates as a line, clouded ones grey, unclassified ones hollow.

    Args:
        path: PNG file to write.
        of: the parcel.
        points: its series, in order of time.
        credit: owner of the data.
    """
    clear = [point for point in points if point.clear and point.value is not None]
    clouded = [point for point in points if point.clear is False and point.value is not None]
    unknown = [point for point in points if point.clear is None and point.value is not None]
    unseen = [point for point in points if point.value is None]
    figure, axes = _page(of, f"{len(points)} Sentinel-2 dates, {len(clear)} clear", credit)
    axes.set_ylabel("NDVI, mean of the parcel's pixels")
    axes.set_ylim(-0.05, 1.0)
    axes.fill_between(_times(clear), _values(clear), -0.05, color=_COLOURS[0], alpha=0.07, lw=0)
    axes.plot(_times(clear), _values(clear), "-o", color=_COLOURS[0], ms=5.5, lw=2, label="clear")
    if clouded:
        axes.plot(
            _times(clouded), _values(clouded), "o", color="white", mec=_FAINT, mew=1.3, ms=5.5,
            label="cloud or shadow over the parcel",
        )  # fmt: skip
    if unknown:
        axes.plot(
            _times(unknown), _values(unknown), "o", color="white", mec=_COLOURS[0], mew=1.3, ms=5.5,
            label="without scene classes",
        )  # fmt: skip
    if unseen:
        axes.plot(
            _times(unseen), [-0.035] * len(unseen), "|", color=_FAINT, ms=9, mew=1.6,
            label="no valid pixel",
        )  # fmt: skip
    _finish(figure, axes, path)


def draw_backscatter(
    path: Path,
    of: ParcelRecord,
    series: Mapping[str, Sequence[Point]],
    credit: str,
    ndvi: Sequence[Point] = (),
    own_card: Collection[str] = (),
    coherence: Sequence[Point] = (),
) -> None:
    """Draw a parcel's Sentinel-1 backscatter in dB, a line for each polarisation, beside its NDVI.

    Args:
        path: PNG file to write.
        of: the parcel.
        series: points in order of time, by polarisation.
        credit: owner of the data.
        ndvi: the parcel's NDVI, whose clear dates are drawn faint, if any.
        own_card: references of scenes that were made here; their points have a ring.
        coherence: points of the same scale as NDVI, if any.
    """
    dates = len({point.when for points in series.values() for point in points})
    figure, axes = _page(of, f"{dates} Sentinel-1 dates", credit)
    axes.set_ylabel("backscatter, dB of the parcel's mean")
    own = []
    for colour, (name, points) in zip(_COLOURS, series.items(), strict=False):
        seen = [point for point in points if point.value is not None]
        own += [point for point in seen if point.reference in own_card]
        axes.plot(_times(seen), _values(seen), "-o", color=colour, ms=5.5, lw=2, label=name)
    if own:
        axes.plot(
            _times(own), _values(own), "o", color="none", mec=_INK, mew=1.4, ms=11,
            label="made here from Level-1",
        )  # fmt: skip
    clear = [point for point in ndvi if point.clear and point.value is not None]
    if clear or coherence:
        axes.set_position((_LEFT, _BOTTOM, _RIGHT - _LEFT - _SCALE, _HEIGHT))
        _draw_beside(axes.twinx(), clear, coherence)
    _finish(figure, axes, path)


def _draw_beside(beside: Any, ndvi: Sequence[Point], coherence: Sequence[Point]) -> None:
    """Draw what goes from 0 to 1 on a scale of its own."""
    if ndvi:
        label = "NDVI, Sentinel-2"
        beside.plot(_times(ndvi), _values(ndvi), "--", color=_FAINT, lw=1.4, label=label)
    if coherence:
        label = "coherence over 12 days, made here"
        beside.plot(_times(coherence), _values(coherence), "D", color=_INK, ms=7, label=label)
    beside.set_ylim(-0.05, 1.0)
    beside.set_frame_on(False)
    beside.tick_params(colors=_FAINT, length=0, pad=7, labelsize=10)


def _page(of: ParcelRecord, what: str, credit: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(11, 5.8), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((_LEFT, _BOTTOM, _RIGHT - _LEFT, _HEIGHT))
    title = f"{of.crop_name}, parcel {of.code}" if of.crop_name else f"parcel {of.code}"
    crop_code = f"Crop code {of.crop_code} · " if of.crop_code else ""
    figure.text(_LEFT, 0.925, title[0].upper() + title[1:], size=17, weight="bold", color=_INK)
    figure.text(
        _LEFT, 0.872, f"{crop_code}Campaign {of.aoi} {of.year} · {what}", size=11, color=_FAINT
    )
    figure.text(_RIGHT, 0.035, credit, size=8.5, color=_FAINT, ha="right")
    return figure, axes


def _finish(figure: Figure, axes: Any, path: Path) -> None:
    axes.grid(axis="y", color=_LINE, lw=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0, pad=7, labelsize=10)
    axes.yaxis.label.set(color=_INK, size=10.5)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    locator = mdates.AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(x=0.02)
    figure.legend(
        loc="lower left", bbox_to_anchor=(_LEFT - 0.012, 0.01), ncols=4, frameon=False,
        fontsize=10, labelcolor=_INK, handletextpad=0.5,
    )  # fmt: skip
    figure.savefig(path, metadata={"Software": None})


def _times(points: Sequence[Point]) -> list[datetime]:
    return [point.when for point in points]


def _values(points: Sequence[Point]) -> list[float | None]:
    return [point.value for point in points]
