"""Values for JSON and CSV: nothing that is not finite, no formula, no invalid text."""

from __future__ import annotations

import json
import math

import pytest

from andon.cells import csv_cell, finite


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_none(value: float) -> None:
    assert finite(value) is None


def test_finite_numbers_are_plain_floats() -> None:
    assert json.dumps(finite(3)) == "3.0"


@pytest.mark.parametrize("text", ["=A1", "+1", "-1", "@sum", "\tx", "\rx"])
def test_a_formula_becomes_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


def test_a_name_of_invalid_bytes_can_be_written() -> None:
    name = b"part-\xff.png".decode("utf-8", "surrogateescape")
    written = csv_cell(name)
    assert written == "part-\\udcff.png"
    assert isinstance(written, str)
    assert written.encode("utf-8")


def test_numbers_and_plain_text_stay() -> None:
    assert (csv_cell("a=b"), csv_cell(-2.5), csv_cell(None)) == ("a=b", -2.5, None)
