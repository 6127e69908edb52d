"""The page Teach: orders, the process that fits, stopping and going on, saving; and the page as a browser gets it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import andon.pipeline
from andon.app import taught, teach_worker, teaching
from andon.app.teaching import Fit, Order, Progress
from andon.artifact import read_artifact
from andon.errors import BusyError, DataError, MissingExtraError, SettingsError
from andon.files import single_writer
from andon.records import open_records
from andon.runtime.words import LANGUAGES
from browsing import browser, settings_of
from lines import difference_detector, png, striped


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = difference_detector(tmp_path_factory.mktemp("made") / "part.andon")
    data = {"train": 8, "calibration": 4, "skipped": [["broken.png", "it ends too early"]]}
    return read_artifact(path).with_manifest(data=data, fit={"notes": []}).to_bytes()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.png").write_bytes(png(striped(seed)))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, detector: bytes) -> Iterator[None]:
    """Fits run in this process, and write ``detector`` after two steps; one called "long" until it is stopped."""

    def fit(source: Path, output: Path, *, resume: bool, progress: Any, on_loss: Any, **options: Any) -> None:
        progress("observe", 1, 2)
        on_loss(0.25)
        progress("train", 2, 2)
        if output.parent.name == "long" and not resume:
            Path(f"{output}.partial").write_bytes(b"kept")
            time.sleep(60)  # until it is interrupted
        if output.parent.name == "bad":
            raise DataError("none of the 6 images could be read")
        output.write_bytes(detector)

    monkeypatch.setattr(andon.pipeline, "fit", fit)
    monkeypatch.setattr(teach_worker, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(teaching, "_launch", lambda fit: teach_worker.work(fit.folder))
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # which a shell's background jobs ignore
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("here")
def test_a_fit_tells_how_it_ended(models: Path, good: Path) -> None:
    done = teaching.start(models, Order("clip", str(good), "efficientad", 5.0))
    assert done.progress().state == "done"
    assert done.order() == Order("clip", str(good), "efficientad", 5.0)
    failed = teaching.start(models, Order("bad", str(good)))
    assert (failed.progress().state, failed.progress().message) == (
        "failed",
        "none of the 6 images could be read",
    )
    assert {fit.name for fit in teaching.fits(models)} == {"clip", "bad"}
    teaching.discard(failed)
    assert [fit.name for fit in teaching.fits(models)] == ["clip"]
    assert not teaching.is_held(done.lock)


@pytest.mark.usefixtures("here")
def test_stopped_it_keeps_what_it_has_and_goes_on(
    models: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = teach_worker.Teller.__call__

    def stop_when_training(self: teach_worker.Teller, phase: str, done: int, total: int) -> None:
        teller(self, phase, done, total)
        if phase == "train":
            teaching.stop(self.fit)

    monkeypatch.setattr(teach_worker.Teller, "__call__", stop_when_training)
    fit = teaching.start(models, Order("long", str(good)))
    assert fit.progress().state == "stopped"
    assert fit.can_go_on
    monkeypatch.setattr(teach_worker.Teller, "__call__", teller)
    teaching.go_on(fit)
    assert fit.progress().state == "done"
    assert not fit.stop_file.exists()


def test_a_page_finds_what_runs_what_is_gone_and_what_nobody_began(models: Path) -> None:
    fit = teaching.fit_of(models, "clip")
    fit.folder.mkdir(parents=True)
    assert fit.progress() == Progress("ordered")
    fit.tell(Progress("running", "train", 3, 4, 0.5, 12.0))
    (fit.folder / "log.txt").write_bytes(b"Killed \xff")
    assert (fit.progress().state, fit.progress().message) == ("ended", "Killed \ufffd")
    with single_writer(fit.lock):
        assert fit.progress() == Progress("running", "train", 3, 4, 0.5, 12.0)
        assert fit.progress().share == 0.75
        with pytest.raises(BusyError, match="being taught in .*models now"):
            teaching.discard(fit)
        teaching.stop(fit)
        assert fit.progress().state == "stopping"


def test_what_cannot_be_ordered(models: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("../clip", "", ".clip", "a/b", "clip."):
        with pytest.raises(SettingsError, match="expected a name"):
            Order(name, str(good))
    with pytest.raises(SettingsError, match="the page offers patchcore, padim"):
        Order("clip", str(good), "nothing")
    with pytest.raises(SettingsError, match="expected minutes above 0"):
        Order("clip", str(good), minutes=0.0)
    with pytest.raises(DataError, match="no folder was named"):
        teaching.check_source(" ")
    with pytest.raises(DataError):
        teaching.start(models, Order("clip", str(good / "nowhere")))
    monkeypatch.setattr(teaching, "EXTRA", ("torch_of_tomorrow",))
    with pytest.raises(MissingExtraError, match=r'teaching a detector needs the package .*"andon\[fit\]"'):
        teaching.start(models, Order("clip", str(good)))
    assert not (models / ".teach").exists()


def test_uploads_are_bounded_and_kept_once(models: Path, good: Path) -> None:
    fit = teaching.fit_of(models, "clip")
    photo = png(striped(1))
    sent = [("a.png", photo), ("again.png", photo), ("../../b.PNG", png(striped(2))), ("c.png", b"no image"),
            ("d.png", photo + b"0" * 40_000)]  # fmt: skip
    kept, refused = taught.keep_photos(fit, sent, pixels=10_000, largest=40_000)
    assert kept == 2
    assert [name for name, _ in refused] == ["c.png", "d.png"]
    assert sorted(path.name.partition("_")[2] for path in fit.photos.iterdir()) == ["a.png", "b.png"]
    assert teaching.check_source(str(fit.photos)) == 2
    _, refused = taught.keep_photos(fit, [("e.png", png(striped(3)))], pixels=100, largest=10**6)
    assert "pixels" in refused[0][1]


def test_the_methods_offered_are_there_and_train_as_said() -> None:
    from andon.app.words import words_of
    from andon.models import DETECTORS, defaults

    offered = {method.name: method.trains for method in teaching.METHODS if method.name != "auto"}
    assert offered == {name: "steps" in defaults(name) for name in offered if name in DETECTORS}
    for method in teaching.METHODS:
        for language in LANGUAGES:
            assert {f"teach_method.{method.name}", f"teach_about.{method.name}"} <= words_of(language).keys()
    assert set(teaching.costs()) >= {"patchcore", "padim"}


@pytest.mark.usefixtures("here", "quick_records")
def test_saved_beside_the_others_and_written_down(models: Path, good: Path) -> None:
    fit = teaching.start(models, Order("clip", str(good)))
    assert len(taught.first_results(fit, 3)) == 3
    with open_records(models / "station.db") as records:
        session = records.anonymous()
        path = taught.save(fit, models, records, session, "first one")
        (change,) = records.changes("clip")
        assert (change.before, change.why, change.who) == ({}, "first one", "nobody")
        assert change.after["threshold"] == read_artifact(path).manifest["calibration"]["threshold"]
        again = teaching.start(models, Order("clip", str(good)))
        with pytest.raises(DataError, match="there is a clip.andon"):
            taught.save(again, models, records, session, "second one")
        taught.save(again, models, records, session, "second one", replacing=True)
        assert [change.why for change in records.changes("clip")] == ["second one", "first one"]
        assert records.changes("clip")[0].before == change.after
    assert teaching.fits(models) == []


@pytest.mark.usefixtures("here", "quick_records")
def test_the_page_from_order_to_detector(models: Path, good: Path) -> None:
    page = browser(settings_of(models), "teach")
    assert page.button(key="teach.start").disabled
    page.text_input(key="teach.folder").set_value(str(good / "nowhere"))
    page.text_input(key="teach.name").set_value("clip").run()
    assert any("nowhere" in error.value for error in page.error)
    page.text_input(key="teach.folder").set_value(str(good)).run()
    assert any(caption.value == "6 photographs there" for caption in page.caption)
    page.button(key="teach.start").click().run()
    assert not page.exception
    assert any("What it promises" in text.value for text in page.markdown)
    assert any("broken\\.png" in text.value for text in page.markdown)
    assert page.text_input(key="teach.why.clip").value == f"taught from 8 photographs of {good}"
    page.button(key="teach.save.clip").click().run()
    assert not page.exception
    assert [success.value[:14] for success in page.success] == ["clip is in use"]
    assert (models / "clip.andon").exists()


@pytest.mark.usefixtures("quick_records")
def test_the_page_says_what_to_install(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "EXTRA", ("torch_of_tomorrow",))
    page = browser(settings_of(models, language="de"), "teach")
    assert 'pip install "andon[fit]"' in page.warning[-1].value
    assert page.title[0].value == "Anlernen"


def test_a_process_that_cannot_begin_says_why(
    models: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching.sys, "executable", "/bin/false")
    with pytest.raises(andon.AndonError, match="the process that should teach did not begin"):
        teaching.start(models, Order("clip", str(good)))
    assert not teaching.is_held(Fit(models / ".teach" / "clip").lock)
