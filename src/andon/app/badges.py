"""A verdict in word, colour and shape, so that none of the three is needed: circle, triangle, octagon.

The colours (Okabe and Ito 2008, "Color universal design") differ for every kind of colour blindness and in grey.
"""

from __future__ import annotations

import base64
from html import escape

from andon.runtime.words import Words
from andon.types import Decision

SIGNS: dict[Decision, str] = {"pass": "✓", "review": "?", "fail": "✕"}
_COLOURS: dict[Decision, tuple[str, str]] = {  # ground, and what is written on it
    "pass": ("#00795a", "#ffffff"),
    "review": ("#f0c000", "#1a1a1a"),
    "fail": ("#b03a00", "#ffffff"),
}
_SHAPES: dict[Decision, str] = {  # of 100 x 100
    "pass": '<circle cx="50" cy="50" r="48"/>',
    "review": '<polygon points="50,3 99,95 1,95"/>',
    "fail": '<polygon points="30,2 70,2 98,30 98,70 70,98 30,98 2,70 2,30"/>',
}
_MARKS: dict[Decision, str] = {
    "pass": '<polyline points="26,52 44,70 76,32"/>',
    "review": '<path d="M50 38 v24"/><path d="M50 76 v2"/>',
    "fail": '<path d="M32 32 L68 68"/><path d="M68 32 L32 68"/>',
}


def short(decision: Decision, words: Words) -> str:
    """Sign and word, for tables and lists.

    >>> from andon.runtime.words import words_of
    >>> short("fail", words_of("en"))
    '✕ FAIL'
    """
    return f"{SIGNS[decision]} {words[f'decision.{decision}']}"


def drawing(decision: Decision) -> str:
    """The verdict's shape as SVG."""
    ground, ink = _COLOURS[decision]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'
        f'<g fill="{ground}">{_SHAPES[decision]}</g>'
        f'<g fill="none" stroke="{ink}" stroke-width="11" stroke-linecap="round">{_MARKS[decision]}</g></svg>'
    )


def shape(decision: Decision, pixels: int) -> str:
    """HTML of the verdict's shape, so many pixels high; as a picture, since Streamlit takes SVG out of HTML."""
    data = base64.b64encode(drawing(decision).encode()).decode()
    return f'<img alt="" width="{pixels}" height="{pixels}" src="data:image/svg+xml;base64,{data}">'


def banner(decision: Decision, words: Words, score: str, sentence: str) -> str:
    """HTML of the verdict as it is read from two metres away: shape, word, score and the sentence."""
    ground = _COLOURS[decision][0]
    return (
        f'<div role="status" style="display:flex;align-items:center;gap:1.2rem;padding:.8rem 1rem;'
        f'border-left:.6rem solid {ground};background:color-mix(in srgb, {ground} 10%, transparent)">'
        f"{shape(decision, 76)}<div>"
        f'<div style="font-size:2.6rem;font-weight:800;line-height:1.1">{escape(words[f"decision.{decision}"])}</div>'
        f'<div style="font-size:1.15rem">{escape(sentence)}</div>'
        f'<div style="opacity:.75">{escape(score)}</div></div></div>'
    )


def tag(decision: Decision, words: Words) -> str:
    """HTML of the verdict in one line of a card."""
    return (
        f'<span style="display:inline-flex;align-items:center;gap:.4rem;font-weight:700">{shape(decision, 22)}'
        f"{escape(words[f'decision.{decision}'])}</span>"
    )


def plain(text: str) -> str:
    """``text``, such as a file's name, with nothing in it that Markdown would take for more than text.

    >>> plain("a_b.png")
    'a\\\\_b\\\\.png'
    """
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|<>~$:" else c for c in text)
