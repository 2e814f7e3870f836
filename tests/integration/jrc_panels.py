"""Uses the JRC's published client as a person does, without a browser; for a Python that has it.

python jrc_panels.py URL USER PASSWORD PID OTHER ... gets the others by panel `get`, looks at the
first of these by panel `view`; draws the parcel by `cbm.show` and writes its PDF report, all below
the working folder. The last line of its output is what was seen, as JSON.
"""

import contextlib
import datetime
import io
import json
import sys

import cbm
import ipyleaflet
import ipywidgets as w
import matplotlib.pyplot as plt
from cbm.ipycbm.ipy_get import get_panel
from cbm.ipycbm.ipy_view import view_panel
from IPython import display
from matplotlib.figure import Figure

AOI, YEAR = "tt", "2024"
BANDS = ("B02", "B03", "B04", "B08", "B11", "SCL")
DAYS = datetime.date(2024, 4, 1), datetime.date(2024, 5, 15)


class Shown:
    """What is displayed and drawn, which a notebook would put below its cell."""

    def __init__(self) -> None:
        self.widgets: list = []
        self.figures: list = []

    @contextlib.contextmanager
    def watched(self):
        """Collects instead of displaying; figures that are shown stay readable."""
        show, plot = display.display, plt.show
        modules = [m for m in sys.modules.values() if getattr(m, "display", None) is show]
        keep = lambda *shown, **_: self.widgets.extend(shown)  # noqa: E731
        for module in modules:
            module.display = keep
        plt.show = lambda *_, **__: self._keep_figures()
        try:
            yield
        finally:
            for module in modules:
                module.display = show
            plt.show = plot

    def _keep_figures(self) -> None:
        self.figures += [described(plt.figure(number)) for number in plt.get_fignums()]
        plt.close("all")


def described(figure) -> dict:
    """A figure as numbers: how many images and outlines, and each line with its label."""
    axes = figure.axes
    lines = [line for ax in axes for line in ax.lines]
    return {
        "images": sum(len(ax.images) for ax in axes),
        "outlines": sum(len(ax.patches) for ax in axes),
        "titles": [ax.get_title() for ax in axes],
        "lines": {line.get_label(): [float(y) for y in line.get_ydata()] for line in lines},
    }


def inside(widget) -> list:
    """A widget with all that it holds."""
    return [widget, *(v for child in getattr(widget, "children", ()) for v in inside(child))]


def pick(widgets, kind: type, label: str = ""):
    """The one widget of a kind with this label, icon or option."""
    every = [v for root in widgets for v in inside(root) if type(v) is kind]
    [found] = [v for v in every if label in labels(v)] if label else every
    return found


def labels(widget) -> set:
    options = [o[0] if isinstance(o, tuple) else o for o in getattr(widget, "options", ())]
    return {widget.description, getattr(widget, "icon", ""), *map(str, options)}


def get(pids: list[str]) -> None:
    """Series and images of parcels by their ids, as files in the temporary folder."""
    panel = [get_panel.get()]
    pick(panel, w.Button, "refresh").click()
    pick(panel, w.Dropdown, "AOI:").value = AOI
    pick(panel, w.Dropdown, "Year:").value = YEAR
    shown = Shown()
    with shown.watched():
        pick(panel, w.ToggleButtons, "Parcel ID").value = 2
    pick(shown.widgets, w.Textarea, "Parcel(s) ID:").value = ", ".join(pids)
    for name in ("Time series", "Chip images"):
        pick(panel, w.ToggleButton, name).value = True
    pick(panel, w.SelectMultiple, "TS type:").value = ("s2", "bs", "c6")
    for name, day in zip(("Start Date", "End Date"), DAYS, strict=True):
        pick(panel, w.DatePicker, name).value = day
    pick(panel, w.SelectMultiple, "Band:").value = BANDS
    pick(panel, w.Button, "Download").click()


