"""Numbers on the axes of a drawing as the page's language writes them."""

from __future__ import annotations

from typing import Any

from andon.runtime.words import Words


def spoken(spec: dict[str, Any], words: Words) -> dict[str, Any]:
    """A Vega-Lite ``spec`` with the decimal mark and the thousands of the language of ``words``."""
    number = {
        "decimal": words["language.decimal"],
        "thousands": words["language.thousands"],
        "grouping": [3],
        "currency": ["", ""],
    }
    return {**spec, "config": {"locale": {"number": number}}}
