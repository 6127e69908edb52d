"""Zones of codes: what moves with the print is left out, and nothing else ever is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from numpy.typing import NDArray
from PIL import Image

import andon
from andon.nuisance import Treated, Zone, ZonePlan, read_zones, write_zones
from andon.nuisance.fill import filled
from andon.nuisance.moving import CodeLimits, codes_inside, find_moving, learn_limits
from andon.pipeline import recalibrate
from andon.pipeline.ignoring import fit_plan, prints_into
from fakes import FakeBackbone

SIZE = (128, 192)
FAST = {"bank_limit": 200, "buffer_limit": 2000, "size": (64, 96)}
ZONE = Zone.box("label", (0, 0, 1, 1), codes=("datamatrix",), around=(0.3, 0.3, 0.3, 0.3))
LIMITS = CodeLimits(1, 0.02, 0.04, 1.0)
Pixels = NDArray[np.uint8]


def plain(seed: int) -> Pixels:
    """A striped part with noise."""
    rng = np.random.default_rng(seed)
    pixels = (120 + 40 * np.sin(np.arange(SIZE[1]) / 6))[None, :, None] + rng.normal(0, 5, (*SIZE, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def put(pixels: Pixels, digits: int, top: int, left: int, module: int = 2) -> Pixels:
    """The photograph with a Data Matrix of these digits, 24 pixels wide at 2 a module, on a label 12 pixels wider."""
    code = zxingcpp.create_barcode(f"{digits:08}", zxingcpp.BarcodeFormat.DataMatrix)
    ink = np.asarray(code.to_image(scale=module, add_quiet_zones=False)).reshape(12 * module, 12 * module)
    label = np.pad(np.where(ink > 127, 235, 20).astype(np.uint8), 3 * module, constant_values=235)
    changed = pixels.copy()
    changed[top : top + len(label), left : left + len(label)] = label[..., None]
    return changed


def part(seed: int, *, spot: tuple[int, int] | None = None) -> Pixels:
    """A part with a label of its own somewhere, and a dark spot where asked."""
    top, left = (int(v) for v in np.random.default_rng([seed, 1]).integers(4, (SIZE[0] - 44, SIZE[1] - 44)))
    pixels = put(plain(seed), 1000 + seed, top, left)
    if spot is not None:
        pixels[spot[0] - 8 : spot[0] + 8, spot[1] - 8 : spot[1] + 8] = 5
    return pixels


def everywhere() -> NDArray[np.bool_]:
    return np.ones(SIZE, bool)


# --- one photograph


def test_the_zone_is_the_code_and_what_is_around_it() -> None:
    found = find_moving(put(plain(0), 7, 40, 60), everywhere(), ZONE, LIMITS)
    ((top, left, bottom, right),) = found.boxes
    assert np.allclose((top, left, bottom, right), (46 - 7, 66 - 7, 70 + 7, 90 + 7), atol=2)
    assert found.mask.sum() == pytest.approx((bottom - top) * (right - left), rel=0.1)
    assert found.doubt == ""


@pytest.mark.parametrize(
    ("pixels", "doubt"),
    [
        (plain(0), "no code can be read"),
        (put(put(plain(0), 7, 10, 10), 8, 60, 100), "2 codes where good parts have 1 at most"),
        (put(plain(0), 7, 10, 10, module=4), "a code of another size than on good parts"),
    ],
)
def test_what_is_not_as_on_good_parts_leaves_nothing_out(pixels: Pixels, doubt: str) -> None:
    found = find_moving(pixels, everywhere(), ZONE, LIMITS)
    assert found.doubt == f"zone 'label': {doubt}; all of it was inspected"
    assert not found.mask.any()
    assert found.boxes == ()


def test_a_code_beyond_the_declared_area_is_inspected() -> None:
    area = everywhere()
    area[:, 80:] = False
    assert codes_inside(put(plain(0), 7, 40, 60), area, ZONE) == []  # lies across its border
    found = find_moving(put(plain(0), 7, 40, 44), area, ZONE, LIMITS)
    assert found.mask.any()
    assert not found.mask[:, 80:].any()  # what is around it is cut off there


def test_limits_are_learnt_from_good_photographs() -> None:
    limits = learn_limits(ZONE, [(part(seed), everywhere()) for seed in range(10)])
    assert (limits.most, limits.read) == (1, 1.0)
    assert limits.smallest == pytest.approx(24 * 24 / (SIZE[0] * SIZE[1]), rel=0.15)
    assert CodeLimits.from_dict(limits.to_dict()) == limits
    with pytest.raises(
        andon.SettingsError, match=r"a code \(datamatrix\) can be read in 8 of 10 good images; at least 90%"
    ):
        learn_limits(ZONE, [(part(s) if s < 8 else plain(s), everywhere()) for s in range(10)])
    wide = replace(ZONE, around=(2.0, 2.0, 2.0, 2.0))
    with pytest.raises(
        andon.SettingsError, match=r"take up \d\d% of a good image; at most 25% .* Make 'around' smaller"
    ):
        learn_limits(wide, [(put(plain(0), 7, 46, 78), everywhere())])


def test_fill_is_smooth_and_touches_nothing_else() -> None:
    slope = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 80, 3)).copy()
    mask = np.zeros((64, 80), bool)
    mask[20:40, 30:60] = True
    spoiled = slope.copy()
    spoiled[mask] = 255
    done = filled(spoiled, mask)
    assert np.array_equal(done[~mask], slope[~mask])
    assert np.abs(done[mask].astype(int) - slope[mask]).mean() < 8
    assert (filled(spoiled, np.ones_like(mask)) == 128).all()
    assert filled(spoiled, np.zeros_like(mask)) is spoiled


# --- files and refusals


def test_a_zone_of_codes_survives_its_file(tmp_path: Path) -> None:
    usual = replace(ZONE, name="usual", around=None, treatment="looser", rate=0.01)
    assert read_zones(write_zones(tmp_path / "zones.json", (ZONE, usual))) == (ZONE, usual)
    assert usual.reach == (0.1, 0.1, 0.1, 0.1)
    kept = Treated(ZONE, "surroundings", codes=LIMITS)
    assert Treated.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    with pytest.raises(andon.SettingsError, match="belongs to a zone of codes, and to no other"):
        Treated.from_dict(Treated(ZONE, "surroundings").to_dict())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"codes": ["text"]}, "'codes' must be some of qr, datamatrix, aztec, barcode, got ['text']"),
        ({"codes": []}, "'codes' must be some of qr, datamatrix, aztec, barcode, got []"),
        ({"codes": "qr"}, "'codes' must be a list, got 'qr'"),
        ({"codes": ["qr"], "around": [0.1, 0.1]}, "'around' must be four numbers from 0 to 10"),
        ({"codes": ["qr"], "around": [0, 0, 0, -1]}, "'around' must be four numbers from 0 to 10"),
        ({"around": [0, 0, 0, 0]}, "'codes' must be some of"),
    ],
)
def test_a_wrong_zone_of_codes_is_refused(entry: dict[str, object], message: str) -> None:
    with pytest.raises(andon.SettingsError) as error:
        Zone.from_dict({"name": "label", "box": [0, 0, 1, 1], **entry})
    assert message in str(error.value)


def test_prints_are_not_drawn_where_codes_may_lie_anywhere() -> None:
    with pytest.raises(andon.SettingsError, match="'label' is one of codes, which lie anywhere in it"):
        prints_into((ZONE,), andon.image.Preprocessing((64, 96)), [])


# --- the whole way


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(20):
        Image.fromarray(part(number)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def covered(good: Path) -> andon.Predictor:
    return andon.fit(good, backbone=FakeBackbone(), ignore=(ZONE,), **FAST)


def test_new_labels_at_new_places_pass_and_the_note_says_where(covered: andon.Predictor) -> None:
    verdicts = [covered.inspect(part(seed)) for seed in range(50, 58)]
    assert sum(verdict.decision == "pass" for verdict in verdicts) >= 6  # of 8, by a threshold from 5 images
    for verdict in verdicts:
        assert 0.04 < verdict.not_inspected < 0.1
        assert any(note.startswith("zone 'label': not inspected within [") for note in verdict.notes)
        assert verdict.sentence.endswith("of the image is not inspected")
    german = covered.speaking("de").inspect(part(50))
    assert any(note.startswith("Zone 'label': nicht geprüft in [") for note in german.notes)


def test_the_print_itself_never_reaches_the_network(covered: andon.Predictor) -> None:
    scores = {covered.inspect(put(plain(1), digits, 40, 60)).image_score for digits in range(5)}
    assert len(scores) == 1


def test_a_defect_beside_the_label_fails(covered: andon.Predictor) -> None:
    pixels = put(plain(1), 5, 40, 60)
    pixels[84:100, 70:86] = 5
    verdict = covered.inspect(pixels)
    assert verdict.decision == "fail"
    assert verdict.regions[0].box[2] > 84


def test_a_label_that_cannot_be_read_is_never_passed(covered: andon.Predictor) -> None:
    """A stain over the code, a second label, and no label at all: for a person at least, and with the reason."""
    stained = put(plain(1), 5, 40, 60)
    stained[50:66, 70:86] = 5
    twice = put(put(plain(1), 5, 10, 10), 6, 60, 120)
    for pixels, reason in ((stained, "no code can be read"), (twice, "2 codes where"), (plain(1), "no code")):
        verdict = covered.inspect(pixels)
        assert verdict.decision in ("review", "fail")
        assert verdict.not_inspected == 0
        assert any(reason in note for note in verdict.notes)
    assert verdict.decision == "review"
    assert verdict.sentence == "zone 'label': no code can be read; all of it was inspected"


def test_unread_good_images_set_no_threshold(good: Path, covered: andon.Predictor, tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(plain(number) if number == 0 else part(70 + number)).save(tmp_path / f"{number}.png")
    done = recalibrate(covered, tmp_path)
    assert len(done.nominal) == 7
    assert done.skipped == [["0.png", "zone 'label': no code can be read; all of it was inspected"]]


def test_the_artefact_keeps_zone_and_limits(covered: andon.Predictor, tmp_path: Path) -> None:
    loaded = andon.load(covered.save(tmp_path / "part.andon"))
    assert loaded.zone_plan == covered.zone_plan
    assert covered.zone_plan is not None
    words = covered.zone_plan.treated[0].described()
    assert words.startswith("datamatrix codes wherever in it (at most 1 of ")
    assert words.endswith("not inspected; its pixels are covered with what surrounds them")


def test_given_later_and_with_a_threshold_of_its_own(covered: andon.Predictor, tmp_path: Path) -> None:
    plain_fit = andon.Predictor(covered.artifact.with_manifest(nuisance={}))
    assert plain_fit.zone_plan is None
    for number in range(10):
        Image.fromarray(part(200 + number)).save(tmp_path / f"{number}.png")
    later = recalibrate(plain_fit, tmp_path, ignore=(ZONE,)).predictor
    assert later.zone_plan is not None
    assert (later.zone_plan.treated[0].given, later.zone_plan.treated[0].codes is None) == ("later", False)
    assert later.inspect(part(300)).not_inspected > 0.02
    looser = recalibrate(plain_fit, tmp_path, ignore=(replace(ZONE, treatment="looser"),)).predictor
    measured = looser.measure(part(300))
    assert set(measured.zone_peaks) == {"label"}
    assert looser.inspect(part(300)).not_inspected == 0


def test_without_the_extra_the_line_says_so(
    covered: andon.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(andon.MissingExtraError, match=r'pip install "andon\[nuisance\]"'):
        covered.inspect(part(50))
    with pytest.raises(andon.MissingExtraError, match="reading printed codes needs the package 'zxing-cpp'"):
        andon.Predictor(covered.artifact, check=False)


def test_a_plan_at_the_fit_leaves_unread_images_out(good: Path) -> None:
    plan = fit_plan((ZONE,), sorted(good.iterdir()), 65535)
    assert plan is not None
    assert isinstance(plan, ZonePlan)
    with pytest.raises(andon.ImageError, match="no code can be read"):
        plan.cover(plain(0))
