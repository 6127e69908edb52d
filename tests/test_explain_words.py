"""The language files: one set of keys, equal placeholders, plurals, notes in every language."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon.errors import SettingsError
from andon.image import decode
from andon.report.rows import COLUMNS
from andon.runtime import words as package
from andon.runtime.words import LANGUAGES, counted, decimal, language_of, retold, words_of

ENGLISH = words_of("en")
OTHERS = [language for language in LANGUAGES if language != "en"]


def fields(text: str) -> list[str]:
    """The placeholders of ``text``, sorted."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def test_three_languages() -> None:
    assert LANGUAGES == ("de", "en", "fr")
    with pytest.raises(SettingsError, match="language must be one of de, en, fr, got 'xx'"):
        words_of("xx")


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_the_same_keys_and_placeholders(language: str) -> None:
    words = words_of(language)
    assert list(words) == list(ENGLISH)  # in the same order, too: files that can be read side by side
    assert {key for key in words if fields(words[key]) != fields(ENGLISH[key])} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_clean(language: str) -> None:
    for key, text in words_of(language).items():
        assert text == text.strip(" "), key
        assert text, key
        assert "  " not in text, key
        assert text.isprintable() or "\u00a0" in text, key


@pytest.mark.parametrize("language", OTHERS)
def test_nothing_is_left_in_english(language: str) -> None:
    """What reads alike in both is a word of both."""
    words = words_of(language)
    alike = {
        key
        for key in words
        if words[key] == ENGLISH[key] and re.search(r"[a-z]", re.sub(r"{\w+}", "", words[key]))
    }
    assert alike <= {"column.score", "drawing.image", "summary.images_one", "summary.images_other"}


def test_french_sets_a_hard_space_before_its_signs() -> None:
    for key, text in words_of("fr").items():
        assert not re.search(r"(?<!\u00a0)[;%»]|(?<![\u00a0])(?<!\{):", text), key


@pytest.mark.parametrize(
    ("language", "none", "one", "two"),
    [("en", "0 images", "1 image", "2 images"), ("de", "0 Bilder", "1 Bild", "2 Bilder"), ("fr", "0 image", "1 image", "2 images")],
)  # fmt: skip
def test_plurals(language: str, none: str, one: str, two: str) -> None:
    words = words_of(language)
    assert [counted(words, "summary.images", count) for count in (0, 1, 2)] == [none, one, two]


def test_decimals() -> None:
    assert [decimal(words_of(language), "12.5") for language in ("de", "en", "fr")] == [
        "12,5",
        "12.5",
        "12,5",
    ]


@pytest.mark.parametrize(
    ("locale", "language"),
    [("de_DE.UTF-8", "de"), ("de-CH", "de"), ("FR_ca", "fr"), ("en_GB", "en"), ("C", None), ("POSIX", None), ("", None),
     ("es_ES", None), ("de@euro", "de")],
)  # fmt: skip
def test_the_language_of_a_locale(locale: str, language: str | None) -> None:
    assert language_of(locale) == language


def test_the_columns_are_those_of_the_table() -> None:
    assert [key.removeprefix("column.") for key in ENGLISH if key.startswith("column.")] == list(COLUMNS)
    assert all(ENGLISH[f"column.{name}"] == name for name in COLUMNS)  # programs read the English ones


def noted(folder: Path) -> Iterator[str]:
    """Notes that photographs really get."""
    grey = np.linspace(0, 60000, 64, dtype=np.uint16).reshape(8, 8)
    pages = [Image.fromarray(np.zeros((8, 8), np.uint8))] * 3
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    yield from decode(folder / "a.tif").notes
    Image.new("RGB", (8, 8)).save(folder / "b.png", "JPEG")
    yield from decode(folder / "b.png").notes
    Image.new("RGBA", (8, 8)).save(folder / "c.png")
    yield from decode(folder / "c.png").notes
    Image.new("P", (8, 8)).save(folder / "d.png")
    yield from decode(folder / "d.png").notes
    Image.new("CMYK", (8, 8)).save(folder / "e.jpg")
    yield from decode(folder / "e.jpg").notes
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 200)]
    frames[0].save(folder / "f.gif", save_all=True, append_images=frames[1:])
    yield from decode(folder / "f.gif").notes
    turned = Image.new("RGB", (8, 8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "g.jpg", exif=exif)
    yield from decode(folder / "g.jpg").notes
    yield from decode(grey, white_level=4095).notes
    yield from decode((grey // 16).astype(np.uint16)).notes
    yield from decode(np.ones((8, 8), np.float32)).notes


def test_notes_are_retold_in_every_language(tmp_path: Path) -> None:
    notes = list(noted(tmp_path))
    assert len(notes) >= 10
    for note in notes:
        assert retold(note, ENGLISH) == note
        for language in OTHERS:
            assert retold(note, words_of(language)) != note, note


def test_an_unknown_note_stays_as_it_is() -> None:
    assert retold("seen by moonlight", words_of("de")) == "seen by moonlight"
    assert retold("zone 'lot number': 5.2 against its own threshold 4", words_of("de")) == (
        "Zone 'lot number': 5.2 bei einem eigenen Schwellenwert von 4"
    )


def test_the_files_are_shipped() -> None:
    settings = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"runtime/words/*.toml"' in settings
    assert {path.stem for path in Path(package.__file__).parent.glob("*.toml")} == set(LANGUAGES)
