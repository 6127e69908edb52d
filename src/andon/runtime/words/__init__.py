"""The words that a worker reads of a verdict: one TOML file a language, all with the same keys.

A table of words is flat: ``words["place.upper_left"]``. Texts are completed with ``str.format``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from andon.calibrate import percent as share_text
from andon.errors import SettingsError
from andon.metrics import wilson

Words = Mapping[str, str]  # "section.key" -> text

_FOLDER = Path(__file__).parent
LANGUAGES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
DEFAULT = "en"


@lru_cache(maxsize=len(LANGUAGES))
def words_of(language: str) -> Words:
    """The table of ``language``, a code of :data:`LANGUAGES`. Raises :class:`SettingsError`.

    >>> words_of("de")["place.upper_left"]
    'oben links'
    """
    if language not in LANGUAGES:
        raise SettingsError(f"language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    return MappingProxyType(read_words(_FOLDER / f"{language}.toml"))


def read_words(path: Path) -> dict[str, str]:
    """The texts of one TOML file by "section.key"; a list becomes its entries with spaces between."""
    sections = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        f"{section}.{key}": " ".join(map(str, text)) if isinstance(text, list) else text
        for section, entries in sections.items()
        for key, text in entries.items()
    }


def language_of(locale: str) -> str | None:
    """The language, of those there are, that a POSIX locale name asks for; None where it asks for another.

    >>> language_of("de_AT.UTF-8"), language_of("fr"), language_of("C.UTF-8"), language_of("")
    ('de', 'fr', None, None)
    """
    code = re.split(r"[_.@-]", locale, maxsplit=1)[0].lower()
    return code if code in LANGUAGES else None


def counted(words: Words, key: str, count: int) -> str:
    """``count`` with its noun in the right number: the texts ``<key>_one`` and ``<key>_other``.

    >>> counted(words_of("fr"), "summary.images", 0), counted(words_of("en"), "summary.images", 0)
    ('0 image', '0 images')
    """
    number = "one" if str(count) in words["language.singular"].split() else "other"
    return words[f"{key}_{number}"].format(count=count)


def decimal(words: Words, number: str) -> str:
    """``number``, as Python writes it, with the language's decimal mark.

    >>> decimal(words_of("de"), "0.8")
    '0,8'
    """
    return number.replace(".", words["language.decimal"])


def whole(words: Words, number: int) -> str:
    """A count with the language's mark between thousands.

    >>> whole(words_of("de"), 12000)
    '12.000'
    """
    return f"{number:,}".replace(",", words["language.thousands"])


def percent(words: Words, share: float) -> str:
    """``share``, 0 to 1, in per cent: two digits that count, at least one decimal.

    >>> percent(words_of("de"), 0.06), percent(words_of("en"), 0.00123)
    ('6,0 %', '0.12 %')
    """
    return words["share.percent"].format(percent=decimal(words, share_text(share).removesuffix(" %")))


def rated(words: Words, key: str, count: int, total: int) -> str:
    """The text ``key`` with {count} of {total}, their {share}, and the ends of its 95 % interval (Wilson), {low} and {high}.

    >>> rated(words_of("en"), "summary.rate", 12, 200)
    '; 6.0 % fail, 95 % interval 3.5 % to 10.2 %'
    """
    low, high = wilson(count, total)
    shares = {"share": count / total, "low": low, "high": high}
    shown = {name: percent(words, share) for name, share in shares.items()}
    return words[key].format(count=whole(words, count), total=whole(words, total), **shown)


def retold(note: str, words: Words) -> str:
    """An English note of :attr:`andon.image.Photo.notes` in another language; as it is where none is known.

    >>> retold("multi-page TIFF: the first of 3 pages", words_of("de"))
    'mehrseitiges TIFF: die erste von 3 Seiten'
    """
    for key, pattern in _note_patterns().items():
        if found := pattern.fullmatch(note):
            return words[key].format(**found.groupdict())
    return note


@lru_cache(maxsize=1)
def _note_patterns() -> Mapping[str, re.Pattern[str]]:
    english = words_of(DEFAULT)
    return {
        key: re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(text)))
        for key, text in english.items()
        if key.startswith("note.")
    }
