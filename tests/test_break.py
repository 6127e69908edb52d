"""What a hostile user, a full disk and Ctrl-C do to the command line: one sentence, the right status, nothing lost.

One small detector, fitted once on drawn parts with a fake backbone; commands run in this process where they can.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import andon
from andon.artifact import GOLDEN_MAP, MODEL, read_artifact
from andon.cli import main
from andon.cli.common import Bars
from andon.cli.inspect import unique_names
from andon.errors import AndonError, ArtifactError, CalibrationError, DataError, SettingsError
from andon.files import atomic_write, check_writable
from andon.pipeline import recalibrate
from andon.runtime.predictor import Predictor
from fakes import FakeBackbone

FAST: dict[str, Any] = {"bank_limit": 60, "buffer_limit": 500, "size": (64, 64), "batch_size": 2}


class Parts(NamedTuple):
    """What all tests share; nobody writes into it."""

    good: Path
    artifact: Path
    image: Path


class Done(NamedTuple):
    status: object
    out: str
    err: str


def draw(path: Path, seed: int) -> Path:
    """A striped part with noise."""
    rng = np.random.default_rng(seed)
    pixels = 120 + 40 * np.sin(np.arange(64) / 4)[None, :, None] + rng.normal(0, 6, (64, 64, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "PNG")
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("break")
    images = [draw(folder / "good" / f"{number:02}.png", number) for number in range(12)]
    andon.fit(folder / "good", folder / "part.andon", backbone=FakeBackbone(), **FAST)
    return Parts(folder / "good", folder / "part.andon", images[0])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in this process."""

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        text = capsys.readouterr()
        return Done(ended.value.code, text.out, text.err)

    return call


