"""Regions and words: boxes that hold what they say, and sentences a worker can act on."""

from __future__ import annotations

import dataclasses
import math
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from andon.calibrate import calibrate, calibrate_with_defects, uncalibrated
from andon.errors import ImageError, SettingsError
from andon.runtime.explain import ENGLISH, MOST, describe, find_regions
from andon.runtime.explain_difference import NO_DIFFERENCE, UNCLEAR, Difference
from andon.runtime.words import LANGUAGES, words_of
from andon.types import Calibration, Region

CALIBRATION = calibrate(np.linspace(0.0, 1.0, 101))  # threshold 1.0, median 0.5
SIZE = (300, 300)


def blank(h: int = 60, w: int = 60) -> NDArray[np.float32]:
    return np.zeros((h, w), np.float32)


def block(
    rows: slice, columns: slice, value: float = 5.0, shape: tuple[int, int] = (60, 60)
) -> NDArray[np.float32]:
    field = blank(*shape)
    field[rows, columns] = value
    return field


def say(
    field: NDArray[np.float32], score: float | None = None, calibration: Calibration = CALIBRATION
) -> str:
    """The sentence for a failing image with this map."""
    regions = find_regions(field, 1.0, SIZE)
    return describe("fail", regions, SIZE, float(field.max()) if score is None else score, calibration)


# Regions


