"""What an odd region should look like: pictures kept at the fit, the bank's sources, differences, picture pairs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import andon
from andon.cli import andon as program
from andon.errors import ArtifactError, DataError, SettingsError
from andon.image import Preprocessing
from andon.models import build
from andon.models.patchcore import PatchCore
from andon.pipeline import FitOptions
from andon.pipeline.keeping import good_members
from andon.runtime.explain_compare import Comparer, Seen
from andon.runtime.explain_difference import (
    UNCLEAR,
    Difference,
    Look,
    against_expected,
    against_good,
    beyond,
    canvas_size,
    look,
    region_mask,
)
from andon.runtime.explain_good import (
    SOURCES,
    Expected,
    GoodPictures,
    bank_row,
    cut,
    encoded,
    on_photo,
    on_tile,
    packed,
    window_of,
)
from andon.runtime.explain_picture import comparison_of, in_ascii, lettering, save_comparison
from andon.runtime.words import LANGUAGES
from andon.types import Region
from fakes import FakeBackbone, good_parts

FAST: dict[str, Any] = {"bank_limit": 400, "buffer_limit": 2000, "size": (64, 96)}
SIZE = Preprocessing((64, 96))
LABEL, SPOT = (slice(24, 44), slice(30, 66)), (slice(46, 62), slice(4, 20))


def part(seed: int, change: str = "") -> NDArray[np.uint8]:
    """A grooved grey part (64, 96) with a checkered label, a little noise and light; the label missing, or a dark spot.

    Below the label there are no grooves, so that what a missing label uncovers is nowhere in good parts; label, grooves
    and what is below are equally light on average. The spot keeps the grooves.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.arange(64)[:, None], np.arange(96)[None]
    plain = 110.0 + 30 * (columns > 48) + 0 * rows
    pixels = plain + 25 * np.sin(2 * np.pi * (rows + columns) / 8)
    pixels[LABEL] = plain[LABEL]
    if change != "missing":
        pixels[LABEL] += 65 * (2 * ((rows // 4 + columns // 4) % 2) - 1)[LABEL]
    if change == "dark":
        pixels[SPOT] -= 80
    noisy = pixels[..., None] * (1 + 0.03 * rng.standard_normal()) + rng.normal(0, 3, (64, 96, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("good")
    for seed in range(32):
        Image.fromarray(part(seed)).save(place / f"{seed:02}.png")
    return place


@pytest.fixture(scope="module")
def keeping(folder: Path) -> andon.Predictor:
    """Fitted on 24 parts, with their pictures; 8 more set the threshold."""
    return andon.fit(folder, backbone=FakeBackbone(), keep_patches=True, **FAST)


@pytest.fixture(scope="module")
def plain(keeping: andon.Predictor) -> andon.Predictor:
    """The same, as it is without pictures."""
    members = {name: data for name, data in keeping.artifact.members.items() if not name.startswith("good")}
    nothing = {"language": None, "pictures": 0, "bytes": 0}
    return andon.Predictor(replace(keeping.artifact.with_manifest(explain=nothing), members=members))


@pytest.fixture(scope="module")
def detector(folder: Path) -> PatchCore:
    """A memory bank of 18 parts."""
    found = PatchCore(backbone=FakeBackbone(), bank_limit=150, buffer_limit=2000)
    for path in sorted(folder.iterdir())[:18]:
        found.observe(torch.from_numpy(SIZE.apply(np.asarray(Image.open(path))).images))
    found.close()
    return found


def region(box: tuple[int, int, int, int]) -> Region:
    top, left, bottom, right = box
    return Region(box, 1, 0.01, 1.0, ((top + bottom) // 2, (left + right) // 2))


# What the fit keeps


def test_a_fit_keeps_nothing_unless_asked_to() -> None:
    assert FitOptions().keep_patches is False
    with pytest.raises(SettingsError, match="kept_bytes must be a whole number of at least 1, got 0"):
        FitOptions(kept_bytes=0)
    with pytest.raises(SettingsError, match="language must be one of de, en, fr, got 'tlh'"):
        FitOptions(language="tlh")


def test_the_manifest_says_what_is_kept(keeping: andon.Predictor) -> None:
    kept = {name: data for name, data in keeping.artifact.members.items() if name.startswith("good")}
    assert keeping.manifest["explain"] == {
        "language": None,
        "pictures": 24,
        "bytes": sum(map(len, kept.values())),
    }
    assert sorted(kept) == [f"good/{number:03}.jpg" for number in range(24)] + [SOURCES]
    assert keeping.good_pictures.pictures[0].shape == (64, 96, 3)


def test_pictures_stay_below_the_bytes_allowed(folder: Path, detector: PatchCore) -> None:
    paths = sorted(folder.iterdir())[:18]
    everything = good_members(detector, paths, SIZE, 1_000_000)
    assert len(everything) == 19
    some = good_members(detector, paths, SIZE, 9000)
    assert 2 < len(some) < 19
    assert sum(len(data) for name, data in some.items() if name != SOURCES) <= 9000
    assert len(good_members(detector, paths, SIZE, 1)) == 2  # one picture at least
    (folder.parent / "broken.png").write_bytes(b"nothing")
    again = good_members(detector, [*paths, folder.parent / "broken.png"], SIZE, 1_000_000)
    assert again == everything


def test_a_saved_artefact_compares_as_before(keeping: andon.Predictor, tmp_path: Path) -> None:
    loaded = andon.load(keeping.save(tmp_path / "part.andon"))
    odd = part(99, "missing")
    assert loaded.inspect(odd).sentence == keeping.inspect(odd).sentence
    recalibrated = keeping.speaking("de").recalibrated(keeping.calibration)
    assert recalibrated.inspect(odd).sentence == keeping.speaking("de").inspect(odd).sentence


def test_the_sources_of_the_bank_are_the_nearest_patches() -> None:
    """Against brute force; a row that was taken from these images is found there at distance 0."""
    torch.manual_seed(0)
    detector = PatchCore(backbone=FakeBackbone(), bank_limit=40, buffer_limit=2000)
    images = good_parts(6, (32, 48))
    detector.observe(images)
    detector.close()
    sources = detector.bank_sources([images[:4], images[4:]])
    patches = detector.patches(images)  # (6, D, 8, 12)
    for row, (batch, image, y, x) in zip(detector.memory_bank, sources.tolist(), strict=True):
        number = int(4 * batch + image)
        found = patches[number, :, int(y * 8), int(x * 12)]
        assert float((found - row).norm()) == pytest.approx(
            float((patches.permute(0, 2, 3, 1).flatten(0, 2) - row).norm(dim=1).min()), abs=1e-5
        )
        assert float((found - row).norm()) < 1e-5
    with pytest.raises(DataError, match="bank_sources needs at least one batch of images"):
        detector.bank_sources([])


def test_a_method_without_a_bank_has_no_sources(folder: Path, keeping: andon.Predictor) -> None:
    padim = build("padim", backbone=FakeBackbone())
    members = good_members(padim, sorted(folder.iterdir())[:18], SIZE, 1_000_000)
    assert SOURCES not in members
    seen = keeping.measure(part(99, "dark")).seen
    assert seen is not None
    found = Comparer(members).expected(replace(seen, nearest=None), region((46, 4, 62, 20)))
    assert found is not None
    assert found.kind == "same_place"


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 3)), np.zeros((4, 2)), np.array([[2.0, 0, 0]]), np.array([[np.nan, 0, 0]])]
)
def test_sources_that_do_not_fit_are_refused(rows: NDArray[np.float64]) -> None:
    members = packed([encoded(Image.new("RGB", (8, 8)), 8)] * 2, rows.astype(np.float32))
    with pytest.raises(ArtifactError, match="good_sources.npy does not fit its 2 pictures of good parts"):
        GoodPictures.of(members)
    with pytest.raises(ArtifactError, match="good_sources.npy cannot be read"):
        GoodPictures.of({**members, SOURCES: b"nothing"})
    with pytest.raises(ArtifactError, match="pictures of good parts cannot be read"):
        GoodPictures.of({"good/000.jpg": b"nothing"})


def test_pictures_are_reduced() -> None:
    data = encoded(Image.new("RGB", (400, 200)), 100)
    assert Image.open(io.BytesIO(data)).size == (100, 50)
    assert Image.open(io.BytesIO(encoded(Image.new("RGB", (40, 20)), 100))).size == (40, 20)


# Places


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "tiles"])
def test_a_place_on_a_tile_and_back(resize: str) -> None:
    preprocessing = Preprocessing((64, 64), resize=resize)  # type: ignore[arg-type]
    prepared = preprocessing.apply(np.zeros((100, 150, 3), np.uint8))
    for place in ((0.1, 0.2), (0.5, 0.5), (0.93, 0.66)):
        tile, inside = on_tile(prepared, place)
        assert all(0 <= share <= 1 for share in inside)
        assert on_photo(prepared, tile, inside) == pytest.approx(place)


def test_the_row_of_the_bank_at_a_place() -> None:
    prepared = Preprocessing((64, 96)).apply(np.zeros((64, 96, 3), np.uint8))
    nearest = np.arange(24).reshape(1, 4, 6)
    assert bank_row(nearest, prepared, (0.0, 0.0)) == 0
    assert bank_row(nearest, prepared, (0.6, 0.5)) == 15
    assert bank_row(nearest, prepared, (1.0, 1.0)) == 23


def test_the_window_holds_the_region_and_stays_inside() -> None:
    for box in ((0, 0, 4, 4), (40, 10, 60, 90), (0, 0, 100, 100), (98, 98, 100, 100)):
        window = window_of(region(box), (100, 100))
        assert 0 <= window[0] <= box[0] / 100
        assert box[2] / 100 <= window[2] <= 1
        assert 0 <= window[1] <= box[1] / 100
        assert box[3] / 100 <= window[3] <= 1
        assert cut(np.zeros((7, 5, 3), np.uint8), window).size


# Differences


def looks(*seeds: int, change: str = "") -> list[Look]:
    return [look(part(seed, change), (64, 96)) for seed in seeds]


LABELLED, SPOTTED = np.zeros((2, 64, 96), bool)
LABELLED[LABEL], SPOTTED[SPOT] = True, True


@pytest.mark.parametrize(
    ("change", "mask", "difference"),
    [
        ("missing", LABELLED, Difference("", "missing")),
        ("dark", SPOTTED, Difference("darker", "")),
        ("", LABELLED, UNCLEAR),
        ("", SPOTTED, UNCLEAR),
        ("missing", SPOTTED, UNCLEAR),  # another place is as it should be
    ],
)
def test_what_differs_from_good_parts(change: str, mask: NDArray[np.bool_], difference: Difference) -> None:
    assert against_good(looks(99, change=change)[0], looks(*range(12)), mask) == difference


def test_an_extra_thing_is_not_called_missing() -> None:
    """Where good parts are plain and this one is not, nothing is guessed: more edges have many causes."""
    found = against_good(looks(99)[0], looks(*range(12), change="missing"), LABELLED)
    assert found.guess == ""


def test_too_few_good_pictures_say_nothing() -> None:
    assert against_good(looks(99, change="missing")[0], looks(*range(7)), LABELLED) == UNCLEAR


@pytest.mark.parametrize(
    ("change", "mask", "guess"),
    [("missing", LABELLED, "missing"), ("dark", SPOTTED, ""), ("", LABELLED, "")],
)
def test_a_reconstruction_is_compared_with_the_rest_of_the_same_photograph(
    change: str, mask: NDArray[np.bool_], guess: str
) -> None:
    (photo,), (rebuilt,) = looks(99, change=change), looks(3)
    part_of_it = np.zeros_like(mask)
    top, left = (int(places.min()) for places in np.nonzero(mask))
    part_of_it[top : top + 8, left : left + 8] = True
    found = against_expected(photo, rebuilt, part_of_it, mask)
    assert found.guess == guess
    assert (found.light == "darker") == (change == "dark")
    assert (
        against_expected(photo, rebuilt, part_of_it, np.ones_like(mask)) == UNCLEAR
    )  # no rest to compare with


@pytest.mark.parametrize("light", [0.9, 1.1])
def test_a_reconstruction_that_is_lighter_or_darker_as_a_whole_hides_and_adds_nothing(light: float) -> None:
    """The same part, without noise: what is compared is what the light leaves."""
    rebuilt = np.clip(light * part(3).astype(np.float64), 0, 255).astype(np.uint8)
    middle = np.zeros_like(LABELLED)
    middle[30:38, 40:48] = True
    for change, difference in (("", UNCLEAR), ("missing", Difference("", "missing"))):
        photo, expected = look(part(3, change), (64, 96)), look(rebuilt, (64, 96))
        assert against_expected(photo, expected, middle, LABELLED) == difference


def test_a_black_reconstruction_has_no_light_to_be_matched() -> None:
    photo, black = look(part(3), (64, 96)), look(np.zeros((64, 96, 3), np.uint8), (64, 96))
    middle = np.zeros_like(LABELLED)
    middle[30:38, 40:48] = True
    assert against_expected(photo, black, middle, LABELLED).guess == ""


def test_beyond_needs_a_share_of_the_range_and_a_least_step() -> None:
    assert [beyond(value, [0.2, 0.4]) for value in (0.159, 0.161, 0.3, 0.439, 0.441)] == [-1, 0, 0, 0, 1]
    assert [beyond(value, [0.3, 0.3]) for value in (0.289, 0.295, 0.311)] == [-1, 0, 1]


def test_the_mask_of_a_region_is_its_component_on_the_canvas() -> None:
    field = np.zeros((16, 24), np.float32)
    field[2:6, 3:9], field[12, 20] = 2.0, 3.0
    size = (352, 528)
    one = replace(region((44, 66, 132, 198)), peak_position=(55, 77))
    mask = region_mask(field, 1.0, one, size)
    assert mask.shape == canvas_size(size) == (117, 176)
    assert mask.mean() == pytest.approx(24 / 384, rel=0.1)
    tiny = replace(one, peak_position=(275, 451))
    assert region_mask(np.full((700, 1000), 0.0), np.full((700, 1000), 1.0), tiny, size).sum() > 0


# What should be there


def test_parts_that_lie_alike_show_the_same_place(keeping: andon.Predictor) -> None:
    found = keeping.expected(part(99, "dark"), region((46, 4, 62, 20)))
    assert found is not None
    assert found.kind == "same_place"
    expected = cut(part(0), window_of(region((46, 4, 62, 20)), (64, 96)))
    assert abs(float(found.pixels.mean()) - float(expected.mean())) < 12


def test_else_the_nearest_patch_of_the_bank_is_shown(keeping: andon.Predictor) -> None:
    """A photograph in which nothing lies where it does in good parts."""
    rng = np.random.default_rng(0)
    strange = rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)
    found = keeping.expected(strange, region((8, 8, 24, 24)))
    assert found is not None
    assert found.kind == "nearest"
    assert found.pixels.shape == cut(part(0), window_of(region((8, 8, 24, 24)), (64, 96))).shape


