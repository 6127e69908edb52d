"""The page Calibrate: proposals, their effect, saving through the records, going back; and the page as a browser gets it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from andon.app import calibrating, zoning
from andon.app.calibrating import Scores, Wish
from andon.app.saving import put_in_place, summary
from andon.app.score_chart import score_chart
from andon.artifact import read_artifact
from andon.calibrate import calibrate
from andon.errors import AccessError, CalibrationError, DataError, SettingsError
from andon.records import ArtifactName, open_records
from andon.runtime.predictor import Predictor
from browsing import browser, settings_of
from lines import difference_detector, png, striped

LABELS = {name: name for name in ("good", "bad", "new", "review", "now", "score", "images")}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return difference_detector(tmp_path_factory.mktemp("made") / "part.andon").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, detector: bytes) -> Path:
    """Artefacts, good photographs, and defects."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "part.andon").write_bytes(detector)
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    for seed in range(12):
        (tmp_path / "good" / f"{seed:02}.png").write_bytes(png(striped(100 + seed)))
    for seed in range(6):
        pixels = striped(200 + seed)
        pixels[20:34, 40:54] = 250
        (tmp_path / "bad" / f"{seed:02}.png").write_bytes(png(pixels))
    return models


def scores_of(folder: Path, *, bad: bool = True) -> Scores:
    predictor = Predictor.open(folder / "part.andon")
    return calibrating.measure(
        predictor, str(folder.parent / "good"), str(folder.parent / "bad") if bad else ""
    )


def test_scores_kept_in_the_detector_need_no_photographs(folder: Path) -> None:
    predictor = Predictor.open(folder / "part.andon")
    found = calibrating.measure(predictor, "", " ")
    assert found.nominal == predictor.calibration.nominal_scores
    assert (found.anomalous, found.measured) == ((), False)
    with_bad = calibrating.measure(predictor, "", str(folder.parent / "bad"))
    assert with_bad.nominal == found.nominal
    assert len(with_bad.anomalous) == 6
    assert min(with_bad.anomalous) > max(found.nominal)


def test_a_lower_rate_never_lowers_the_threshold_and_regions_stay(folder: Path) -> None:
    stored = calibrating.stored_scores(Predictor.open(folder / "part.andon"))
    strict, loose = (calibrating.proposed(stored, Wish("rate", rate, 0.0)) for rate in (0.05, 0.3))
    assert strict.threshold > loose.threshold
    assert strict.map_threshold == loose.map_threshold == stored.base.calibration.map_threshold
    assert (strict.review_threshold, loose.target_rate) == (None, 0.3)


def test_dear_escapes_lower_the_threshold(folder: Path) -> None:
    predictor = Predictor.open(folder / "part.andon")
    mixed = Scores(predictor, tuple(range(100)), tuple(np.arange(80.0, 130.0)))
    wishes = [Wish("cost", cost_escape=escape, cost_review=None, defect_rate=0.1) for escape in (1.0, 100.0)]
    cheap, dear = (calibrating.proposed(mixed, wish) for wish in wishes)
    assert dear.threshold < cheap.threshold
    now, new = (calibrating.cost_of(each, mixed, wishes[1]) for each in (cheap, dear))
    assert now is not None
    assert new is not None
    assert new.total < now.total
    assert (
        calibrating.outcomes(dear, mixed)["anomalous"]["pass"]
        < calibrating.outcomes(cheap, mixed)["anomalous"]["pass"]
    )


def test_costs_without_defects_and_groups_are_refused(folder: Path) -> None:
    stored = calibrating.stored_scores(Predictor.open(folder / "part.andon"))
    with pytest.raises(SettingsError, match="costs need defective images, too"):
        calibrating.proposed(stored, Wish("cost"))
    with pytest.raises(CalibrationError, match="at least one"):
        calibrating.proposed(replace(stored, nominal=()), Wish())
    grouped = replace(
        stored.base.calibration, groups={"early": stored.base.calibration}, group_by="{shift}/*"
    )
    stored.base.calibration = grouped
    with pytest.raises(SettingsError, match="a threshold for each of 1 groups"):
        calibrating.proposed(stored, Wish())


