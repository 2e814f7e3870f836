"""Sphinx settings of the guide: Markdown in, pages out that load nothing from other sites."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "CbM appliance"
author = "the CbM appliance's developers"
release = version = installed("cbm-appliance")
extensions = ["myst_parser", "sphinx_design"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "README.md"]
nitpicky = True
# READMEs are included and link to files of the repository: tests/unit/test_guide.py checks.
suppress_warnings = ["myst.xref_missing"]
html_theme = "pydata_sphinx_theme"
html_title = "CbM appliance"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "use_edit_page_button": False,
}
copyright = "the CbM appliance's developers, BSD-3-Clause"  # noqa: A001 - Sphinx' own name
# Pages of other sites are checked by `make guide-links`, where the internet is reached.
linkcheck_anchors = False
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1|api\.example).*"]


def setup(app):
    """Write the generated pages before Sphinx looks for pages."""
    from generated import write_pages  # noqa: PLC0415 - beside this file, known from here on

    app.connect("config-inited", lambda _app, _config: write_pages(HERE / "generated"))