def test_a_patch_of_a_good_image_leads_back_to_it(keeping: andon.Predictor) -> None:
    """The nearest row of a kept picture's own patch has its source in a place that looks the same."""
    good = keeping.good_pictures
    assert good.sources is not None
    seen = keeping.measure(good.pictures[4]).seen
    assert seen is not None
    assert seen.nearest is not None
    number, row, column = good.sources[bank_row(seen.nearest, seen.prepared, (0.5, 0.5))].tolist()
    place = region((int(64 * row), int(96 * column), int(64 * row) + 1, int(96 * column) + 1))
    there = cut(good.pictures[int(number)], window_of(place, (64, 96)))
    assert abs(float(there.std()) - float(part(4)[26:39, 38:57].std())) < 30


def test_without_pictures_there_is_nothing_to_show(plain: andon.Predictor) -> None:
    assert plain.expected(part(99, "dark"), region((46, 4, 62, 20))) is None


def test_a_reconstruction_is_shown_where_the_method_makes_one(plain: andon.Predictor) -> None:
    prepared = Preprocessing((64, 96)).apply(part(1))
    seen = Seen(part(1), prepared, expected=part(2))
    found = plain.comparer.expected(seen, region((46, 4, 62, 20)))
    assert isinstance(found, Expected)
    assert found.kind == "reconstruction"


