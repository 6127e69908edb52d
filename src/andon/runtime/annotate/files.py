"""What the formats share: contents by file name, numbers and XML as text."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element, SubElement

Files = dict[str, bytes]  # path relative to the output folder, with / -> content


def number(value: float, digits: int = 2) -> float | int:
    """``value`` as JSON and XML shall show it: whole where it is whole, else rounded.

    >>> number(3.0), number(3.14159)
    (3, 3.14)
    """
    rounded = round(float(value), digits)
    return int(rounded) if rounded == int(rounded) else rounded


def child(parent: Element, tag: str, text: object = "", **attributes: object) -> Element:
    """A new element inside ``parent``."""
    element = SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})
    if text != "":
        element.text = str(text)
    return element


def xml_bytes(root: Element) -> bytes:
    """The file of an XML tree, indented, UTF-8."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
