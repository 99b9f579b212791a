"""HTML and SVG whose text cannot be anything but text: elements escape what is not markup already."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element; children that are no ``Markup`` are escaped, and so are all values of attributes.

    A trailing underscore of an attribute's name is dropped, other underscores become hyphens; None and False leave the
    attribute out, True gives it without a value.

    >>> element("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    given = "".join(
        f" {_name(name)}" if value is True else f' {_name(name)}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{tag}{given}>{joined(children)}</{tag}>")


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name != "viewBox" else name


def joined(children: Iterable[Any]) -> Markup:
    """Children one after the other, escaped where they are no markup; None is left out."""
    return Markup(
        "".join(c if isinstance(c, Markup) else html.escape(str(c), quote=False) for c in children if c is not None)
    )


def embedded_json(document: Any) -> Markup:
    """JSON for the inside of a script element, which no text in it can end."""
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
