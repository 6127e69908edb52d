"""What a calibration promises, in another language than the English in which the detector's file says it.

The file keeps one sentence, made of a few parts between semicolons. Each part is known by its English text in the
section ``promise`` of the words, and said by the same key of the other language; a part that is not known stays English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from andon.app.words import words_of
from andon.runtime.words import DEFAULT, Words, counted, decimal

_IMAGES = r"([\d,]+) good images?"
_PERCENT = r"([\d.]+) %"
_SHARE = re.compile(rf"{_PERCENT} \(([\d,]+) of ([\d,]+); {_PERCENT} to {_PERCENT}\)")
_COUNTS = ("images", "needed")  # the placeholders that stand for a count of images


def promise(statement: str, words: Words) -> str:
    """``statement``, as :attr:`Calibration.statement` has it, in the language of ``words``.

    >>> promise("at most 1.0 % false alarms with 95 % confidence, from 299 good images", words_of("de"))
    'höchstens 1,0 % Fehlalarme mit 95 % Sicherheit, aus 299 guten Bildern'
    """
    if words["language.code"] == DEFAULT:
        return statement
    said: list[str] = []
    rest = statement
    while rest:
        text, rest = _first(rest, words)
        said.append(text)
    return words["promise.join"].join(said)


def _first(text: str, words: Words) -> tuple[str, str]:
    """The first part of ``text`` in the language of ``words``, and the parts behind it."""
    for key, pattern in _patterns().items():
        if found := pattern.match(text):
            values = {name: _value(name, value, words) for name, value in found.groupdict().items()}
            return words[key].format(**values), text[found.end() :]
    unknown, _, rest = text.partition("; ")
    return unknown, rest


def _value(name: str, text: str, words: Words) -> str:
    """A number, a share with its interval, or a count of images (``name``: images or needed), as the language writes it."""
    if found := re.fullmatch(_IMAGES, text):
        return counted(words, f"promise.{name}", int(found[1].replace(",", "")))
    if found := _SHARE.fullmatch(text):
        share, count, total, low, high = found.groups()
        ends = {"share": _percent(share, words), "low": _percent(low, words), "high": _percent(high, words)}
        return words["calibrate.share"].format(count=count, total=total, **ends)
    if found := re.fullmatch(_PERCENT, text):
        return _percent(found[1], words)
    return decimal(words, text)


def _percent(number: str, words: Words) -> str:
    return words["share.percent"].format(percent=decimal(words, number))


@lru_cache(maxsize=1)
def _patterns() -> Mapping[str, re.Pattern[str]]:
    """The key of each part and its English text; those with more text first, since others may be their beginning."""
    english = {
        key: text
        for key, text in words_of(DEFAULT).items()
        if key.startswith("promise.") and key != "promise.join" and not key.endswith(("_one", "_other"))
    }
    longest_first = sorted(english.items(), key=lambda entry: -len(entry[1]))
    return {
        key: re.compile(re.sub(r"\\\{(\w+)\\\}", _group, re.escape(text)) + r"(?:; |$)")
        for key, text in longest_first
    }


def _group(placeholder: re.Match[str]) -> str:
    """The group that takes what stands in the place of ``placeholder``."""
    name = placeholder[1]
    return f"(?P<{name}>{_IMAGES.replace('(', '(?:') if name in _COUNTS else '.+?'})"