@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(0, 2, width=16)),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_regions_are_what_brute_force_finds(field: NDArray[np.float32], size: tuple[int, int]) -> None:
    """On any map and any size of photograph: the components of scipy, inside the image, strongest first."""
    regions = find_regions(field, 1.0, size, min_area=0.0, most=1000)
    labels, count = ndimage.label(field > 1.0, structure=np.ones((3, 3)))
    h, w = field.shape
    expected = []
    for rows, columns in (np.nonzero(labels == number) for number in range(1, count + 1)):
        box = (rows.min() * size[0] // h, columns.min() * size[1] // w,
               -(-(rows.max() + 1) * size[0] // h), -(-(columns.max() + 1) * size[1] // w))  # fmt: skip
        expected.append((float(field[rows, columns].max()), len(rows) / field.size, tuple(map(int, box))))
    assert sorted((region.peak, region.area_fraction, region.box) for region in regions) == sorted(expected)
    assert [region.peak for region in regions] == sorted((region.peak for region in regions), reverse=True)
    for region in regions:
        top, left, bottom, right = region.box
        assert 0 <= top < bottom <= size[0]
        assert 0 <= left < right <= size[1]
        assert top <= region.peak_position[0] < bottom
        assert left <= region.peak_position[1] < right
        assert region.area == max(1, round(region.area_fraction * size[0] * size[1]))
        assert region.elongation >= 1.0


def test_a_region_is_scaled_to_the_photograph() -> None:
    field = block(slice(2, 4), slice(5, 8), 2.0, (10, 20))
    field[3, 6] = 7.0
    assert find_regions(field, 1.0, (1000, 1000)) == (
        Region((200, 250, 400, 400), 30_000, 0.03, 7.0, (350, 325), pytest.approx(4 / 3)),
    )


def test_area_and_box_hold_at_the_photographs_own_size() -> None:
    """Against a threshold on the enlarged map, pixel by pixel."""
    field = (np.random.default_rng(0).random((16, 24)) > 0.7).astype(np.float32) * 3
    regions = find_regions(field, 1.0, (80, 120), min_area=0, most=1000)
    large = field.repeat(5, axis=0).repeat(5, axis=1) > 1.0
    found = measure.regionprops(measure.label(large, connectivity=2))
    assert sorted((r.area, r.box) for r in regions) == sorted((int(p.area), p.bbox) for p in found)


@pytest.mark.parametrize("seed", range(3))
def test_elongation_is_the_ratio_of_the_ellipses_axes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :80] - 40.0
    angle, long, short = rng.uniform(0, math.pi), rng.uniform(20, 35), rng.uniform(5, 15)
    u, v = y * math.cos(angle) + x * math.sin(angle), x * math.cos(angle) - y * math.sin(angle)
    field = np.where((u / long) ** 2 + (v / short) ** 2 <= 1, 2.0, 0.0)
    (region,) = find_regions(field, 1.0, (80, 80))
    assert region.elongation == pytest.approx(long / short, rel=0.05)
    small, large = np.linalg.eigvalsh(np.cov(np.stack(np.nonzero(field)), bias=True) + np.eye(2) / 12)
    assert region.elongation == pytest.approx(math.sqrt(large / small), rel=1e-9)
    (reference,) = measure.regionprops((field > 1).astype(int))  # takes pixels for points
    expected = reference.axis_major_length / reference.axis_minor_length
    assert region.elongation == pytest.approx(expected, rel=0.01)


def test_elongation_is_that_of_the_photograph_not_of_the_map() -> None:
    (region,) = find_regions(block(slice(20, 30), slice(20, 30)), 1.0, (60, 600))
    assert region.elongation == pytest.approx(10.0)


def test_small_regions_are_left_out_but_never_the_strongest() -> None:
    field = blank()
    field[5, 5], field[30:40, 30:40], field[50, 50] = 9.0, 5.0, 3.0
    assert [region.peak for region in find_regions(field, 1.0, SIZE, min_area=0.001)] == [9.0, 5.0]
    assert [region.peak for region in find_regions(field, 1.0, SIZE, min_area=0.0)] == [9.0, 5.0, 3.0]
    assert [region.peak for region in find_regions(field, 1.0, SIZE, min_area=1.0)] == [9.0]


def test_at_most_so_many_regions() -> None:
    field = blank()
    field[::4, ::4] = 2.0 + np.arange(225).reshape(15, 15)
    regions = find_regions(field, 1.0, SIZE)
    assert [region.peak for region in regions] == [226.0 - rank for rank in range(MOST)]
    assert len(find_regions(field, 1.0, SIZE, most=3)) == 3


def test_the_threshold_itself_is_no_region_and_no_threshold_gives_none() -> None:
    assert find_regions(block(slice(0, 9), slice(0, 9), 1.0), 1.0, SIZE) == ()
    assert find_regions(block(slice(0, 9), slice(0, 9)), math.nan, SIZE) == ()
    assert find_regions(blank(), 1.0, SIZE) == ()


def test_a_threshold_between_two_float32_values_divides_them() -> None:
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    field = np.array([[low, high]], np.float32)
    assert find_regions(field, float(low) + 0.75 * float(high - low), (1, 2))[0].area == 1


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ImageError, match=re.escape("anomaly_map: expected shape (h, w), got (1, 1, 4, 4)")):
        find_regions(np.zeros((1, 1, 4, 4)), 1.0, SIZE)
    with pytest.raises(ImageError, match="anomaly_map: expected finite values"):
        find_regions(np.array([[math.nan]]), 1.0, SIZE)
    with pytest.raises(SettingsError, match=re.escape("size: expected (H, W) of the photograph, got (0, 5)")):
        find_regions(blank(), 1.0, (0, 5))
    with pytest.raises(SettingsError, match="min_area: expected a share of the image, 0 to 1, got 50"):
        find_regions(blank(), 1.0, SIZE, min_area=50)
    with pytest.raises(SettingsError, match="most: expected at least 1 region, got 0"):
        find_regions(blank(), 1.0, SIZE, most=0)


# Words


def test_a_scratch() -> None:
    assert say(block(slice(8, 10), slice(42, 56))) == (
        "strong deviation in the upper right, 0.8 % of the image, long and thin: possibly a scratch"
    )


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 135])
def test_a_thin_line_is_long_and_thin_at_any_angle(angle: float) -> None:
    y, x = np.mgrid[:60, :60] - 30.0
    u = y * math.sin(math.radians(angle)) + x * math.cos(math.radians(angle))
    v = y * math.cos(math.radians(angle)) - x * math.sin(math.radians(angle))
    field = np.where((np.abs(u) < 15) & (np.abs(v) < 1.2), 2.0, 0.0).astype(np.float32)
    assert "long and thin: possibly a scratch" in say(field)


def test_a_stain_a_large_area_and_everything() -> None:
    assert say(block(slice(28, 33), slice(28, 33))) == (
        "strong deviation in the centre, 0.7 % of the image, compact: possibly a stain or a missing part"
    )
    assert say(block(slice(40, 60), slice(0, 20))) == (
        "strong deviation in the lower left, 11 % of the image, a large area: possibly a stain or a missing part"
    )
    assert say(block(slice(0, 60), slice(0, 55))) == (
        "strong deviation across the whole image, 92 % of it: possibly a shifted part or changed light"
    )


