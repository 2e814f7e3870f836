"""A Level-1 product's XML documents, and their elements as paths."""

import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET


def documents(archive: Path) -> dict[str, ET.Element]:
    """XML documents of a zipped real product, by kind, of VV."""
    kinds = {"calibration-s1": "calibration", "noise-s1": "noise", "s1": "product"}
    roots = {}
    with zipfile.ZipFile(archive) as zipped:
        for name in zipped.namelist():
            file = name.rsplit("/", 1)[-1]
            for start, kind in kinds.items():
                if file.startswith(start) and file.endswith(".xml") and "-vv-" in file:
                    roots[kind] = ET.fromstring(zipped.read(name))
                    break
            if file == "manifest.safe":
                roots["manifest"] = ET.fromstring(zipped.read(name))
    return roots


def paths(root: ET.Element, above: str = "") -> set[str]:
    """Every element and attribute of a document as a path."""
    here = f"{above}/{root.tag}"
    own = {here, *(f"{here}@{name}" for name in root.attrib)}
    return own.union(*(paths(child, here) for child in root))
