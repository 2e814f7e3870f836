"""XML files whose faults are named: which file, which element, what is wrong with it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from store.errors import UNREADABLE_XML, SceneError

MAX_BYTES = 200 * 2**20
"""The largest real one, a day of precise orbits, has 5 MB; without a bound a file fills memory."""


@dataclass(frozen=True)
class XmlNode:
    """An element of an XML file, namespaces left aside.

    Attributes:
        path: the file, for messages.
        element: the parsed element.
    """

    path: Path
    element: ElementTree.Element

    def nodes(self, where: str) -> list["XmlNode"]:
        """All elements at a path such as a/b/c."""
        return [XmlNode(self.path, element) for element in self.element.iterfind(where)]

    def node(self, where: str) -> "XmlNode":
        """The first element at a path.

        Raises:
            SceneError: there is none.
        """
        element = self.element.find(where)
        if element is None:
            raise SceneError(f"{self.path}: no element {where} in {self.element.tag}")
        return XmlNode(self.path, element)

    def has(self, where: str) -> bool:
        """Whether there is an element at a path."""
        return self.element.find(where) is not None

    def text(self, where: str = ".") -> str:
        """The text of the element at a path, '' if it is empty.

        Raises:
            SceneError: there is no such element.
        """
        return (self.node(where).element.text or "").strip()

    def number(self, where: str = ".") -> float:
        """The finite number at a path.

        Raises:
            SceneError: there is none.
        """
        text = self.text(where)
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise SceneError(f"{self.path}: {where} is {text[:40]!r}, not a number")
        return value

    def count(self, where: str) -> int:
        """The whole number above 0 at a path.

        Raises:
            SceneError: there is none.
        """
        value = self.number(where)
        if value != int(value) or value < 1:
            raise SceneError(f"{self.path}: {where} is {value:g}, not a number of things")
        return int(value)

    def numbers(self, where: str) -> npt.NDArray[np.float64]:
        """The finite numbers at a path, separated by spaces.

        Raises:
            SceneError: there is no such element, it holds something else, or fewer or more than
                its attribute `count` says.
        """
        node = self.node(where)
        words = (node.element.text or "").split()
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError as error:
            raise SceneError(f"{self.path}: {where} holds no list of numbers: {error}") from None
        stated = node.element.get("count")
        if not values.size or not np.isfinite(values).all():
            raise SceneError(f"{self.path}: {where} holds no list of numbers")
        if stated is not None and stated != str(values.size):
            raise SceneError(f"{self.path}: {where} states {stated} numbers, has {values.size}")
        return values

    def time(self, where: str) -> datetime:
        """The UTC time at a path, with or without the prefix UTC= of orbit files.

        Raises:
            SceneError: there is none.
        """
        text = self.text(where).removeprefix("UTC=").removesuffix("Z")
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            raise SceneError(f"{self.path}: {where} is {text[:40]!r}, not a time") from None


def read(path: Path) -> XmlNode:
    """Parse a file.

    Raises:
        SceneError: it is missing, empty, too large or no XML.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise SceneError(f"{path}: {size} bytes are no XML file of a product")
        return parse(path, path.read_bytes())
    except OSError as error:
        raise SceneError(f"{path}: cannot be read: {error.strerror}") from error


def parse(path: Path, content: bytes) -> XmlNode:
    """Parse what was read of a file.

    Raises:
        SceneError: it is no XML.
    """
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 -- expat bounds entity expansion
    except UNREADABLE_XML as error:
        raise SceneError(f"{path}: not readable XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return XmlNode(path, root)