def in_process_of_its_own(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A shell command in which $ANDON stands for the program."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ANDON": f"{sys.executable} -m andon"}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process a signal when a phase has come so far."""

    def at(phase: str, done: int, number: int = signal.SIGINT) -> None:
        def call(self: Bars, now: str, so_far: int, total: int) -> None:
            if now == phase and so_far >= done:
                signal.raise_signal(number)

        monkeypatch.setattr(Bars, "__call__", call)

    return at


# --- names and arguments ------------------------------------------------------------------------------------


def test_file_names_that_are_no_text(parts: Parts, tmp_path: Path, run: Callable[..., Done]) -> None:
    names = [
        b"a b.png",
        b"\xc3\xbc.png",
        b"new\nline.png",
        b"\x1b[31m.png",
        b"100%d.png",
        b"\xff.png",
        b"'\".png",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(parts.image.read_bytes())
    done = run(
        "inspect", parts.artifact, tmp_path, "--csv", tmp_path / "v.csv", "--save-maps", tmp_path / "maps"
    )
    assert done.status in (0, 1), done.err
    assert "\x1b" not in done.out
    assert "new\\nline.png" in done.out
    assert len(done.out.splitlines()) == len(names) + 1
    assert len(list(csv.DictReader((tmp_path / "v.csv").open()))) == len(names)
    assert len(list((tmp_path / "maps").iterdir())) == len(names)


def test_same_stems_make_different_files() -> None:
    images = [Path(name) for name in ("a/1.png", "a/1.jpg", "b/1.png", "a_1_png.png", "b/2.png", "b/2.png")]
    names = unique_names(images)
    assert len(set(names.values())) == 5
    assert names[Path("b/2.png")] == "2"
    deep = Path("/".join(["folder" * 10] * 30))
    long = unique_names([deep / "1.png", deep / "x" / "1.png"])
    assert all(len(os.fsencode(name)) < 250 for name in long.values())
    assert len(set(long.values())) == 2


def test_names_of_thousands_of_images_take_no_time() -> None:
    import time

    images = [Path(f"{folder}/{number}.png") for folder in "ab" for number in range(20_000)]
    start = time.perf_counter()
    assert len(set(unique_names(images).values())) == 40_000
    assert time.perf_counter() - start < 5


def test_an_empty_argument_is_not_the_current_folder(parts: Parts, run: Callable[..., Done]) -> None:
    for command in (["inspect", parts.artifact, ""], ["fit", "", "-o", "x.andon"]):
        done = run(*command)
        assert done.status == 2
        assert "one of the arguments is empty" in done.err


def test_a_list_with_windows_line_ends_and_other_bytes(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Done]
) -> None:
    lines = os.fsencode(parts.image) + b"\r\n\r\nmissing.png\r\n\xff.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    done = run("inspect", parts.artifact, "-")
    assert done.status == 2
    assert "3 images:" in done.out
    assert "2 could not be inspected" in done.out
    assert "cannot read 'missing.png': no such file or directory" in done.out


def test_more_threads_than_cores_do_not_stall(parts: Parts, run: Callable[..., Done]) -> None:
    for threads in (1000, 2**40):
        assert run("inspect", parts.artifact, parts.image, "--threads", threads).status in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--set", "size=5"],
            "size is not a setting of the method; give it as an option of andon fit: --size",
        ),
        (["--set", "seed=5"], "--seed"),
        (["--set", "progress=5"], "progress is not a setting of the method"),
        (["--set", "options=5"], "options is not a setting of the method"),
        (["--set", "batch_size=abc"], "batch_size must be a whole number of at least 1, got 'abc'"),
        (["--set", 'checkpoint_seconds="x"'], "checkpoint_seconds must be a number"),
        (["--set", "backbone=3"], "backbone must be a name in quotes, got 3"),
        (
            ["--config", "{config}"],
            "[patchcore] is a table; expected the method's settings at the top of the file",
        ),
        (["--seed", "-1"], "seed must be a whole number of at least 0"),
        (["--size", "33x47"], "multiple of 32"),
        (["--calibration", "{good}"], "all 12 good images of"),
    ],
)
def test_settings_that_make_no_sense(
    parts: Parts, tmp_path: Path, run: Callable[..., Done], arguments: list[str], text: str
) -> None:
    (tmp_path / "c.toml").write_text("[patchcore]\ncoreset_fraction = 0.1\n")
    filled = [argument.format(good=parts.good, config=tmp_path / "c.toml") for argument in arguments]
    done = run("fit", parts.good, "-o", tmp_path / "out" / "x.andon", *filled)
    assert done.status == 2
    assert text in done.err
    assert not list(tmp_path.rglob("*.andon*"))


def test_negative_seed_of_the_bootstrap(parts: Parts, run: Callable[..., Done]) -> None:
    assert "-1 is not in the range" in run("evaluate", parts.artifact, parts.good, "--seed", "-1").err


# --- the threshold's images --------------------------------------------------------------------------------------


def test_images_fitted_on_set_no_threshold(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="byte for byte: a threshold set on them would be too low"):
        andon.fit(parts.good, backbone=FakeBackbone(), calibration=parts.good, **FAST)
    for number in range(3):
        draw(tmp_path / f"{number}.png", 100 + number)
    (tmp_path / "copy.png").write_bytes(parts.image.read_bytes())
    data = andon.fit(parts.good, backbone=FakeBackbone(), calibration=tmp_path, **FAST).manifest["data"]
    assert (data["train"], data["calibration"], data["calibration_left_out"]) == (12, 3, 1)


def test_calibrating_on_defects_broken_or_shared_images(parts: Parts, tmp_path: Path) -> None:
    predictor = Predictor.open(parts.artifact)
    draw(tmp_path / "mixed" / "scratch" / "1.png", 1)
    with pytest.raises(DataError, match="the names of these folders suggest defects: scratch"):
        recalibrate(predictor, tmp_path / "mixed")
    with pytest.raises(DataError, match="12 images are given as good and as bad"):
        recalibrate(predictor, parts.good, parts.good)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_text("no image")
    with pytest.raises(DataError, match="none of the 1 images in .*broken could be read"):
        recalibrate(predictor, tmp_path / "broken")
    with pytest.raises(DataError, match="none of the 1 images in .*broken could be read"):
        recalibrate(predictor, parts.good, tmp_path / "broken")


# --- files that are written ------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_device_is_written_and_never_replaced(parts: Parts, run: Callable[..., Done]) -> None:
    assert run("inspect", parts.artifact, parts.image, "--csv", "/dev/null").status in (0, 1)
    assert Path("/dev/null").is_char_device()
    done = run("inspect", parts.artifact, parts.image, "--csv", "/dev/full")
    assert done.status == 2
    assert "cannot write /dev/full: No space left on device" in done.err
    assert Path("/dev/full").is_char_device()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_write(tmp_path / "link.txt", "w") as file:
        file.write("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("x" * 250), "w") as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 250]


def test_outputs_are_checked_before_the_work(parts: Parts, tmp_path: Path, run: Callable[..., Done]) -> None:
    (tmp_path / "file").write_text("")
    commands: list[list[object]] = [
        ["inspect", parts.artifact, parts.image, "--csv"],
        ["inspect", parts.artifact, parts.image, "--jsonl"],
        ["evaluate", parts.artifact, parts.good, "--json"],
        ["calibrate", parts.artifact, "--good", parts.good, "-o"],
        ["report", parts.artifact, parts.image, "-o"],
        ["fit", parts.good, "-o"],
    ]
    for command in commands:
        done = run(*command, tmp_path)
        assert done.status == 2
        assert not done.out
        assert f"cannot write {tmp_path}: it is a folder. Give the name of a file" in done.err
        done = run(*command, tmp_path / "file" / "x")
        assert done.status == 2
        assert "is a file, not a folder. Choose another folder" in done.err
    done = run("inspect", parts.artifact, parts.image, "--save-maps", tmp_path / "file")
    assert done.status == 2
    assert not done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_no_photograph_and_no_detector_is_written_over(parts: Parts, run: Callable[..., Done]) -> None:
    """As an unquoted * after an option would."""
    before = parts.image.read_bytes(), parts.artifact.read_bytes()
    for command in (
        ["inspect", parts.artifact, parts.image, "--csv", parts.image],
        ["inspect", parts.artifact, parts.image, "--jsonl", parts.artifact],
        ["report", parts.artifact, parts.good, "-o", parts.artifact],
        ["evaluate", parts.artifact, parts.good, "--html", parts.image],
        ["calibrate", parts.artifact, "--good", parts.good, "-o", parts.image],
        ["fit", parts.good, "-o", parts.image],
    ):
        done = run(*command)
        assert done.status == 2
        assert "is to be written, but is named like a" in done.err
    assert (parts.image.read_bytes(), parts.artifact.read_bytes()) == before


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(None, tmp_path / "new" / "x.csv", "/dev/null")
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Every flush to the disk after the first ``after`` of them says that the disk is full."""
    count = 0

    def fsync(handle: int) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def test_a_full_disk_keeps_what_there_was(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.andon"
    target.write_text("old")
    for after in (0, 1):  # while the checkpoint is written, while the artefact is
        with full_disk(monkeypatch, after), pytest.raises(AndonError, match="No space left on device"):
            andon.fit(parts.good, target, backbone=FakeBackbone(), **FAST)
        assert target.read_text() == "old"
        assert not list(tmp_path.glob(".*"))


def test_a_full_disk_in_the_middle_of_a_batch(
    parts: Parts, tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two overlays fit on the disk; the third is said, and what was answered is not lost."""
    import andon.runtime.picture as picture

    whole = picture.atomic_write
    calls = []

    def filling(path: Path) -> Any:
        calls.append(path)
        if len(calls) > 2:
            raise AndonError(f"cannot write {path}: No space left on device.")
        return whole(path)

    monkeypatch.setattr(picture, "atomic_write", filling)
    done = run(
        "inspect", parts.artifact, parts.good, "--save-maps", tmp_path / "m", "--csv", tmp_path / "v.csv"
    )
    assert done.status == 2
    assert "Stopped after 2 of 12 images; their answers are in" in done.err
    assert "No space left on device" in done.err
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_raw_map_on_a_full_disk_is_said_in_words(
    parts: Parts, tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("andon.cli.inspect.unique_names", lambda images: dict.fromkeys(images, "full"))
    (tmp_path / "full.npy").symlink_to("/dev/full")
    done = run("inspect", parts.artifact, parts.image, "--save-raw", tmp_path)
    assert done.status == 2
    assert "No space left on device" in done.err


# --- stopped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_inspect_stopped_keeps_its_answers(
    parts: Parts,
    tmp_path: Path,
    run: Callable[..., Done],
    stopping: Callable[..., None],
    number: int,
    status: int,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopping("inspect", 3, number)
    done = run("inspect", parts.artifact, parts.good, "--csv", tmp_path / "v.csv")
    assert done.status == status
    assert "Stopped after 3 of 12 images; their answers are in" in done.err
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 4
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("phase", ["observe", "close", "export", "calibrate"])
def test_a_fit_stopped_anywhere_and_resumed_is_the_same(parts: Parts, tmp_path: Path, phase: str) -> None:
    output, stopped = tmp_path / "x.andon", []

    def progress(now: str, done: int, total: int) -> None:
        if now == phase and not stopped and done >= (4 if phase == "observe" else 0):
            stopped.append(done)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        andon.fit(parts.good, output, backbone=FakeBackbone(), progress=progress, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["x.andon.partial"]
    resumed = andon.fit(parts.good, output, backbone=FakeBackbone(), resume=True, **FAST)
    assert resumed.artifact.members == read_artifact(parts.artifact).members
    assert [path.name for path in tmp_path.iterdir()] == ["x.andon"]


def test_ctrl_c_in_the_middle_of_a_batch_counts_it_whole(parts: Parts, tmp_path: Path) -> None:
    from andon.models.patchcore import PatchCore

    output, seen = tmp_path / "x.andon", []
    observe = PatchCore.observe

    def interrupted(self: PatchCore, images: Any) -> None:
        seen.append(len(images))
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        observe(self, images)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PatchCore, "observe", interrupted)
        andon.fit(parts.good, output, backbone=FakeBackbone(), **FAST)
    resumed = andon.fit(parts.good, output, backbone=FakeBackbone(), resume=True, **FAST)
    assert resumed.manifest["fit"]["resumed_at"] == 4
    assert resumed.artifact.members == read_artifact(parts.artifact).members


def test_a_stopped_fit_says_what_is_kept(
    parts: Parts, tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("andon.pipeline.fit", stopped)
    done = run("fit", parts.good, "-o", tmp_path / "x.andon")
    assert done.status == 130
    assert "--resume" not in done.err
    (tmp_path / "x.andon.partial").write_text("")
    done = run("fit", parts.good, "-o", tmp_path / "x.andon")
    assert "will be replaced" in done.err
    assert "go on with the same command and --resume" in done.err


def test_a_reader_that_has_read_enough(parts: Parts, tmp_path: Path) -> None:
    command = f"$ANDON inspect {parts.artifact} {parts.good} --csv v.csv | head -1; $ANDON inspect {parts.artifact} "
    done = in_process_of_its_own(command + f"{parts.good} --jsonl - | head -c 10", tmp_path)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "v.csv").read_text().startswith("path,decision")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_or_is_closed(parts: Parts, tmp_path: Path) -> None:
    done = in_process_of_its_own(f"$ANDON show {parts.artifact} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, "Error: cannot go on: No space left on device.\n")
    done = in_process_of_its_own(
        f"$ANDON show {parts.artifact} >&-; $ANDON inspect {parts.artifact} - <&-", tmp_path
    )
    assert done.returncode == 2
    assert done.stderr == "Error: there is no standard input to read the list of images from\n"


def test_a_bare_environment(parts: Parts, tmp_path: Path) -> None:
    """No HOME, no locale, warnings as errors, a narrow terminal that is none: words without escape codes."""
    images = tmp_path / "i"
    draw(images / "ü.png", 1)
    env = "env -i COLUMNS=20 PYTHONWARNINGS=error PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C"
    done = in_process_of_its_own(f"{env} $ANDON inspect {parts.artifact} {images} 2>&1", tmp_path)
    assert done.returncode in (0, 1), done.stdout
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 1


# --- artefacts --------------------------------------------------------------------------------------------------


def rebuilt(
    parts: Parts, change: Callable[[dict[str, Any]], None], members: dict[str, bytes] | None = None
) -> bytes:
    """The artefact with another manifest or members and a hash list that fits them."""
    whole = read_artifact(parts.artifact)
    manifest = json.loads(json.dumps(dict(whole.manifest)))
    content = {**whole.members, **(members or {})}
    manifest["members"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in content.items()
    }
    change(manifest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def setting(part: str, name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest[part].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (setting("preprocessing", "size", [32, 32]), "do not belong together"),
        (setting("preprocessing", "size", [2048, 2048]), "do not belong together"),
        (setting("preprocessing", "size", [8192, 8192]), "too many for a network at once"),
        (setting("preprocessing", "size", [float("nan"), 64]), "multiple of 32"),
        (setting("calibration", "threshold", 10**400), "expected a finite number"),
        (setting("calibration", "nominal_scores", [10**400]), "finite numbers"),
        (lambda manifest: manifest.update(data="x"), "expected a JSON object, found 'x'"),
        (lambda manifest: manifest.update(history=5), "expected a JSON list, found 5"),
        (lambda manifest: manifest.update(schema=99), "reads up to"),
    ],
)
def test_a_manifest_that_lies(parts: Parts, tmp_path: Path, change: Callable[..., None], text: str,
                              run: Callable[..., Done]) -> None:  # fmt: skip
    (tmp_path / "x.andon").write_bytes(rebuilt(parts, change))
    done = run("inspect", tmp_path / "x.andon", parts.image)
    assert done.status == 2
    assert text in done.err
    assert run("show", tmp_path / "x.andon").status in (0, 2)


def graph(inputs: list[tuple[str, list[object]]], outputs: list[str], kind: int = 1) -> bytes:
    """A valid ONNX graph that hands its first input to every output."""
    from onnx import helper

    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name in outputs]
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString())


FREE: list[object] = ["n", 3, "h", "w"]
BOTH = ["anomaly_map", "image_score"]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (graph([("images", FREE)], ["out"]), "does not answer anomaly_map and image_score"),
        (graph([("x", FREE)], BOTH), "do not belong together"),
        (graph([("images", FREE), ("k", [1])], BOTH), "do not belong together"),
        (graph([("images", FREE)], BOTH, kind=2), "do not belong together"),
        (graph([("images", [1, 3, 96, 96])], BOTH), "do not belong together"),
        (graph([("images", FREE)], BOTH), "answered a map"),
        (b"garbage", "cannot load the artefact's graph"),
    ],
)
def test_a_graph_of_another_kind(parts: Parts, model: bytes, text: str) -> None:
    with pytest.raises(ArtifactError, match=text):
        Predictor(read_artifact(rebuilt(parts, lambda manifest: None, {MODEL: model})))


@pytest.mark.parametrize(
    "answer",
    [
        np.full((64, 64), np.nan, np.float32),
        np.zeros((0, 0), np.float32),
        np.array(["a"]),
        np.array([{}], dtype=object),
    ],
)
def test_a_golden_map_that_proves_nothing(parts: Parts, answer: Any) -> None:
    buffer = io.BytesIO()
    np.save(buffer, answer, allow_pickle=True)
    for data in (buffer.getvalue(), b"junk"):
        with pytest.raises(ArtifactError, match="golden"):
            Predictor(read_artifact(rebuilt(parts, lambda manifest: None, {GOLDEN_MAP: data})))


def test_calibrations_in_python(parts: Parts) -> None:
    from andon.calibrate import calibration_from_dict

    content = dict(read_artifact(parts.artifact).manifest["calibration"], threshold=10**400)
    with pytest.raises(CalibrationError, match="expected a finite number"):
        calibration_from_dict(content)
    with pytest.raises(SettingsError, match="workers must be a whole number"):
        dataclasses.replace(andon.pipeline.FitOptions(), workers=-1)


# --- reports ------------------------------------------------------------------------------------------------------


def test_report_says_what_it_could_not_inspect(
    parts: Parts, tmp_path: Path, run: Callable[..., Done]
) -> None:
    pytest.importorskip("jinja2")
    (tmp_path / "a.png").write_text("no image")
    done = run("report", parts.artifact, tmp_path / "a.png", "-o", tmp_path / "r.html")
    assert done.status == 2
    assert "1 of 1 images could not be inspected" in done.err
    assert (tmp_path / "r.html").exists()
    done = run("report", parts.artifact, tmp_path / "a.png", parts.image, "-o", tmp_path / "r.html")
    assert done.status == 0
    assert "1 of 2 images could not be inspected; the first" in done.err
