"""XML documents as ESA's annotations are written, from nested dictionaries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from standalone.synthetic.radar.projection import Floats, Ints


@dataclass(frozen=True)
class Items:
    """A list element: its children have one name, and its attribute `count` says how many.

    Attributes:
        name: of each child.
        contents: of the children.
    """

    name: str
    contents: Sequence["Content"]


@dataclass(frozen=True)
class Attributed:
    """An element with attributes.

    Attributes:
        content: of the element.
        attributes: by name.
    """

    content: "Content"
    attributes: Mapping[str, str]


Scalar = str | int | float | bool | datetime
Content = (
    Scalar
    | Floats
    | Ints
    | Items
    | Attributed
    | Mapping[str, "Content"]
    | list[tuple[str, "Content"]]
    | None
)
"""Text, a number, a time, an array (blank-separated, with `count`), children, or nothing.

Children are a mapping, or a list of (name, content) where names occur more than once.
"""


def write(path: Path, name: str, content: Content) -> None:
    """Write a document whose root has a name and content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = ET.ElementTree(element(name, content))
    ET.indent(tree)
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def element(name: str, content: Content) -> ET.Element:
    """An element with its content."""
    node = ET.Element(name)
    if isinstance(content, Attributed):
        node = element(name, content.content)
        node.attrib.update(content.attributes)
    elif isinstance(content, Mapping | list):
        pairs = content.items() if isinstance(content, Mapping) else content
        node.extend(element(child, inner) for child, inner in pairs)
    elif isinstance(content, Items):
        node.set("count", str(len(content.contents)))
        node.extend(element(content.name, inner) for inner in content.contents)
    elif isinstance(content, np.ndarray):
        node.set("count", str(content.size))
        node.text = _join(content)
    elif content is not None:
        node.text = _text(content)
    return node


def _join(array: Floats | Ints) -> str:
    if np.issubdtype(array.dtype, np.integer):
        return " ".join(map(str, array.tolist()))
    return " ".join(f"{v:.15e}" for v in array.tolist())


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%f}"
    if isinstance(value, float):
        return f"{value:.15e}"
    return str(value)
