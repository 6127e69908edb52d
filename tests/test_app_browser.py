"""``andon app`` in a real browser: drop a photograph, move the slider, see PASS turn to FAIL, take the CSV home."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from browsing import borderline, detectors

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
SECONDS = 120  # for anything to happen: the machine may be busy


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an app over ``folder`` in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "andon",
        "app",
        folder,
        "--port",
        str(port),
        "--threads",
        "1",
        "--language",
        "en",
    ]
    with open(folder / "app.log", "w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()


def wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, "the app has ended"
            assert time.monotonic() < end, "the app has not begun"
            time.sleep(0.1)


def test_upload_slide_and_download(tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    from playwright.sync_api import expect, sync_playwright

    name, data = borderline(detectors(tmp_path))
    with served(tmp_path) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page()
        page.set_default_timeout(1000 * SECONDS)
        expect.set_options(timeout=1000 * SECONDS)
        page.goto(address)
        page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
            [{"name": name, "mimeType": "image/png", "buffer": data}]
        )
        verdict = page.get_by_test_id("stHtml").get_by_role("status")
        expect(verdict).to_contain_text("PASS")
        slider = page.get_by_role("slider", name="False alarms")
        slider.press("End")
        expect(verdict).to_contain_text("FAIL")
        expect(page.get_by_text("9 would fail")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save this session as CSV").click()
        saved = tmp_path / "session.csv"
        download.value.save_as(saved)
        stranger = chromium.new_context().new_page()  # another browser, at the same time
        stranger.set_default_timeout(1000 * SECONDS)
        stranger.goto(address)
        expect(stranger.get_by_test_id("stFileUploaderDropzoneInput")).to_have_count(1)
        expect(stranger.get_by_text("This session")).to_have_count(0)
        expect(stranger.get_by_test_id("stHtml").get_by_role("status")).to_have_count(0)
        expect(verdict).to_contain_text("FAIL")
        chromium.close()
    with open(saved, encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["image"], row["decision"], row["tried_rate"], row["tried_decision"]) == (
        name,
        "pass",
        "0.5",
        "fail",
    )
    assert float(row["tried_threshold"]) < float(row["image_score"]) <= float(row["threshold"])