# Sentences and pictures


def test_a_missing_label_is_called_missing(keeping: andon.Predictor, plain: andon.Predictor) -> None:
    odd = part(99, "missing")
    assert keeping.inspect(odd).decision == "fail"
    assert keeping.inspect(odd).sentence.endswith("possibly something missing")
    assert "possibly" not in plain.inspect(odd).sentence  # nothing to compare with: no guess
    assert "fehlt" in keeping.speaking("de").inspect(odd).sentence
    assert "manque" in keeping.speaking("fr").inspect(odd).sentence


def test_an_older_artefact_keeps_its_sentences(keeping: andon.Predictor) -> None:
    manifest = {key: value for key, value in keeping.manifest.items() if key != "explain"}
    older = andon.Predictor(replace(keeping.artifact, manifest=manifest))
    assert older.inspect(part(99, "missing")).sentence.endswith(
        ("possibly a stain or a missing part", "possibly dirt or scattered damage")
    )


def test_the_language_chosen_at_the_fit_is_spoken(keeping: andon.Predictor) -> None:
    chosen = andon.Predictor(keeping.artifact.with_manifest(explain={"language": "de"}))
    assert chosen.inspect(part(50)).sentence == "keine Abweichung über dem Schwellenwert"
    with pytest.raises(SettingsError, match="language must be one of de, en, fr, got 'tlh'"):
        keeping.speaking("tlh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_picture_pair(keeping: andon.Predictor, tmp_path: Path, language: str) -> None:
    odd, target = tmp_path / "odd.png", tmp_path / "pair.png"
    Image.fromarray(part(99, "missing")).save(odd)
    speaking = keeping.speaking(language)
    save_comparison(speaking, odd, speaking.inspect(odd), target)
    with Image.open(target) as picture:
        assert picture.width > 2 * 240
        assert picture.height > 200
    Image.fromarray(part(50)).save(odd)
    save_comparison(speaking, odd, speaking.inspect(odd), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_picture_says_where_there_is_nothing_beside(plain: andon.Predictor, tmp_path: Path) -> None:
    odd = tmp_path / "odd.png"
    Image.fromarray(part(99, "missing")).save(odd)
    picture = comparison_of(plain, odd, plain.inspect(odd))
    assert picture is not None
    blank = (picture == 228).all(axis=2)
    assert blank.mean() > 0.2


def test_letters_that_are_not_there_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_ascii("„größer“, à vérifier\u00a0: ça") == '"groesser", a verifier : ca'
    lettering.cache_clear()
    monkeypatch.setattr("andon.runtime.explain_picture.FONTS", ())
    assert lettering().shown("Öl") == "Oel"
    lettering.cache_clear()


# The command


@pytest.fixture(scope="module")
def files(keeping: andon.Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    keeping.save(place / "part.andon")
    Image.fromarray(part(99, "missing")).save(place / "odd.png")
    Image.fromarray(part(50)).save(place / "fine.png")
    return place


@pytest.fixture
def inspect(files: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(*options: str, **environment: str) -> str:
        for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.delenv(name, raising=False)
        paths = [str(files / name) for name in ("part.andon", "odd.png", "fine.png")]
        return CliRunner().invoke(program, ["inspect", *paths, *options], env=environment).output

    return run


def test_inspect_speaks_the_language_asked_for(inspect: Callable[..., str]) -> None:
    assert "FAIL " in inspect()
    german = inspect("--language", "de")
    assert "NIO    " in german
    assert "2 Bilder: 1 IO, 0 zu prüfen, 1 NIO, 0 nicht prüfbar" in german
    assert "2 images\u00a0: 1 OK" in inspect(LANG="fr_FR.UTF-8")
    assert "NIO" not in inspect("--language", "en", LANG="de_DE.UTF-8")
    assert "1 pass" in inspect(LC_ALL="C", LANG="de_DE.UTF-8")


def test_headings_follow_only_a_language_that_was_asked_for(
    inspect: Callable[..., str], tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    inspect("--csv", str(table), LANG="de_DE.UTF-8")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["decision"] == "fail"
    assert "Abweichung" in rows[0]["sentence"]
    inspect("--csv", str(table), "--language", "de")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["Entscheidung"] == "NIO"
    assert rows[1]["Entscheidung"] == "IO"
    lines = [
        line
        for line in inspect("--jsonl", "-", "-q", "--language", "de").splitlines()
        if line.startswith("{")
    ]
    assert json.loads(lines[0])["decision"] == "fail"


def test_explain_writes_a_picture_for_what_did_not_pass(inspect: Callable[..., str], tmp_path: Path) -> None:
    inspect("--explain", str(tmp_path / "why"), "-q")
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["odd.png"]
