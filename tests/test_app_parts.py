"""What the pages Inspect, Review and Monitor work with, without Streamlit: limits, trials, journal, exports, shifts, words."""

from __future__ import annotations

import csv
import io
import re
import socket
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from andon.app import badges, drifting, reviewing, shifting, trial
from andon.app.inspecting import LONGEST, Shot, inspect_upload, overlaid, reduced
from andon.app.journal import COLUMNS, Journal, as_csv, as_table
from andon.app.reviewing import Wanted, annotated_defects, filters_of, good_images
from andon.app.settings import AppSettings, UploadLimits, shift_starts
from andon.app.station import Station, artifact_name
from andon.app.uploads import Upload, accepted
from andon.app.words import words_of
from andon.cli.app import command
from andon.errors import AndonError, DataError, SettingsError
from andon.records import Filters, Session, Tally
from andon.runtime.words import LANGUAGES
from andon.types import Failure
from browsing import File, bad, detectors, good, settings_of
from lines import png
from records_help import verdict

pytestmark = pytest.mark.usefixtures("quick_records")
ENGLISH = words_of("en")


@dataclass
class Sent:
    """A file as a browser sends it."""

    name: str
    data: bytes
    reads: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def getvalue(self) -> bytes:
        self.reads += 1
        return self.data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detectors(tmp_path_factory.mktemp("detectors"))


@pytest.fixture
def station(folder: Path, tmp_path: Path) -> Station:
    return Station(replace(settings_of(folder), records=str(tmp_path / "station.db")))


def shot_of(station: Station, session: Session, file: File, number: int = 1, language: str = "en") -> Shot:
    (shelved,) = station.artifacts()
    return inspect_upload(
        station, session, shelved, shelved.predictor.speaking(language), Upload(*file), number
    )


# Settings


def test_settings_are_handed_on_as_text() -> None:
    settings = settings_of(
        Path("/a folder"), pictures=Path("/p"), shifts=("05:00",), monitors=(Path("m.json"),), threads=2,
        limits=UploadLimits(images=3),
    )  # fmt: skip
    assert AppSettings.of_text(settings.to_text()) == settings
    assert AppSettings.of_text(AppSettings(Path("/f"), "r").to_text()) == AppSettings(Path("/f"), "r")


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="images must be at least 1, got 0"):
        UploadLimits(images=0)
    for texts in (("six",), (), ("06:00", "06:00")):
        with pytest.raises(SettingsError, match="shifts: expected times such as 06:00"):
            shift_starts(texts)


