"""What a calibration promises is said in each language, whichever of its sentences it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from andon.app.promises import promise
from andon.app.words import words_of
from andon.calibrate import calibrate, calibrate_extrapolated, calibrate_with_defects, uncalibrated
from andon.runtime.words import LANGUAGES

GOOD = np.random.default_rng(0).normal(size=200).tolist()
BAD = np.random.default_rng(1).normal(3.0, size=50).tolist()
STATEMENTS = {
    "sure": calibrate(range(299)).statement,
    "average": calibrate(range(200)).statement,
    "held": calibrate(range(15)).statement,
    "one": calibrate([1.0]).statement,
    "tail": calibrate_extrapolated(GOOD, target_rate=0.001).statement,
    "defects": calibrate_with_defects(GOOD, BAD).statement,
    "costs": calibrate_with_defects(GOOD, BAD, criterion="cost", cost_review=0.1, defect_rate=0.02).statement,
    "none": uncalibrated().statement,
}  # fmt: skip
ENGLISH = re.compile(r"\b(the|at most|false alarms|needed|good|defects|from|of)\b")


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
@pytest.mark.parametrize("kind", STATEMENTS)
def test_nothing_of_it_stays_english(kind: str, language: str) -> None:
    said = promise(STATEMENTS[kind], words_of(language))
    assert not ENGLISH.search(said), said
    assert digits(said) == digits(STATEMENTS[kind])


def digits(text: str) -> str:
    """All digits of a text, sorted: no number was lost on the way."""
    return "".join(sorted(filter(str.isdecimal, text)))


def test_it_reads_as_a_person_writes() -> None:
    assert promise(STATEMENTS["held"], words_of("de")) == (
        "aus 15 guten Bildern lassen sich mit 95 % Sicherheit höchstens 18,1 % Fehlalarme zusagen; "
        "für 1,0 % braucht es 299 gute Bilder"
    )
    assert promise(STATEMENTS["sure"], words_of("en")) == STATEMENTS["sure"]
    assert promise("said by a later version; good and defective scores overlap", words_of("de")) == (
        "said by a later version; die Werte guter und fehlerhafter Teile überschneiden sich"
    )
