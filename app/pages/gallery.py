"""HTML pages of images as the JRC's: a table, nothing to load from elsewhere."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLUMNS = 8

_STYLE = (
    "body{font:14px sans-serif;margin:1em}td{padding:4px;text-align:center}"
    "img{image-rendering:pixelated;min-width:128px;background:#ddd}"
)
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; img-src 'self'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
)
"""Content security policy of these pages: images from this service, and nothing else."""


@dataclass(frozen=True)
class GalleryImage:
    """An image on a page.

    Attributes:
        label: below it.
        address: host-relative.
    """

    label: str
    address: str


def render(title: str, images: Sequence[GalleryImage], attribution: str) -> bytes:
    """An HTML page with a table of up to eight images in a row."""
    rows = [images[first : first + _COLUMNS] for first in range(0, len(images), _COLUMNS)]
    table = "".join(f"<tr>{''.join(_cell(image) for image in row)}</tr>" for row in rows)
    text = f"<table>{table}</table>" if images else "<p>No image shows this place.</p>"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{text}"
        f"<p>{escape(attribution)}</p></body></html>"
    ).encode()


def _cell(image: GalleryImage) -> str:
    address, label = escape(image.address), escape(image.label)
    return f'<td><img src="{address}" alt="{label}"><br>{label}</td>'