@pytest.mark.usefixtures("quick_records")
def test_saved_with_who_and_why_and_brought_back(folder: Path) -> None:
    path = folder / "part.andon"
    first = read_artifact(path)
    scores = scores_of(folder)
    new = calibrating.proposed(scores, Wish("cost"))
    artifact, kind = calibrating.changed(first, scores, new)
    assert kind == "threshold"
    with open_records(folder / "station.db") as records:
        session = records.anonymous()
        seen = ArtifactName.of(path).hash
        made = put_in_place(
            path, artifact, records, session, kind, summary(first.manifest), seen, "too many false alarms"
        )
        assert made == ArtifactName.of(path)
        (change,) = records.changes("part")
        assert (change.who, change.why, change.kind) == ("nobody", "too many false alarms", "threshold")
        assert (change.artifact.hash, change.artifact_hash_after) == (seen, made.hash)
        assert change.before["threshold"] == first.manifest["calibration"]["threshold"]
        assert change.after["threshold"] == new.threshold
        assert Predictor.open(path).calibration == new

        now = read_artifact(path)
        entries = calibrating.earlier(now.manifest, records.changes("part"))
        assert [(entry.number, entry.change and entry.change.why) for entry in entries] == [
            (None, "too many false alarms"),
            (0, None),
        ]
        back = calibrating.gone_back(now, 0)
        assert back.manifest["calibration"] == first.manifest["calibration"]
        assert len(back.manifest["history"]) == 2
        put_in_place(path, back, records, session, "threshold", summary(now.manifest), made.hash, "worse")
        assert records.verify().fits
    with pytest.raises(DataError, match="no earlier threshold 7; it has 2"):
        calibrating.gone_back(back, 7)


@pytest.mark.usefixtures("quick_records")
def test_nothing_is_changed_where_the_change_cannot_be_written_down(folder: Path) -> None:
    path = folder / "part.andon"
    before = path.read_bytes()
    scores = scores_of(folder, bad=False)
    artifact, kind = calibrating.changed(
        read_artifact(path), scores, calibrating.proposed(scores, Wish("rate", 0.2))
    )
    told = summary(artifact.manifest)
    seen = hashlib.sha256(before).hexdigest()
    with open_records(folder / "station.db") as records:
        with pytest.raises(SettingsError, match="a change needs a reason"):
            put_in_place(path, artifact, records, records.anonymous(), kind, told, seen, "  ")
        with pytest.raises(DataError, match="somebody changed it meanwhile"):
            put_in_place(path, artifact, records, records.anonymous(), kind, told, "0" * 64, "why")
        with pytest.raises(AccessError, match="it is for engineers"):
            put_in_place(path, artifact, records, records.unattended("line"), kind, told, seen, "why")
        assert records.changes() == []
    assert path.read_bytes() == before
    assert [name for name in os.listdir(folder) if name.startswith(".")] == []


def test_zones_come_with_their_threshold_and_go_back_with_it(folder: Path) -> None:
    predictor = Predictor.open(folder / "part.andon")
    zones = zoning.with_box((), "label", (0.0, 0.0, 0.4, 0.4), "looser", 0.05, (64, 96))
    scores = calibrating.measure(predictor, str(folder.parent / "good"), "", zones)
    artifact, kind = calibrating.changed(predictor.artifact, scores, calibrating.proposed(scores, Wish()))
    assert kind == "zones"
    assert [zone["name"] for zone in summary(artifact.manifest)["zones"]] == ["label"]
    assert zoning.zones_since(Predictor(artifact, check=False)) == zones
    back = calibrating.gone_back(artifact, 0)
    assert "nuisance" not in back.manifest
    assert [entry.zones for entry in calibrating.earlier(back.manifest)] == [(), ("label",), ()]
    with pytest.raises(DataError, match="zones need good photographs"):
        calibrating.measure(predictor, "", "", zones)


