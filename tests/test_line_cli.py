"""``andon watch`` with a detector: its files, part numbers, drift, signals, refusals."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from andon.cli.watch import command
from andon.errors import AndonError, BusyError, SettingsError
from andon.files import single_writer
from andon.records import open_records
from andon.runtime.line.codes import read_codes
from andon.runtime.monitor import read_monitor
from andon.runtime.predictor import Predictor
from lines import Pixels, difference_detector, documents, logged, striped, until
from test_line_mqtt import MOSQUITTO, Amqtt, Listener, Mosquitto

Watch = Callable[..., tuple[int, str, str]]


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def scratched(seed: int) -> Pixels:
    pixels = striped(seed).copy()
    pixels[20:44, 30:54] = np.random.default_rng(seed).integers(0, 255, (24, 24, 1))
    return pixels


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return difference_detector(tmp_path_factory.mktemp("part") / "part.andon")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(artifact: Path, folder: Path, tmp_path: Path) -> Watch:
    def run(*arguments: object) -> tuple[int, str, str]:
        given = [folder, "--artifact", artifact, "-o", tmp_path / "out", "--once", "--threads", 1, "--poll", 0.01,
                 "--settle", 0.02, "--patience", 0.1, "--language", "en", *arguments]  # fmt: skip
        done = CliRunner().invoke(command, list(map(str, given)), standalone_mode=False)
        if done.exception:
            raise done.exception
        return done.return_value, done.stdout, done.stderr

    return run


def test_what_it_writes(watch: Watch, folder: Path, tmp_path: Path) -> None:
    save(folder / "L7_A1.png", striped(100))
    save(folder / "L7_A2.png", scratched(101))
    (folder / "L8_A3.png").write_bytes(b"no image")
    save(folder / "other.png", striped(102))
    done, rejects = tmp_path / "done", tmp_path / "rejects"
    status, printed, said = watch("--name-pattern", "L{lot}_{part}.png", "--overlay", "not-passed", "--move-to", f"pass={done}",
                                  "--move-to", f"fail={rejects}")  # fmt: skip
    assert status == 0
    out = tmp_path / "out"
    found = {str(one["name"]): one for one in documents(out)}
    assert {name: (one["part"], one["decision"]) for name, one in found.items()} == {
        "L7_A1.png": ("A1", "pass"), "L7_A2.png": ("A2", "fail"), "L8_A3.png": ("A3", "error"),
        "other.png": ("other", "pass")}  # fmt: skip
    assert found["L7_A2.png"]["fields"] == {"lot": "7", "part": "A2"}
    assert found["other.png"]["notes"] == ["the file's name does not fit the pattern 'L{lot}_{part}.png'"]
    assert found["L7_A2.png"]["regions"]
    assert found["L7_A2.png"]["path"] == str(folder / "L7_A2.png")
    assert Image.open(out / str(found["L7_A2.png"]["overlay"])).size == (96, 64)
    assert found["L7_A1.png"]["overlay"] == ""
    assert sorted(path.name for path in done.iterdir()) == ["L7_A1.png", "other.png"]
    assert [path.name for path in folder.iterdir()] == ["L8_A3.png"]
    rows = list(csv.DictReader(next((out / "log").iterdir()).open(newline="")))
    assert [row["decision"] for row in rows] == [str(one["decision"]) for one in documents(out)]
    assert "FAIL" in printed
    assert "ERROR    -    A3  cannot read these 8 bytes" in printed
    assert f"Watching {folder}; results in {out}; 0 parts inspected before." in said
    assert json.loads((out / "status.json").read_text())["artifact"] == "part.andon"


def labelled(pixels: Pixels, text: str) -> Pixels:
    """A larger photograph (256, 384, 3) of the part with a QR code of ``text`` on it."""
    larger = pixels.repeat(4, 0).repeat(4, 1).copy()
    code = np.asarray(cv2.QRCodeEncoder.create().encode(text)).repeat(3, 0).repeat(3, 1)
    larger[40 : 40 + len(code), 40 : 40 + len(code)] = code[..., None]
    return larger


def bars() -> Pixels:
    """A label (270, 465, 3) with EAN-13 5901234123457: start, six digits, middle, six digits, end; 1 is a bar."""
    left, right = "000101101001110110011001001101111010011101", "110011011011001000010101110010011101000100"
    row = np.array([255 * (bit == "0") for bit in f"101{left}01010{right}101"], np.uint8).repeat(3)
    return np.pad(np.tile(row, (90, 1)), 90, constant_values=255)[..., None].repeat(3, 2)


def test_codes() -> None:
    assert read_codes(labelled(striped(1), "LOT 4711")) == ("LOT 4711",)
    assert read_codes(bars()) == ("5901234123457",)
    assert read_codes(striped(1)) == ()


def test_the_part_number_is_read_from_its_code(watch: Watch, folder: Path, tmp_path: Path) -> None:
    save(folder / "1.png", labelled(striped(1), "A-17"))
    save(folder / "2.png", labelled(striped(2), "")[:, :, ::-1] * 0 + 99)
    watch("--read-code", "--log", "none")
    one, two = documents(tmp_path / "out")
    assert (one["part"], one["codes"]) == ("A-17", ["A-17"])
    assert (two["part"], two["codes"]) == ("2", [])
    assert "no code could be read" in two["notes"]  # type: ignore[operator]
    assert not (tmp_path / "out" / "log").exists()


def test_a_fault_is_the_result_of_its_photograph_alone(
    watch: Watch, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = Predictor.inspect

    def faulty(self: Predictor, image: bytes, **options: object) -> object:
        if str(options["path"]).endswith("1.png"):
            raise IndexError("out of bounds")
        return inspect(self, image, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "inspect", faulty)
    for number in (1, 2):
        save(folder / f"{number}.png", striped(number))
    watch()
    assert [one["error"] for one in documents(tmp_path / "out") if one["error"]] == [
        "a fault in the program: IndexError: out of bounds"]  # fmt: skip


def test_drift_is_in_the_messages(watch: Watch, folder: Path, tmp_path: Path) -> None:
    for number in range(45):
        save(folder / f"{number:03}.png", striped(200 + number, 0.8))
    state = tmp_path / "state.json"
    _, _, said = watch("--monitor", state, "-q")
    assert "Drift: " in said
    assert "of the parts score high, where at most" in said
    noted = [one for one in documents(tmp_path / "out") if one["drift"]]
    assert any("score high" in text for one in noted for text in one["drift"])  # type: ignore[attr-defined]
    assert any(
        "score high" in text for text in json.loads((tmp_path / "out/status.json").read_text())["drift"]
    )
    assert read_monitor(state).images == 45


def test_verdicts_go_into_the_records(watch: Watch, folder: Path, tmp_path: Path) -> None:
    save(folder / "1.png", striped(100))
    save(folder / "2.png", scratched(101))
    (folder / "3.png").write_bytes(b"no image")
    station = tmp_path / "station.db"
    watch("--records", station, "--overlay", "not-passed", "--move-to", f"fail={tmp_path / 'rejects'}")
    watch("--records", station)
    with open_records(station, create=False) as records:
        good, bad = records.each()
        assert [(row.who, row.part, row.decision) for row in (good, bad)] == [
            ("out", "1", "pass"),
            ("out", "2", "fail"),
        ]
        assert records.picture(bad.image_hash) == (tmp_path / "rejects" / "2.png").read_bytes()
        assert Image.open(io.BytesIO(records.picture(bad.overlay_hash) or b"")).size == (96, 64)
        assert records.picture(good.image_hash) is None
        document = documents(tmp_path / "out")[1]
        assert (bad.image_score, bad.sentence) == (document["image_score"], document["sentence"])
        assert [region.box for region in bad.regions] == [tuple(one["box"]) for one in document["regions"]]  # type: ignore[attr-defined]
        assert records.verify().fits
    with pytest.raises(click.UsageError, match="--pictures is for --records"):
        watch("--pictures", tmp_path)


def test_only_one_at_a_time(watch: Watch, tmp_path: Path) -> None:
    with single_writer(tmp_path / "out" / "line.sqlite"):
        with pytest.raises(
            BusyError,
            match="another andon watch runs on .*line.sqlite. Only one may: end it, or give this one another",
        ):
            watch()  # fmt: skip


def test_it_refuses(watch: Watch, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match="--move-to takes DECISION=FOLDER, once for each of pass, review, fail, error"
    ):
        watch("--move-to", "good=/tmp")  # fmt: skip
    with pytest.raises(SettingsError, match="--name-pattern: expected a pattern of paths"):
        watch("--name-pattern", "*.png")
    with pytest.raises(click.UsageError, match="are for --mqtt; give that, too"):
        watch("--mqtt-ca", "x.pem")
    with pytest.raises(SettingsError, match="cannot read --mqtt-login"):
        watch("--mqtt", "mqtt://b/x", "--mqtt-login", tmp_path / "none")
    with pytest.raises(SettingsError, match="lies in the watched folder"):
        watch("--recursive", "--move-to", f"pass={folder / 'done'}")
    with pytest.raises(AndonError, match="is not a folder. Give the folder that the camera writes to"):
        folder.rmdir()
        watch()
    folder.mkdir()
    watch()
    (tmp_path / "out" / "parts").mkdir()
    (tmp_path / "out" / "line.sqlite").unlink()
    with pytest.raises(SettingsError, match="holds the results of a line whose store is not there"):
        watch()


def test_killed_and_asked_to_end(artifact: Path, folder: Path, tmp_path: Path) -> None:
    """The program itself, with a broker: kill -9 in the middle, then again, then SIGTERM."""
    out, broker = tmp_path / "out", (Mosquitto(tmp_path) if MOSQUITTO else Amqtt()).start()
    listener = Listener(broker.port)
    for number in range(40):
        save(folder / f"{number:03}.png", striped(300 + number))
    arguments = ["watch", folder, "--artifact", artifact, "-o", out, "--threads", 1, "--settle", 0.02,
                 "--mqtt", f"mqtt://127.0.0.1:{broker.port}/line3", "--records", tmp_path / "station.db", "-q"]  # fmt: skip
    run = [sys.executable, "-m", "andon", *map(str, arguments)]
    try:
        process = subprocess.Popen(run)
        until(lambda: len(listener.numbers()) > 2, 30)
        process.kill()
        process.wait()
        assert len(documents(out)) < 40
        process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
        until(lambda: listener.numbers() and listener.numbers()[-1] == 40, 30)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
        listener.close()
        broker.stop()
    assert process.returncode == 0, said
    assert [one["sequence"] for one in documents(out)] == list(range(1, 41))
    assert {str(one["name"]) for one in documents(out)} == {f"{number:03}.png" for number in range(40)}
    assert [int(row.split(",")[0]) for row in logged(out)] == list(range(1, 41))
    heard = listener.numbers()
    assert list(dict.fromkeys(heard)) == list(range(1, 41))
    assert heard.count(1) >= 1
    assert "lost" in listener.states()
    assert listener.states()[-1] == "stopped"
    with open_records(tmp_path / "station.db", create=False) as records:
        assert [row.sequence for row in records.each()] == list(range(1, 41))
        assert records.verify().fits
