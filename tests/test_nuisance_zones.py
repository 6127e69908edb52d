"""Zones to ignore: their geometry, their files, what they do to a photograph and its map, and the whole way through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_cdt, maximum_filter, uniform_filter

import andon
from andon.calibrate import calibrate
from andon.cli.nuisance import command as nuisance
from andon.cli.show import command as show
from andon.data.augment import Augmentation
from andon.data.prints import Prints
from andon.image import Preprocessing
from andon.nuisance import (
    Treated,
    Zone,
    ZonePlan,
    check_zones,
    draw_zones,
    drawn_on,
    read_zones,
    write_zones,
    zones_of_mask,
)
from andon.nuisance.align import Aligner
from andon.nuisance.halo import measure_reach, peaks_beyond
from andon.nuisance.overlay import INK
from andon.nuisance.plan import distance_steps, grown, mean_colours
from andon.nuisance.stored import ALIGNMENT, stored_plan
from andon.nuisance.zones import polygon_mask
from andon.pipeline import recalibrate
from andon.pipeline.fitting import loader
from andon.pipeline.ignoring import fit_plan, prints_into
from fakes import FakeBackbone

SIZE = (64, 96)
BOX = (8, 12, 28, 40)  # of the print, in pixels
FAST = {"bank_limit": 200, "buffer_limit": 2000}
LABEL = Zone.box("label", BOX, size=SIZE)
Pixels = NDArray[np.uint8]


def bars(seed: int, width: int) -> Pixels:
    """Black and white bars, (1, width, 3)."""
    black = np.random.default_rng([seed, 1]).random(width) > 0.5
    return np.where(black, 10, 240).astype(np.uint8)[None, :, None].repeat(3, 2)


def part(seed: int, *, printed: int | None = None, spot: tuple[int, int] | None = None) -> Pixels:
    """A striped part with noise, bars printed in the box by a seed of their own, and a dark spot where asked."""
    rng = np.random.default_rng(seed)
    pixels = (120 + 40 * np.sin(np.arange(SIZE[1]) / 4))[None, :, None] + rng.normal(0, 6, (*SIZE, 3))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    top, left, bottom, right = BOX
    pixels[top:bottom, left:right] = bars(seed if printed is None else printed, right - left)
    if spot is not None:
        pixels[spot[0] - 6 : spot[0] + 6, spot[1] - 6 : spot[1] + 6] = 5
    return pixels


# --- geometry


def inside(corners: Sequence[tuple[float, float]], row: float, column: float) -> bool:
    """Even-odd rule for one point, the slow way."""
    odd = False
    for (r0, c0), (r1, c1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (r0 > row) != (r1 > row) and column < c0 + (row - r0) * (c1 - c0) / (r1 - r0):
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(5))
def test_a_polygon_holds_the_pixels_whose_centre_it_encloses(seed: int) -> None:
    corners = [tuple(point) for point in np.random.default_rng(seed).uniform(-3, 15, (6, 2)).tolist()]
    expected = [[inside(corners, row + 0.5, column + 0.5) for column in range(13)] for row in range(11)]
    assert polygon_mask(corners, (11, 13)).tolist() == expected


def test_a_box_in_pixels_is_exact_and_scales() -> None:
    mask = LABEL.mask(SIZE)
    assert mask[8:28, 12:40].all()
    assert mask.sum() == 20 * 28
    assert LABEL.mask((128, 192)).sum() == 4 * 20 * 28
    assert LABEL.mask((32, 48))[4:14, 6:20].all()


def test_grown_and_distance_against_scipy() -> None:
    mask = np.random.default_rng(0).random((17, 23)) > 0.97
    assert mask.any()
    for reach in (1, 3, 40):
        assert np.array_equal(grown(mask, reach), maximum_filter(mask, 2 * reach + 1, mode="constant"))
    assert np.array_equal(distance_steps(mask), distance_transform_cdt(~mask, "chessboard"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "a zone's name must be a printable text of 1 to 80 characters, got ''"),
        ({"corners": ()}, "zone 'z' needs a polygon, a box or cells, and only one of them"),
        ({"corners": ((0, 0), (1, 1))}, "zone 'z': a polygon has at least three corners"),
        ({"corners": ((0, 0), (0, 1), (0, 0.5))}, "zone 'z' is empty"),
        ({"corners": ((100, 100), (100, 200), (300, 200))}, "zone 'z' lies outside the photograph"),
        ({"treatment": "stricter"}, "zone 'z': treatment must be 'ignore' or 'looser', got 'stricter'"),
        ({"rate": 0.1}, "zone 'z' has a rate, which only the treatment 'looser' takes"),
    ],
)
def test_a_zone_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(andon.SettingsError, match="^" + message.replace("(", r"\(")):
        Zone(**{"name": "z", "corners": LABEL.corners, **arguments})  # type: ignore[arg-type]


# --- files


def test_zones_survive_their_file(tmp_path: Path) -> None:
    looser = Zone.polygon("lot", [(0.5, 0.1), (0.5, 0.4), (0.9, 0.4)], treatment="looser", rate=0.001)
    zones = (LABEL, looser, *zones_of_mask(np.eye(4, dtype=bool)))
    assert read_zones(write_zones(tmp_path / "zones.json", zones)) == zones


def test_a_file_in_pixels(tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    content = {"format": "andon-zones", "schema": 1, "units": "pixels", "size": list(SIZE),
               "zones": [{"name": "label", "box": list(BOX)}]}  # fmt: skip
    path.write_text(json.dumps(content))
    assert read_zones(path) == (LABEL,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, 'expected a JSON object with "format": "andon-zones"'),
        ({"schema": 2}, "schema 2 is not known; this version reads schema 1"),
        ({"zones": []}, '"zones" must be a list of 1 to 100 zones'),
        ({"zone": []}, "unknown entries"),
        ({"units": "mm"}, '"units" must be "pixels" or "fractions", got \'mm\''),
        ({"units": "pixels"}, 'places in pixels need the "size"'),
        ({"zones": [{"name": "a", "box": [0, 0, 1]}]}, "zone 'a': a box is"),
        ({"zones": [{"name": "a", "box": [0, 0, 1, "x"]}]}, "zone 'a': box cannot be read"),
        (
            {"zones": [{"name": "a", "circle": []}]},
            "zone 'a': expected a name, one of box, polygon and cells",
        ),
        ({"zones": [{"name": "a", "cells": {"size": [2, 2], "counts": [1, 1]}}]}, "run lengths of 2 pixels"),
        ({"zones": [{"name": "a", "box": [0, 0, 1, 1]}] * 2}, "1 names are used twice: a"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = {"format": "andon-zones", "schema": 1, "zones": [{"name": "a", "box": [0, 0, 1, 1]}], **change}
    path = tmp_path / "zones.json"
    path.write_text(json.dumps(content))
    with pytest.raises(andon.AndonError) as error:
        for zone in read_zones(path):
            zone.mask((2, 2))
    assert message in str(error.value)


def test_a_painted_mask(tmp_path: Path) -> None:
    painted = np.zeros((32, 48), np.uint8)
    painted[2:8, 3:9], painted[20:30, 30:40] = 255, 1
    Image.fromarray(painted).save(tmp_path / "mask.png")
    zones = read_zones(tmp_path / "mask.png")
    assert [zone.name for zone in zones] == ["mask 1", "mask 2"]
    union = zones[0].mask((64, 96)) | zones[1].mask((64, 96))
    assert np.array_equal(union, (painted > 0).repeat(2, 0).repeat(2, 1))
    Image.fromarray(painted * 0).save(tmp_path / "empty.png")
    with pytest.raises(andon.DataError, match="the mask has 0 separate areas; expected 1 to 100"):
        read_zones(tmp_path / "empty.png")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(andon.DataError, match=r"there is no file .*zones.json with zones"):
        read_zones(tmp_path / "zones.json")


@pytest.mark.parametrize(
    ("zones", "drawn", "message"),
    [
        ((LABEL,), (1200, 1600), r"drawn on a photograph of 1200 x 1600 pixels .*, these have 64 x 96: another shape"),
        ((Zone.box("tiny", (0.5, 0.5, 0.501, 0.501)),), None, "zone 'tiny' holds no pixel of a photograph of 64 x 96"),
        ((Zone.box("all", (0, 0, 1, 1)),), None, "take up 100% of the photograph .*: at most 90% can be ignored"),
    ],
)  # fmt: skip
def test_zones_that_do_not_suit_the_photographs(zones: tuple[Zone, ...], drawn: tuple[int, int] | None,
                                                message: str) -> None:  # fmt: skip
    with pytest.raises(andon.DataError, match=message):
        check_zones(zones, SIZE, drawn)
    check_zones((LABEL,), SIZE, (640, 960))
    looser = Zone.box("all", (0, 0, 1, 1), treatment="looser")
    check_zones((looser,), SIZE)


def test_files_say_on_what_they_were_drawn(good: Path, tmp_path: Path) -> None:
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "mask.png")
    assert drawn_on(tmp_path / "mask.png") == (32, 32)
    assert drawn_on(write_zones(tmp_path / "zones.json", (LABEL,))) is None
    for keyword in ("ignore", "print_into"):
        with pytest.raises(andon.DataError, match="drawn on a photograph of 32 x 32 pixels"):
            andon.fit(good, size=SIZE, backbone=FakeBackbone(), **{keyword: tmp_path / "mask.png"})


# --- one photograph


def test_a_cover_hides_the_zone_and_nothing_else() -> None:
    plan = ZonePlan((Treated(LABEL, (1, 2, 3)),))
    one, other = part(1, printed=5), part(1, printed=6)
    assert not np.array_equal(one, other)
    covered = plan.cover(one)
    assert np.array_equal(covered, plan.cover(other))
    assert np.array_equal(covered[~LABEL.mask(SIZE)], one[~LABEL.mask(SIZE)])
    assert (covered[8:28, 12:40] == (1, 2, 3)).all()


def test_the_map_is_judged_outside_the_zones() -> None:
    looser = Zone.box("lot", (0.5, 0.0, 1.0, 0.5), treatment="looser")
    ignored = Zone.box("label", (0.0, 0.0, 0.5, 0.25))
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[7, 0] = 500, 100
    judged = (
        ZonePlan((Treated(ignored, halo=1), Treated(looser)))
        .place(np.zeros((16, 16, 3), np.uint8))
        .judge(values)
    )
    assert judged.peak == 63
    assert judged.zone_peaks == {"lot": 100}
    assert judged.not_inspected == 5 * 3 / 64  # 4 x 2 and a halo of one
    assert judged.anomaly_map[:5, :3].max() == values[~judged.ignored].min() == 3


def test_zones_that_leave_nothing_are_refused() -> None:
    plan = ZonePlan((Treated(Zone.box("all", (0, 0, 1, 1))),))
    with pytest.raises(andon.ImageError, match="the zones leave nothing of this photograph to inspect"):
        plan.place(part(0)).judge(np.zeros((8, 8), np.float32))


def test_places_may_come_from_the_photograph() -> None:
    """An alignment, or a finder of codes, says where the zones are in each photograph."""

    def bright(pixels: Pixels, zones: Sequence[Zone]) -> list[NDArray[np.bool_]]:
        return [pixels[..., 0] > 250 for _ in zones]

    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[3:6, 8:14] = 255
    plan = ZonePlan((Treated(LABEL, (0, 0, 0)),), places=bright)
    assert not plan.cover(pixels).any()
    assert plan.place(pixels).judge(np.zeros((16, 16), np.float32)).not_inspected == 18 / 256
    wrong = replace(plan, places=lambda pixels, zones: [])
    with pytest.raises(andon.ImageError, match="the places of 1 zones in a photograph"):
        wrong.cover(pixels)


def test_the_mean_colour() -> None:
    dark, light = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), (30, 60, 90), np.uint8)
    zones = [Zone.box("all", (0, 0, 1, 1)), Zone.box("half", (0, 0, 0.5, 1))]
    dark[2:] = 100
    assert mean_colours(zones, [dark, light]) == [(42, 58, 72), (20, 35, 50)]
    assert mean_colours(zones, []) == [(128, 128, 128)] * 2


def test_drawing_touches_the_zone_and_its_name_only() -> None:
    pixels = np.full((*SIZE, 3), 200, np.uint8)
    drawn = draw_zones(pixels, [LABEL])
    changed = (drawn != pixels).any(-1)
    assert changed[LABEL.mask(SIZE)].all()
    assert not changed[30:].any()


# --- how far a zone reaches


def blurred(radius: int):  # type: ignore[no-untyped-def]
    return lambda pixels: uniform_filter(pixels[..., 0].astype(np.float32), 2 * radius + 1, mode="nearest")


def test_the_halo_is_the_filters_radius() -> None:
    photographs = [part(seed) for seed in range(4)]
    masks, cover = [LABEL.mask(SIZE)] * 4, ZonePlan((Treated(LABEL, (128, 128, 128)),)).cover
    assert measure_reach(blurred(0), photographs, masks, cover).halo == 0
    found = measure_reach(blurred(4), photographs, masks, cover).halo
    assert found is not None
    assert 1 <= found <= 4  # the outermost ring rises by less than is noticed


def test_a_spot_is_found_where_nothing_else_is_as_high() -> None:
    """The map is the darkness: black spots on a grey part, white bars in the zone; covering it black hides them all."""

    def darkness(pixels: Pixels) -> NDArray[np.float32]:
        return uniform_filter(255 - pixels.mean(2, dtype=np.float32), 3)

    photographs = [np.full((*SIZE, 3), 128, np.uint8) for _ in range(4)]
    masks = [LABEL.mask(SIZE)] * 4
    grey, black = (ZonePlan((Treated(LABEL, (shade,) * 3),)).cover for shade in (128, 0))
    found = measure_reach(darkness, photographs, masks, grey)
    assert found.halo == 0
    assert (
        0.3 < found.found_covered == found.found_left == found.found_before < 0.7
    )  # one spot in two is black
    assert measure_reach(darkness, photographs, masks, black).found_covered < found.found_covered


def test_peaks_beyond_against_the_slow_way() -> None:
    rng = np.random.default_rng(0)
    values, mask = rng.random((9, 14)).astype(np.float32), rng.random((9, 14)) > 0.9
    steps = distance_steps(mask)
    expected = [values[steps > reach].max() for reach in range(steps.max())]
    assert peaks_beyond(values, steps).tolist() == expected


def test_a_global_answer_has_no_halo() -> None:
    photographs = [part(seed) for seed in range(4)]
    masks = [LABEL.mask(SIZE)] * 4

    def everywhere(pixels: Pixels) -> NDArray[np.float32]:
        field = np.zeros(SIZE, np.float32)
        field[0, 0] = 1
        return field + np.float32(pixels.mean())

    assert measure_reach(everywhere, photographs, masks, lambda pixels: pixels).halo is None


# --- the whole way


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(24):
        Image.fromarray(part(number)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("later")
    for number in range(12):
        Image.fromarray(part(100 + number)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def covered(good: Path) -> andon.Predictor:
    return andon.fit(good, size=SIZE, backbone=FakeBackbone(), ignore=(LABEL,), **FAST)


@pytest.fixture(scope="module")
def plain(good: Path) -> andon.Predictor:
    return andon.fit(good, size=SIZE, backbone=FakeBackbone(), **FAST)


def test_a_print_never_reaches_the_network(covered: andon.Predictor) -> None:
    scores = {covered.inspect(part(50, printed=printed)).image_score for printed in range(5)}
    assert len(scores) == 1
    inside = covered.inspect(part(50, spot=(18, 26)))
    assert inside.image_score in scores
    assert inside.regions == covered.inspect(part(50)).regions


def test_a_defect_beside_the_print_is_found(covered: andon.Predictor) -> None:
    verdict = covered.inspect(part(50, spot=(36, 26)))
    assert verdict.decision == "fail"
    top, left, bottom, right = verdict.regions[0].box
    assert top < 42 and bottom > 28 and left < 34 and right > 18  # noqa: PT018 (one box)
    assert verdict.not_inspected == pytest.approx(20 * 28 / (64 * 96))
    assert verdict.sentence.endswith("; 9.1 % of the image is not inspected")


def test_the_artefact_keeps_its_zones(covered: andon.Predictor, tmp_path: Path) -> None:
    path = covered.save(tmp_path / "part.andon")
    loaded = andon.load(path)
    assert loaded.zone_plan == covered.zone_plan
    assert loaded.inspect(part(50)).image_score == covered.inspect(part(50)).image_score
    done = CliRunner().invoke(show, [str(path)])
    assert "zone 'label': not inspected; its pixels are covered with the colour (" in done.output
    broken = covered.artifact.with_manifest(nuisance={"zones": [{"zone": 1}]})
    with pytest.raises(andon.ArtifactError, match="the artefact's zones cannot be read"):
        andon.Predictor(broken, check=False)


def test_fitting_and_the_line_see_the_same(covered: andon.Predictor, good: Path) -> None:
    plan = fit_plan((LABEL,), sorted(good.iterdir()), 65535)
    assert plan is not None
    load = loader(covered.preprocessing, covered.zone_plan)
    path = sorted(good.iterdir())[0]
    assert covered.zone_plan is not None
    seen = covered.preprocessing.apply(covered.zone_plan.cover(np.asarray(Image.open(path)))).images[0]
    assert np.array_equal(load(path), seen)


def test_without_zones_nothing_changes(plain: andon.Predictor) -> None:
    assert "nuisance" not in plain.manifest
    assert plain.zone_plan is None
    measured = plain.measure(part(50))
    assert measured.judged is None
    assert measured.inspected == 1.0
    assert plain.inspect(part(50)).not_inspected == 0.0


def test_zones_given_later(plain: andon.Predictor, later: Path) -> None:
    done = recalibrate(plain, later, ignore=(LABEL,)).predictor
    assert done.zone_plan is not None
    (treated,) = done.zone_plan.treated
    assert treated.given == "later"
    assert done.inspect(part(60, printed=7)).decision != "fail"
    assert done.inspect(part(60, spot=(50, 70))).decision == "fail"
    assert done.manifest["history"] == [{"calibration": plain.manifest["calibration"]}]
    again = recalibrate(done, later).predictor  # keeps its zones
    assert again.zone_plan == done.zone_plan
    assert set(again.manifest["history"][-1]) == {"calibration", "nuisance"}
    moved = Zone.box("label", (0.5, 0.5, 0.9, 0.9))
    other = recalibrate(done, later, ignore=(moved,)).predictor
    assert other.zone_plan is not None
    assert other.zone_plan.zones == (moved,)  # in the place of the earlier one


def test_zones_of_the_fit_stay(covered: andon.Predictor, later: Path) -> None:
    corner = Zone.box("corner", (0.8, 0.8, 1, 1))
    done = recalibrate(covered, later, ignore=(corner,)).predictor
    assert done.zone_plan is not None
    assert done.zone_plan.zones == (LABEL, corner)
    with pytest.raises(andon.SettingsError, match="fitted with zones of the same name: label. Rename yours"):
        recalibrate(covered, later, ignore=(LABEL,))


def test_a_looser_zone_has_a_threshold_of_its_own_and_is_named(plain: andon.Predictor, later: Path) -> None:
    looser = replace(LABEL, treatment="looser", rate=0.1)
    done = recalibrate(plain, later, ignore=(looser,)).predictor
    assert done.zone_plan is not None
    own = done.zone_plan.treated[0].calibration
    assert own is not None
    peaks = sorted(done.measure(path).zone_peaks["label"] for path in later.iterdir())
    assert own == calibrate(peaks, target_rate=0.1)
    torn = part(60, printed=7)
    torn[8:28, 12:40] = (255, 0, 0)
    verdict = done.inspect(torn)
    assert verdict.not_inspected == 0
    assert (verdict.decision == "fail") == (max(done.measure(torn).zone_peaks.values()) > own.threshold
                                            or verdict.image_score > verdict.threshold)  # fmt: skip
    strict = replace(own, threshold=0.0, review_threshold=None)
    wary = done.recalibrated(done.calibration, done.zone_plan.with_calibrations({"label": strict}))
    verdict = wary.inspect(part(60, printed=7))
    assert verdict.decision == "fail"
    assert verdict.sentence.endswith("; judged by the own threshold of the zone 'label'")
    assert any(note.startswith("zone 'label': ") for note in verdict.notes)


def test_names_in_the_picture_do_not_hide_each_other() -> None:
    zones = [Zone.box("one", (0.3, 0.1, 0.4, 0.5)), Zone.box("two", (0.31, 0.1, 0.41, 0.5))]
    pixels = np.zeros((200, 300, 3), np.uint8)
    both = draw_zones(pixels, zones)
    plates = (both == INK["ignore"]).all(-1).sum()
    alone = [(draw_zones(pixels, [zone]) == INK["ignore"]).all(-1).sum() for zone in zones]
    assert plates == pytest.approx(sum(alone), rel=0.02)


def test_the_picture_of_the_zones(covered: andon.Predictor, good: Path, tmp_path: Path) -> None:
    photo, zones = sorted(good.iterdir())[0], write_zones(tmp_path / "zones.json", (LABEL,))
    for source in (zones, covered.save(tmp_path / "part.andon")):
        done = CliRunner().invoke(
            nuisance, ["show", str(source), str(photo), "-o", str(tmp_path / "out.png")]
        )
        assert done.exit_code == 0, done.output
        assert "zone 'label': ignore, 9.1% of the photograph" in done.output
        assert Image.open(tmp_path / "out.png").size == (96, 64)
    done = CliRunner().invoke(nuisance, ["show", str(zones), str(photo), "-o", str(photo)])
    assert "must be the name of a new .png file" in str(done.exception)


def test_zones_follow_the_part_where_the_artefact_keeps_an_alignment() -> None:
    def lying(row: int, column: int) -> Pixels:
        pixels = (
            np.random.default_rng([row + 10, column + 10]).integers(90, 110, (96, 128, 3)).astype(np.uint8)
        )
        pixels[30 + row : 60 + row, 40 + column : 80 + column] = 200
        pixels[36 + row : 44 + row, 46 + column : 56 + column] = 20
        return pixels

    moves = [(0, 0), (2, -3), (-2, 3), (3, 1), (-1, -2), (1, 2), (-3, 0), (0, 3)]
    aligner = Aligner.fit([lying(*move) for move in moves], motion="shift")
    zone = Zone.box("label", (36, 46, 44, 56), size=(96, 128))
    manifest = {"nuisance": {"zones": ZonePlan((Treated(zone, (0, 0, 0)),)).to_list()}}
    fixed, following = stored_plan(manifest, {}), stored_plan(manifest, {ALIGNMENT: aligner.to_bytes()})
    assert fixed is not None
    assert following is not None

    def centre(plan: ZonePlan, row: int, column: int) -> tuple[float, float]:
        rows, columns = np.nonzero(plan.place(lying(row, column)).masks[0])
        return float(rows.mean()), float(columns.mean())

    assert centre(fixed, 6, -7) == (39.5, 50.5)
    start, moved = centre(following, 0, 0), centre(following, 6, -7)
    assert moved[0] - start[0] == pytest.approx(6, abs=1)
    assert moved[1] - start[1] == pytest.approx(-7, abs=1)
    with pytest.raises(andon.ImageError, match="the part was not found, so its zones were not either"):
        following.place(np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8))


def test_to_align_needs_zones() -> None:
    with pytest.raises(
        andon.SettingsError, match="align lets zones follow the part; give the zones, too, by ignore"
    ):
        andon.FitOptions(align=True)


# --- prints drawn while fitting


def test_prints_are_drawn_into_the_zone_alone_and_always_alike() -> None:
    mask = LABEL.mask(SIZE)
    varied = Augmentation((), Prints((mask,)))
    image = np.full((3, *SIZE), 0.5, np.float32)
    drawn = [varied(image, seed=0, epoch=epoch, number=0) for epoch in range(12)]
    assert all(np.array_equal(picture[:, ~mask], image[:, ~mask]) for picture in drawn)
    changed = [picture for picture in drawn if not np.array_equal(picture, image)]
    assert 2 <= len(changed) <= 10  # with probability 0.5
    assert len({picture.tobytes() for picture in changed}) == len(changed)
    assert all(picture[:, mask].std() > 0.02 for picture in changed)
    assert np.array_equal(varied(image, seed=0, epoch=3, number=0), drawn[3])
    assert varied.described() == {"print": "labels, barcodes and text drawn into 1 zones, probability 0.5"}


def test_the_zones_of_prints_are_those_of_the_networks_input(good: Path) -> None:
    photos = sorted(good.iterdir())
    (mask,) = prints_into((LABEL,), Preprocessing((32, 96)), photos).masks
    assert np.array_equal(mask, LABEL.mask((32, 96)))
    with pytest.raises(andon.SettingsError, match="print_into does not go with resize 'tiles'"):
        prints_into((LABEL,), Preprocessing((32, 32), "tiles"), photos)