def test_several_spots() -> None:
    field = blank()
    for row, column in ((5, 5), (30, 30), (50, 10)):
        field[row : row + 3, column : column + 3] = 4.0
    field[51, 11] = 8.0
    assert say(field) == (
        "strong deviation, strongest in the lower left, 0.8 % of the image, several spots (3): "
        "possibly dirt or scattered damage"
    )
    field[::4, ::4] = 4.0
    assert "several spots (10 or more)" in say(field)


def test_one_region_far_larger_than_the_rest_is_spoken_of_alone() -> None:
    field = block(slice(30, 50), slice(30, 50))
    field[5, 5] = 6.0
    assert say(field).startswith("strong deviation in the lower right, 11 % of the image, a large area")
    field[0:13, 0:13] = 4.0  # 169 pixels beside 400: the larger has 70 %
    assert "several spots (2)" in say(field)


@pytest.mark.parametrize(
    ("row", "column", "place"),
    [
        (0, 0, "in the upper left"), (0, 1, "in the upper middle"), (0, 2, "in the upper right"),
        (1, 0, "on the left"), (1, 1, "in the centre"), (1, 2, "on the right"),
        (2, 0, "in the lower left"), (2, 1, "in the lower middle"), (2, 2, "in the lower right"),
    ],
)  # fmt: skip
def test_the_nine_places(row: int, column: int, place: str) -> None:
    field = block(slice(20 * row + 8, 20 * row + 12), slice(20 * column + 8, 20 * column + 12))
    assert f"deviation {place}, " in say(field)


@pytest.mark.parametrize(
    ("rows", "columns", "place"),
    [
        (slice(5, 50), slice(0, 4), "along the left edge"), (slice(5, 50), slice(56, 60), "along the right edge"),
        (slice(0, 4), slice(5, 50), "along the upper edge"), (slice(56, 60), slice(5, 50), "along the lower edge"),
        (slice(5, 50), slice(4, 8), "on the left"),  # near the edge, not at it
    ],
)  # fmt: skip
def test_the_four_edges(rows: slice, columns: slice, place: str) -> None:
    assert f"deviation {place}, " in say(block(rows, columns))


@pytest.mark.parametrize(("score", "strength"), [(1.01, "slight"), (1.12, "slight"), (1.13, "clear"), (1.49, "clear"), (1.51, "strong")])  # fmt: skip
def test_strength_is_the_excess_in_steps_from_the_median_to_the_threshold(
    score: float, strength: str
) -> None:
    assert say(block(slice(0, 9), slice(0, 9)), score).startswith(f"{strength} deviation")


def test_strength_with_a_threshold_among_the_good_parts() -> None:
    calibration = calibrate_with_defects(np.arange(10.0), [1.5, 20.0], required_tpr=1.0)
    assert calibration.threshold == 1.25
    field = block(slice(0, 9), slice(0, 9))
    assert say(field, 2.0, calibration).startswith("slight")
    assert say(field, 30.0, calibration).startswith("strong")


def test_tiny_and_rounded_shares() -> None:
    regions = find_regions(block(slice(5, 6), slice(5, 6), 5.0, (100, 100)), 1.0, SIZE)
    assert "less than 0.1 % of the image" in describe("fail", regions, SIZE, 5.0, CALIBRATION)
    regions = find_regions(block(slice(0, 10), slice(0, 10), 5.0, (100, 100)), 1.0, SIZE)
    assert "1.0 % of the image" in describe("fail", regions, SIZE, 5.0, CALIBRATION)


def test_what_is_said_when_nothing_fails() -> None:
    regions = find_regions(block(slice(8, 10), slice(50, 54)), 1.0, SIZE)
    assert describe("pass", (), SIZE, 0.1, CALIBRATION) == "no deviation above the threshold"
    assert describe("pass", regions, SIZE, 0.1, CALIBRATION) == "no deviation above the threshold"
    assert describe("review", (), SIZE, 0.99, CALIBRATION) == "close to the threshold; a person should look"
    assert describe("review", regions, SIZE, 0.99, CALIBRATION) == (
        "close to the threshold; a person should look, first in the upper right"
    )
    assert (
        describe("review", regions, SIZE, 9.0, uncalibrated()) == "no threshold: calibrate with good images"
    )