def test_what_cannot_be_opened_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = CliRunner().invoke
    with pytest.raises(DataError, match="there is no folder"):
        run(command, [str(tmp_path / "none")], catch_exceptions=False)
    with pytest.raises(SettingsError, match=r"others can reach 0.0.0.0, and there are no accounts"):
        run(command, [str(tmp_path), "--host", "0.0.0.0", "--port", "65533"], catch_exceptions=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(AndonError, match=f"cannot listen on 127.0.0.1, port {port}"):
            run(command, [str(tmp_path), "--port", port], catch_exceptions=False)


# Uploads


def test_what_is_too_much_is_refused_file_by_file() -> None:
    limits = UploadLimits(image_bytes=3000, pixels=1000, images=4)
    small, wide = png(np.zeros((20, 30, 3), np.uint8)), png(np.zeros((40, 30, 3), np.uint8))
    sent = [
        Sent("a.png", small),
        Sent("big.png", bytes(3001)),
        Sent("wide.png", wide),
        Sent("b.png", b"no"),
        Sent("c.png", small),
    ]
    taken, refused = accepted(sent, limits, ENGLISH)
    assert [upload.name for upload in taken] == ["a.png"]
    assert [failure.path for failure in refused] == ["big.png", "wide.png", "b.png", "c.png"]
    assert [failure.reason[:28] for failure in refused] == [
        "0.00286 MB; at most 0.00286 ", "0.0012 megapixels; at most 0", "cannot read these 2 bytes: n", "more than 4 files at a time;",
    ]  # fmt: skip
    assert [file.reads for file in sent] == [1, 0, 1, 1, 0]  # what is too large is not even read


# Another rate


def test_a_higher_rate_fails_more(folder: Path, station: Station) -> None:
    calibration = station.artifacts()[0].predictor.calibration
    thresholds = [trial.at_rate(calibration, rate).threshold for rate in trial.rates(calibration)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[-1] < calibration.threshold
    assert trial.at_rate(calibration, calibration.target_rate) is calibration
    moved = trial.at_rate(calibration, 0.5)
    assert moved.map_threshold == calibration.map_threshold
    assert trial.effect_of(moved) == trial.Effect(failed=9, review=4, total=20)
    assert "Of the 20 good parts of the calibration **9 would fail**" in trial.effect_text(moved, ENGLISH)


def test_without_a_threshold_there_is_nothing_to_try(station: Station) -> None:
    none = replace(station.artifacts()[0].predictor.calibration, threshold=float("nan"))
    assert trial.rates(none) == ()
    assert trial.at_rate(none, 0.2) is none


def test_the_histogram_counts_every_score_once() -> None:
    scores = np.random.default_rng(0).normal(size=500).tolist()
    assert sum(int(bar["count"]) for bar in trial.histogram(scores)) == 500
    assert sum(int(bar["count"]) for bar in trial.histogram([2.0] * 5)) == 5


# Verdicts for the eye


def test_a_verdict_differs_in_word_shape_sign_and_lightness() -> None:
    decisions = list(badges.SIGNS)
    assert decisions == ["pass", "review", "fail"]
    assert len({badges.drawing(each).split("</g>")[0].partition("><")[2] for each in decisions}) == 3
    assert [re.findall(r"<(circle|polygon)", badges.drawing(each)) for each in decisions] == [
        ["circle"], ["polygon"], ["polygon"],
    ]  # fmt: skip
    assert len({badges.short(each, ENGLISH) for each in decisions}) == 3
    for ground, ink in badges._COLOURS.values():
        assert contrast(ground, ink) >= 4.5  # WCAG 2.2, 1.4.3
    assert "&lt;b&gt;" in badges.banner("fail", ENGLISH, "0.9", "<b>")


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_is_shown_is_bounded() -> None:
    assert reduced(np.zeros((3000, 1500, 3), np.uint8)).shape == (LONGEST, LONGEST // 2, 3)
    assert reduced(np.zeros((1, 5000, 3), np.uint8)).shape == (1, LONGEST, 3)
    small = np.zeros((30, 40, 3), np.uint8)
    assert reduced(small) is small


# One photograph


def test_a_shot_is_recorded_with_its_pictures(station: Station) -> None:
    session = station.records.anonymous()
    shot = shot_of(station, session, bad())
    assert shot.decision() == "fail"
    assert shot.record is not None
    kept = station.records.inspection(shot.record)
    assert (kept.image_name, kept.decision, kept.session) == ("bad_50.png", "fail", session.token)
    assert station.records.picture(kept.image_hash) == bad()[1]
    assert (station.records.picture(kept.overlay_hash) or b"").startswith(b"\x89PNG")
    assert shot.pictures is not None
    assert shot.pictures.kind == "picture.none"
    faint, strong = (overlaid(shot.pictures, shot.calibration, each, boxes=False) for each in (0.0, 1.0))
    assert (faint == shot.pictures.photo).all()
    assert (strong != faint).any()


def test_a_shot_that_cannot_be_recorded_still_has_its_verdict(station: Station) -> None:
    line = station.records.anonymous()
    station.records.add_user(line, "anna", "correct horse", "engineer")  # ends what nobody may do
    shot = shot_of(station, line, bad())
    assert shot.decision() == "fail"
    assert shot.record is None
    assert "log in" in shot.unrecorded


def test_another_rate_decides_anew_and_says_so(station: Station) -> None:
    shot = shot_of(station, station.records.anonymous(), bad())
    passed = replace(
        shot, verdict=replace(shot.verdict, decision="pass", image_score=shot.calibration.nominal_scores[16])
    )
    assert (passed.decision(), passed.decision(0.5), passed.decision(0.01)) == ("pass", "fail", "pass")
    small = passed.without_pictures()
    assert (small.decision(0.5), small.pictures) == ("fail", None)
    assert passed.sentence(ENGLISH) == passed.verdict.sentence
    assert "deviation in the centre" in passed.sentence(ENGLISH, 0.5)
    assert passed.sentence(words_of("de")) == "keine Abweichung über dem Schwellenwert"


# The session


def test_the_table_has_every_photograph_and_every_failure(station: Station) -> None:
    session = station.records.anonymous()
    journal = Journal(shown=1)
    journal.add(shot_of(station, session, ("=cmd.png", bad()[1])))
    journal.add(Failure("broken.png", "not an image"))
    journal.add(shot_of(station, session, good(), 2))
    first = journal.shots[-1]
    assert first.record is not None
    journal.decide(1, station.records.decide(session, first.record, "pass", "only dust"))
    text = as_csv(journal.entries, lambda name: 0.5 if name == "part" else None)
    rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["image"] for row in rows] == ["'=cmd.png", "broken.png", "good_50.png"]
    assert [row["decision"] for row in rows] == ["fail", "", "pass"]
    assert (rows[0]["operator_decision"], rows[0]["operator_note"], rows[0]["tried_rate"]) == (
        "pass",
        "only dust",
        "0.5",
    )
    assert rows[1]["error"] == "not an image"
    assert [shot.pictures is None for shot in journal.shots] == [False, True]
    table = as_table(journal.shots, lambda name: None, words_of("fr"))
    assert [row["Votre décision"] for row in table] == ["", "✓ CONFORME"]


# The folder


def test_an_empty_folder_waits_for_its_first_detector(tmp_path: Path) -> None:
    station = Station(settings_of(tmp_path))
    assert station.artifacts() == []
    assert "holds no .andon file" in station.problems()[""]
    detectors(tmp_path)
    (tmp_path / "other.andon").write_bytes(b"PK, but not an artefact")
    station.look_again()
    (shelved,) = station.artifacts()
    assert artifact_name(shelved).name == "part"
    assert list(station.problems()) == ["other"]


# The queue


def test_who_did_not_log_in_sees_only_this_browser(station: Station) -> None:
    one, other = station.records.anonymous(), station.records.anonymous()
    shot_of(station, one, bad())
    now = datetime.now(UTC) + timedelta(seconds=1)
    seen = [station.records.find(filters_of(Wanted(), session, now)).total for session in (one, other)]
    assert seen == [1, 0]
    engineer = replace(one, proof="password")
    assert filters_of(Wanted(done="both", days=0), engineer, now) == Filters(decisions=reviewing.QUEUE)


def test_what_persons_decided_leaves_as_images_and_annotations(station: Station) -> None:
    session = station.records.anonymous()
    with pytest.raises(DataError, match="there are none: nobody has decided so"):
        good_images(station.records, Filters())
    for seed, answer in ((1, "disagree"), (2, "agree"), (3, "agree")):
        record = shot_of(station, session, bad(seed)).record
        assert record is not None
        station.records.decide(session, record, answer)  # type: ignore[arg-type]
    made = good_images(
        station.records, Filters(decided=False)
    )  # whatever is filtered, what was decided counts
    assert zipfile.ZipFile(io.BytesIO(made.data)).namelist() == ["000001_bad_1.png"]
    (shelved,) = station.artifacts()
    marked = annotated_defects(station.records, Filters(), shelved.predictor, "coco")
    names = zipfile.ZipFile(io.BytesIO(marked.data)).namelist()
    assert (marked.images, marked.missing) == (2, 0)
    assert names == ["annotations.json", "images/000002_bad_2.png", "images/000003_bad_3.png"]


def test_too_much_for_one_download_is_refused(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    session = station.records.anonymous()
    record = shot_of(station, session, good()).record
    assert record is not None
    station.records.decide(session, record, "agree")
    monkeypatch.setattr(reviewing, "MOST_BYTES", 10)
    with pytest.raises(SettingsError, match="andon records export"):
        good_images(station.records, Filters())
    monkeypatch.setattr(reviewing, "MOST_IMAGES", 0)
    with pytest.raises(SettingsError, match="these are 1 photographs, too much for one download"):
        good_images(station.records, Filters())


# Shifts and drift


def test_shares_come_with_their_interval() -> None:
    begin = datetime(2026, 3, 2, 6, tzinfo=UTC)
    tally = Tally(begin, begin + timedelta(hours=8), 90, 4, 6, 5, 2, 1, {50: 12.5, 95: 20.0, 99: 4031.25})
    empty = Tally(begin, begin, 0, 0, 0, 0, 0, 0)
    clock = "{:%Y-%m-%d %H:%M}".format
    (row,) = shifting.as_rows([tally, empty], clock, ENGLISH)
    assert list(row.values()) == [
        "2026-03-02 06:00 – 14:00", "100", "6.0 % (2.8 % – 12.5 %)", "4.0 % (1.6 % – 9.8 %)", "2", "1", "5",
        "12.5 / 20 / 4,031",
    ]  # fmt: skip
    assert shifting.rates_of(empty) is None
    found = shifting.rates_of(tally)
    assert found is not None
    assert found.false_alarms is not None
    assert (found.false_alarms.events, found.false_alarms.total) == (2, 5)
    undecided = shifting.rates_of(replace(tally, decided=0))
    assert undecided is not None
    assert undecided.escapes is None
    (value,) = shifting.chart([tally, empty], clock, ENGLISH)["data"]["values"]
    assert (value["share"], value["parts"]) == (0.06, 100)


def test_recorded_scores_are_watched_each_once(station: Station) -> None:
    session = station.records.unattended("line 3")
    (shelved,) = station.artifacts()
    drift = drifting.RecordedDrift(shelved.predictor.artifact, shelved.sha256)
    assert drift.update(station.records).images == 0
    low = shelved.predictor.calibration.nominal_scores[0]
    for score in (low, low):
        station.records.add(session, replace(verdict("pass"), image_score=score), artifact_name(shelved))
    assert drift.update(station.records).images == 2
    assert drift.update(station.records).images == 2
    for _ in range(300):
        drift.monitor.add_numbers(9.0, {})
    found = drifting.findings(drift.monitor, ENGLISH)
    assert any("score high" in sentence for sentence in found)
    assert {row["measure"] for row in drifting.measures(drift.monitor, ENGLISH)} == {
        "scores of good parts",
        "share of high scores",
    }
    assert drifting.evidence(drift.monitor, ENGLISH)["layer"][0]["data"]["values"]


# Words


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_a_language_has_the_same_keys_and_placeholders(language: str) -> None:
    words = words_of(language)
    assert set(words) == set(ENGLISH)
    fields = {key: sorted(re.findall(r"{\w+}", words[key])) for key in words}
    assert fields == {key: sorted(re.findall(r"{\w+}", ENGLISH[key])) for key in ENGLISH}


def test_french_sets_a_hard_space_before_its_signs() -> None:
    for key, text in words_of("fr").items():
        assert not re.search(r" [;:%»]", text), key
