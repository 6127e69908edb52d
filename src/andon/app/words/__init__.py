"""The app's texts: a folder a language, a file a page; together with those of :mod:`andon.runtime.words`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from andon.errors import SettingsError
from andon.runtime.words import LANGUAGES, Words, read_words
from andon.runtime.words import words_of as runtime_words_of

_FOLDER = Path(__file__).parent


@lru_cache(maxsize=len(LANGUAGES))
def words_of(language: str) -> Words:
    """The table of ``language``: the runtime's texts and the app's. Raises :class:`SettingsError`.

    >>> words_of("de")["inspect.title"], words_of("de")["decision.pass"]
    ('Prüfen', 'IO')
    """
    texts = dict(runtime_words_of(language))
    for file in sorted((_FOLDER / language).glob("*.toml")):
        for key, text in read_words(file).items():
            if key in texts:
                raise SettingsError(
                    f"{file}: another file has the text {key} already; choose another section"
                )
            texts[key] = text
    return MappingProxyType(texts)
