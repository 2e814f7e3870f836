"""The login page, filled in."""

import html
import re
from urllib.parse import quote

from app.pages.site import BuiltPages

_PAGES = re.compile(r"/(?:status|docs)?(?:\?[\x21-\x7e]*)?")
"""Addresses that a login may go on to."""


def render_login(pages: BuiltPages, onward: str, message: str) -> bytes:
    """The login page, with a message about a failed login.

    Raises:
        NotFoundError: the pages are not built.
    """
    note = f'<p class="note wrong" role="alert">{html.escape(message)}</p>' if message else ""
    text = pages.text("login.html").replace("<!-- message -->", note)
    return text.replace("<!-- next -->", html.escape(safe_onward(onward))).encode()


def safe_onward(address: str) -> str:
    """The address if it is a page of this service, else the parcel page."""
    return quote(address, safe="/?=&%+.:~-_") if _PAGES.fullmatch(address) else "/"
