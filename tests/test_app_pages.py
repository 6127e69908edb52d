"""The pages as a browser gets them: login, language, Inspect, Review, Monitor. Pixels and downloads: test_app_browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from andon.app.settings import UploadLimits
from andon.app.station import Station
from andon.app.uploads import Upload
from andon.artifact import read_artifact
from andon.records import open_records
from andon.runtime.monitor import begin_monitor, save_monitor
from browsing import (
    PASSWORD,
    bad,
    borderline,
    browser,
    detectors,
    good,
    open_page,
    press,
    rerun,
    send,
    settings_of,
    written,
)

pytestmark = pytest.mark.usefixtures("quick_records")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    st.cache_resource.clear()  # one process serves the apps of all tests
    return detectors(tmp_path)


def accounts(folder: Path) -> None:
    with open_records(folder / "station.db") as records:
        records.add_user(records.console(), "anna", PASSWORD, "engineer")
        records.add_user(records.console(), "bob", PASSWORD, "operator")


def log_in(at: AppTest, name: str, password: str = PASSWORD) -> AppTest:
    at.text_input[0].set_value(name)
    at.text_input[1].set_value(password)
    return press(at, "Log in")


def pages(at: AppTest) -> list[str]:
    return [option.rsplit(" ", 1)[-1] for option in at.sidebar.radio[0].options]


def said(elements: Sequence[Any]) -> list[str]:
    """What is written in ``elements``, as a reader sees it."""
    return [each.value.replace("\\", "") for each in elements]


# Inspect


def test_photographs_are_inspected_and_broken_ones_reported(folder: Path) -> None:
    at = send(browser(settings_of(folder)), good(), ("broken.png", b"no image"), bad())
    assert "cannot read these 8 bytes" in said(at.error)[0]
    assert ">FAIL</div>" in written(at)  # the newest one is shown
    assert at.selectbox[1].options == ["2 · bad_50.png · ✕ FAIL", "1 · good_50.png · ✓ PASS"]
    at.selectbox[1].set_value(1)
    assert ">PASS</div>" in written(rerun(at))
    with open_records(folder / "station.db") as records:
        rows = records.find().rows
    assert [(row.image_name, row.decision) for row in rows] == [
        ("bad_50.png", "fail"),
        ("good_50.png", "pass"),
    ]


def test_the_slider_turns_pass_to_fail_and_tells_its_price(folder: Path) -> None:
    at = send(browser(settings_of(folder)), borderline(folder))
    assert ">PASS</div>" in written(at)
    at.select_slider[0].set_value(0.5)
    text = written(rerun(at))
    assert ">FAIL</div>" in text
    assert "**9 would fail**" in text
    assert "in the records: ✓ PASS" in text


def test_the_person_has_the_last_word(folder: Path) -> None:
    at = send(browser(settings_of(folder)), bad())
    press(at, "Record my decision")
    assert said(at.warning)[0] == "Choose a decision first."
    next(radio for radio in at.radio if radio.label == "Your decision").set_value("pass")
    at.text_input[0].set_value("only dust")
    press(at, "Record my decision")
    assert said(at.success)[0] == "nobody says: ✓ PASS only dust"
    with open_records(folder / "station.db") as records:
        (row,) = records.find().rows
    assert (row.decision, row.verdict) == ("fail", "pass")


def test_two_browsers_do_not_see_each_others_images(folder: Path) -> None:
    settings = settings_of(folder)
    one, other = browser(settings), browser(settings)
    send(one, bad())
    assert ">FAIL</div>" not in written(rerun(other))
    assert "**1** to look at" in written(open_page(one, "review"))
    assert "**0** to look at" in written(open_page(other, "review"))


def test_uploads_are_bounded(folder: Path) -> None:
    at = send(browser(settings_of(folder, limits=UploadLimits(pixels=64 * 96, images=1))), good(), bad())
    assert said(at.error) == ["**bad_50.png** — more than 1 files at a time; send it again by itself"]  # fmt: skip
    assert ">PASS</div>" in written(at)


def test_a_picture_is_taken(folder: Path) -> None:
    at = browser(settings_of(folder))
    picture = io.BytesIO()
    Image.open(io.BytesIO(bad()[1])).save(picture, "JPEG", quality=95)
    at.toggle[0].set_value(True)
    rerun(at).camera_input[0].set_value(("camera.jpg", picture.getvalue(), "image/jpeg"))
    assert ">FAIL</div>" in written(rerun(at))


def test_what_waits_when_a_run_is_cut_off_is_inspected_by_the_next(folder: Path) -> None:
    at = browser(settings_of(folder))
    (shelved,) = Station(settings_of(folder)).artifacts()
    at.session_state["inspect.waiting"] = [(shelved, Upload(*good(seed))) for seed in (1, 2)]
    at.session_state["inspect.begun"], at.session_state["inspect.refused"] = 0, []
    rerun(at)
    assert at.selectbox[1].options == ["2 · good_2.png · ✓ PASS", "1 · good_1.png · ✓ PASS"]
    assert at.session_state["inspect.waiting"] == []


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    at = browser(settings_of(tmp_path))
    assert "holds no .andon file. Make one with: andon fit FOLDER" in said(at.warning)[0]


# Review


def test_the_queue_is_worked_off_and_leaves_as_files(folder: Path) -> None:
    at = send(browser(settings_of(folder)), bad(1), bad(2), good())
    open_page(at, "review")
    assert "**2** to look at" in written(at)
    press(at, "Disagree")  # the newest one, bad_2
    press(at, "Agree")
    text = written(at)
    assert "**0** to look at" in text
    for number in (0, 1):
        [button for button in at.button if button.label == "Prepare"][number].click()
        rerun(at)
    assert [button.label for button in at.download_button] == ["Download ZIP", "Download ZIP"]
    assert [each.value for each in at.caption].count("1 photographs; 0 are not kept any more") == 2


def test_nothing_to_take_away_is_said(folder: Path) -> None:
    at = press(browser(settings_of(folder), "review"), "Prepare")
    assert "there are none: nobody has decided so" in said(at.warning)[0]


# Monitor


def test_the_line_is_shown_with_its_drift(folder: Path) -> None:
    state = folder / "line3.json"
    monitor = begin_monitor(read_artifact(folder / "part.andon"))
    for _ in range(200):
        monitor.add_numbers(9.0, {})
    save_monitor(monitor, state)
    at = browser(settings_of(folder, monitors=(state, folder / "none.json")), "monitoring")
    assert at.info[0].value == "Nothing was inspected in this time."
    assert "score high" in said(at.warning)[0]
    assert "there is no file" in said(at.error)[0]
    send(open_page(at, "inspect"), bad(1), good())
    text = written(open_page(at, "monitoring"))
    assert "1 of 2; 9.5 % – 90.5 %" in text
    assert "part: by the recorded scores** · 2 parts seen" in text


# Who, and in which language


def test_with_accounts_everybody_logs_in(folder: Path) -> None:
    accounts(folder)
    at = log_in(browser(settings_of(folder)), "bob", "wrong password")
    assert said(at.error)[0] == "the name or the password is wrong"
    log_in(at, "bob")
    assert pages(at) == ["Inspect", "Review", "Monitor"]
    assert "Logged in as bob (operator)" in written(at)
    send(at, bad())
    press(at, "Log out")
    log_in(at, "anna")
    assert pages(at)[:3] == ["Inspect", "Review", "Monitor"]
    assert len(pages(at)) == 6
    assert ">FAIL</div>" not in written(at)  # nothing of the one before
    assert "**1** to look at" in written(open_page(at, "review"))  # the station's queue


def test_a_changed_account_ends_the_session(folder: Path) -> None:
    accounts(folder)
    at = log_in(browser(settings_of(folder)), "bob")
    with open_records(folder / "station.db") as records:
        records.set_password(records.console(), "bob", "another one")
    rerun(at)
    assert "Your login has ended" in said(at.warning)[0]
    assert at.button[0].label == "Log in"


def test_an_operator_cannot_open_an_engineers_page_by_its_address(folder: Path) -> None:
    accounts(folder)
    at = log_in(browser(settings_of(folder), "teach"), "bob")
    assert at.title[0].value == "Inspect"


def test_the_language_is_switched(folder: Path) -> None:
    at = send(browser(settings_of(folder)), good())
    at.sidebar.selectbox[0].set_value("de")
    text = written(rerun(at))
    assert at.title[0].value == "Prüfen"
    assert ">IO</div>" in text
    assert "keine Abweichung über dem Schwellenwert" in text