def view(pid: str) -> dict:
    """All views of a parcel that was got: information, series, images, map."""
    panel = [view_panel.view()]
    pick(panel, w.Button, "refresh").click()
    selects = [v for v in inside(panel[0]) if type(v) is w.Dropdown]
    for select, value in zip(selects, (AOI, YEAR, pid), strict=True):
        select.value = value
    seen = {}
    for number, name in enumerate(("information", "series", "images", "map"), 1):
        shown = Shown()
        with shown.watched():
            pick(panel, w.ToggleButtons, "General information").value = number
            seen[name] = USE[name](shown)
    return seen


def use_series(shown: Shown) -> list:
    kind = pick(shown.widgets, w.Dropdown, "Select type:")
    for _, value in kind.options:
        kind.value = value
        pick(shown.widgets, w.Button, "Refresh" if shown.figures else "Plot TS").click()
    return shown.figures


def use_images(shown: Shown) -> list:
    bands = pick(shown.widgets, w.Dropdown, "Select band:")
    for name, value in bands.options:
        bands.value = value
        pick(shown.widgets, w.Button, "Refresh" if shown.figures else "Show images").click()
        shown.figures[-1]["name"] = name
    return shown.figures


def use_map(shown: Shown) -> list:
    [chart] = [v for v in shown.widgets if isinstance(v, ipyleaflet.Map)]
    return [type(layer).__name__ for layer in chart.layers]


def use_information(shown: Shown) -> list:
    return [described(figure) for figure in shown.widgets if isinstance(figure, Figure)]


USE = {
    "information": use_information,
    "series": use_series,
    "images": use_images,
    "map": use_map,
}


def show(pid: str) -> dict:
    """What the JRC's example notebook draws with `cbm.show`."""
    series, images = cbm.show.time_series, cbm.show.chip_images
    days = ("2024-04-01", "2024-05-15")
    peers = cbm.get.parcels_list.peers(AOI, YEAR, pid, distance=1000, maxPeers=5)["pids"]
    calls = {
        "parcel": lambda: cbm.show.parcel_info.by_pid(AOI, YEAR, pid, ""),
        "background": lambda: cbm.show.background.by_pid(
            aoi=AOI, year=YEAR, pid=pid, chipsize=64, extend=500.0,
            tms=["google", "bing", "ags", "osm"], ptype=""),
        "true color": lambda: images.grid(AOI, YEAR, pid, *days, "true color", 512, ptype=""),
        "ndvi chips": lambda: images.grid(AOI, YEAR, pid, *days, "ndvi", 512, ptype=""),
        "s2": lambda: series.s2(AOI, YEAR, pid, bands=["B02", "B03", "B04", "B08"]),
        "ndvi": lambda: series.ndvi(AOI, YEAR, pid, ptype=""),
        "bs": lambda: series.s1(AOI, YEAR, pid, "bs", ""),
        "c6": lambda: series.s1(AOI, YEAR, pid, "c6", ""),
        "peers": lambda: series.ndvi(AOI, YEAR, peers, ptype=""),
        "among peers": lambda: series.ndvi(AOI, YEAR, [pid, *peers], ptype="", max_line_plots=1),
        "radar of peers": lambda: series.s1(AOI, YEAR, [pid, *peers], "bs", "", max_line_plots=1),
    }  # fmt: skip
    drawn = {}
    for name, call in calls.items():
        shown = Shown()
        with shown.watched():
            call()
        [drawn[name]] = shown.figures
    return drawn


def main() -> None:
    url, user, password, pid, *others = sys.argv[1:]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        cbm.set_api_account(url, user, password)
        get(others)
        seen = {"view": view(others[0]), "show": show(pid)}
        seen["report"] = cbm.reports.export_to_pdf.with_pdfme(
            AOI, YEAR, pid, "", {"general": "seen"}, folder="."
        )
    seen["output"] = output.getvalue()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