def test_a_failing_image_without_a_region_says_so() -> None:
    assert describe("fail", (), SIZE, 1.2, CALIBRATION) == (
        "clear deviation, but no single place stands out; a person should look"
    )


def test_another_language_is_another_table() -> None:
    """Every word comes from the table: with all entries shouted, the sentence has no small letter."""
    shouted = {key: text if "{" in text else text.upper() for key, text in ENGLISH.items()}
    shouted["sentence.fail"] = "{shape}/{share}/{place}/{strength}"
    shouted["sentence.guessed"] = "{guess}/{finding}"
    sentence = describe(
        "fail",
        find_regions(block(slice(0, 9), slice(0, 9)), 1.0, SIZE),
        SIZE,
        5.0,
        CALIBRATION,
        words=shouted,
    )
    assert sentence == "POSSIBLY A STAIN OR A MISSING PART/COMPACT/2.2 %/IN THE UPPER LEFT/STRONG"


@given(
    arrays(np.float32, (8, 8), elements=st.sampled_from([0.0, 2.0])),
    st.sampled_from(["pass", "review", "fail"]),
    st.floats(0, 10),
)
def test_every_map_has_a_whole_sentence(field: NDArray[np.float32], decision: str, score: float) -> None:
    regions = find_regions(field, 1.0, (64, 48))
    sentence = describe(decision, regions, (64, 48), score, CALIBRATION)  # type: ignore[arg-type]
    assert sentence
    assert not set(sentence) & {"{", "}"}
    assert "  " not in sentence
    assert sentence[0] in string.ascii_lowercase
    assert "\n" not in sentence


def test_a_region_has_an_elongation_of_one_unless_told() -> None:
    assert {entry.name: entry.default for entry in dataclasses.fields(Region)}["elongation"] == 1.0


# Differences from good parts


FAILING = find_regions(block(slice(28, 33), slice(28, 33)), 1.0, SIZE)


@pytest.mark.parametrize(
    ("difference", "end"),
    [
        (NO_DIFFERENCE, "compact: possibly a stain or a missing part"),
        (UNCLEAR, "compact"),
        (Difference("darker"), "compact, darker than in good parts"),
        (
            Difference("brighter", "missing"),
            "compact, brighter than in good parts: possibly something missing",
        ),
        (Difference("", "missing"), "compact: possibly something missing"),
    ],
)
def test_what_a_comparison_found_takes_the_place_of_a_guess(difference: Difference, end: str) -> None:
    sentence = describe("fail", FAILING, SIZE, 5.0, CALIBRATION, difference=difference)
    assert sentence == f"strong deviation in the centre, 0.7 % of the image, {end}"


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("de", "starke Abweichung in der Bildmitte, 0,7 % der Bildfläche, kompakt, dunkler als bei Gutteilen: "
               "möglicherweise fehlt etwas"),
        ("fr", "écart important au centre, 0,7 % de l’image, forme compacte, plus sombre que sur les pièces "
               "conformes : il manque peut-être quelque chose"),
    ],
)  # fmt: skip
def test_sentences_in_other_languages(language: str, sentence: str) -> None:
    found = describe("fail", FAILING, SIZE, 5.0, CALIBRATION, words=words_of(language),
                     difference=Difference("darker", "missing"))  # fmt: skip
    assert found.replace("\u00a0", " ") == sentence


@pytest.mark.parametrize("language", LANGUAGES)
@given(
    arrays(np.float32, (8, 8), elements=st.sampled_from([0.0, 2.0])),
    st.sampled_from(["pass", "review", "fail"]),
    st.sampled_from([NO_DIFFERENCE, UNCLEAR, Difference("darker"), Difference("brighter", "missing")]),
)
def test_every_language_has_a_whole_sentence(
    language: str, field: NDArray[np.float32], decision: str, difference: Difference
) -> None:
    regions = find_regions(field, 1.0, (64, 48))
    sentence = describe(decision, regions, (64, 48), 9.0, CALIBRATION, words=words_of(language),  # type: ignore[arg-type]
                        difference=difference)  # fmt: skip
    assert sentence
    assert not set(sentence) & {"{", "}"}
    assert "  " not in sentence
    assert sentence[0].islower()