def test_boxes_are_dragged_in_fractions_of_the_photograph() -> None:
    assert zoning.dragged({"box": {"row": [0.6, 0.2], "column": [-0.1, 0.5]}}) == (0.2, 0.0, 0.6, 0.5)
    assert zoning.dragged({"box": {"row": [0.2, 0.2], "column": [0.1, 0.5]}}) is None
    assert zoning.dragged({"box": {}}) is zoning.dragged(None) is None
    with pytest.raises(DataError, match="leave hardly anything to inspect"):
        zoning.with_box((), "all", (0, 0, 1, 1), "ignore", None, (64, 96))
    with pytest.raises(SettingsError, match="printable text"):
        zoning.with_box((), " ", (0, 0, 0.5, 0.5), "ignore", None, (64, 96))
    one = zoning.with_box((), "a", (0, 0, 0.5, 0.5), "ignore", 0.1, (64, 96))
    assert zoning.with_box(one, "a", (0, 0, 0.2, 0.2), "ignore", None, (64, 96))[0].corners[2] == (0.2, 0.2)
    canvas = zoning.canvas(zoning.picture(striped(0), one, (0.5, 0.5, 0.9, 0.9)))
    assert (canvas["width"], canvas["height"]) == (560, 373)
    assert canvas["data"]["values"][0]["picture"].startswith("data:image/jpeg;base64,")


def test_the_drawing_puts_a_score_at_the_threshold_on_its_left() -> None:
    calibration = calibrate([1.0, 2.0, 3.0, 4.0] * 10, target_rate=0.3, review_rate=0.0)
    chart = score_chart(
        calibration.nominal_scores, [9.0], calibration, replace(calibration, threshold=2.0), LABELS
    )
    bars = chart["layer"][0]["data"]["values"]
    assert sum(bar["images"] for bar in bars if bar["kind"] == "good") == 40
    failed = sum(
        bar["images"] for bar in bars if bar["kind"] == "good" and bar["from"] >= calibration.threshold
    )
    assert failed == sum(score > calibration.threshold for score in calibration.nominal_scores)
    assert [bar["count"] for bar in bars if bar["kind"] == "bad"] == [-1]
    assert [line["name"] for line in chart["layer"][1]["data"]["values"]] == ["new", "now"]
    assert score_chart([], [], calibration, calibration, LABELS) == {}


@pytest.mark.usefixtures("quick_records")
def test_the_page_saves_what_it_shows(folder: Path) -> None:
    page = browser(settings_of(folder), "calibrate")
    assert not page.exception
    assert [tab.label for tab in page.tabs] == ["Threshold", "Zones", "History"]
    assert page.button(key="calibrate.measure").disabled
    page.text_input(key="calibrate.good").set_value(str(folder.parent / "good"))
    page.text_input(key="calibrate.bad").set_value(str(folder.parent / "bad")).run()
    page.button(key="calibrate.measure").click().run()
    page.radio(key="calibrate.rule").set_value("cost").run()
    assert any("12 good photographs and 6 of defects" in caption.value for caption in page.caption)
    assert page.button(key="calibrate.save").disabled
    page.text_input(key="calibrate.why").set_value("new lamps").run()
    page.button(key="calibrate.save").click().run()
    assert not page.exception
    assert [success.value for success in page.success] == ["part decides by the new threshold from now on\\."]
    manifest = read_artifact(folder / "part.andon").manifest
    assert manifest["calibration"]["method"] == "cost"
    with open_records(folder / "station.db") as records:
        assert [change.why for change in records.changes("part")] == ["new lamps"]
    page.text_input(key="calibrate.back_why").set_value("back").run()
    page.button(key="history.button").click().run()
    assert (
        read_artifact(folder / "part.andon").manifest["calibration"] == manifest["history"][0]["calibration"]
    )


@pytest.mark.usefixtures("quick_records")
def test_the_page_draws_zones_and_says_what_is_wrong(folder: Path) -> None:
    page = browser(settings_of(folder), "calibrate")
    page.text_input(key="zones.folder").set_value(str(folder / "nowhere")).run()
    assert any("nowhere" in error.value for error in page.error)
    page.text_input(key="zones.folder").set_value(str(folder.parent / "good")).run()
    page.slider(key="zones.rows").set_value((0.0, 40.0)).run()
    page.button(key="zones.add").click().run()
    assert any("zone 1: 0–40 % × 40–60 %, Do not inspect" in text.value for text in page.markdown)
    page.button(key="zones.remove.0.zone 1").click().run()
    assert not page.exception
    assert any(caption.value == "No zones." for caption in page.caption)
