"""ONNX Runtime and OpenVINO answer alike, obey their threads, and say what they cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import andon
from andon.artifact import GOLDEN_MAP, MODEL
from andon.cli import andon as program
from andon.data.synthetic import write_line
from andon.errors import ArtifactError, MissingExtraError, SettingsError
from andon.image import decode
from andon.runtime import providers
from andon.runtime.predictor import Predictor
from andon.runtime.providers import PROVIDERS, Port, golden_tolerance, open_graph
from fakes import FakeBackbone

SIZE = (64, 96)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_line(tmp_path_factory.mktemp("line"), train=12, test_good=2, per_defect=1, size=SIZE, seed=0)


@pytest.fixture(scope="module", params=["float32", "int8"])
def part(request: pytest.FixtureRequest, line: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact, its convolutions in floats or in 8 bits."""
    path = tmp_path_factory.mktemp("part") / f"{request.param}.andon"
    andon.fit(line, path, backbone=FakeBackbone(), size=SIZE, bank_limit=100, buffer_limit=2000, int8=request.param == "int8")  # fmt: skip
    return path


def photos(line: Path) -> list[Path]:
    return sorted((line / "test").rglob("*.png"))


def test_both_answer_alike(part: Path, line: Path) -> None:
    ours, other = (andon.load(part, provider=provider, threads=1) for provider in PROVIDERS)
    allowed = golden_tolerance(ours.manifest, "f32") / 10
    for photo in photos(line):
        expected, found = ours.measure(photo), other.measure(photo)
        assert np.abs(found.anomaly_map - expected.anomaly_map).max() <= allowed * expected.anomaly_map.max()
        assert found.image_score == pytest.approx(expected.image_score, rel=allowed)
        assert other.inspect(photo).decision == ours.inspect(photo).decision


@pytest.mark.parametrize("provider", PROVIDERS)
def test_several_images_in_one_run_answer_as_each_alone(part: Path, line: Path, provider: str) -> None:
    predictor = andon.load(part, provider=provider)
    images = [predictor.preprocessing.apply(decode(path).pixels).images for path in photos(line)[:3]]
    graph = open_graph(predictor.artifact.members[MODEL], provider=provider)
    together = graph.run(np.concatenate(images))
    for number, image in enumerate(images):
        alone = graph.run(image)
        np.testing.assert_allclose(together["anomaly_map"][number], alone["anomaly_map"][0], rtol=1e-4)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_one_predictor_in_several_threads(part: Path, line: Path, provider: str) -> None:
    predictor, paths = andon.load(part, provider=provider, threads=1), photos(line) * 5
    alone = [predictor.measure(path).image_score for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert [found.image_score for found in pool.map(predictor.measure, paths)] == alone


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads where Linux lists them")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_threads_are_obeyed(part: Path, provider: str) -> None:
    """A process with one thread for the graph has one thread less than a process with two."""
    counts = [threads_of_a_process(part, provider, threads) for threads in (1, 2)]
    assert counts[1] - counts[0] == min(2, os.cpu_count() or 1) - 1


def threads_of_a_process(part: Path, provider: str, threads: int) -> int:
    code = (
        "import os, sys, andon\n"
        "predictor = andon.load(sys.argv[1], provider=sys.argv[2], threads=int(sys.argv[3]))\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    command = [sys.executable, "-c", code, str(part), provider, str(threads)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_openvino_computes_in_32_bits_unless_asked(part: Path) -> None:
    graph = open_graph(andon.load(part).artifact.members[MODEL], provider="openvino")
    assert isinstance(graph, providers._OpenVino)
    compiled = graph.request.get_compiled_model()
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


class Core:
    """OpenVINO on a processor that can do what ``found`` says."""

    def __init__(self, *found: str) -> None:
        self.found = found

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return list(self.found)


def test_bf16_where_the_processor_has_it() -> None:
    providers._require_bf16(Core("FP32", "BF16"), "bf16")
    providers._require_bf16(Core("FP32"), "f32")
    message = r'no units for precision "bf16" \(OpenVINO finds FP32, INT8\)'
    with pytest.raises(SettingsError, match=message):
        providers._require_bf16(Core("FP32", "INT8"), "bf16")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": "tensorrt"}, "provider must be one of onnxruntime, openvino, got 'tensorrt'"),
        ({"precision": "fp16"}, "precision must be one of f32, bf16, got 'fp16'"),
        (
            {"precision": "bf16"},
            'precision "bf16" needs provider "openvino"; onnxruntime computes in f32 alone',
        ),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_refuses_what_there_is_not(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_graph(b"", **settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_without_openvino_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'pip install "andon\[openvino\]"'):
        open_graph(b"", provider="openvino")


@pytest.mark.parametrize(("provider", "name"), [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")])
def test_a_graph_that_is_none(provider: str, name: str) -> None:
    with pytest.raises(ArtifactError, match=f"{name} cannot load the artefact's graph"):
        open_graph(b"nothing", provider=provider)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_image_of_another_size(part: Path, provider: str) -> None:
    graph = open_graph(andon.load(part).artifact.members[MODEL], provider=provider)
    with pytest.raises(ArtifactError, match="cannot be run on this machine"):
        graph.run(np.zeros((1, 3, 32, 32), np.float32))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_graph_of_another_size_than_the_manifest_says(part: Path, provider: str) -> None:
    artifact = andon.load(part).artifact
    other = {**artifact.manifest["preprocessing"], "size": [96, 96]}
    message = (
        r"takes images \(N, 3, 64, 96\) of float32; its manifest says images \(N, 3, 96, 96\) of float32"
    )
    with pytest.raises(ArtifactError, match=message):
        Predictor(artifact.with_manifest(preprocessing=other), provider=provider)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_another_answer_to_the_golden_input_is_noticed(part: Path, provider: str) -> None:
    artifact = andon.load(part).artifact
    content = artifact.members[GOLDEN_MAP]
    header = len(content) - 4 * SIZE[0] * SIZE[1]
    wrong = (np.frombuffer(content[header:], np.float32) * 1.2).astype(np.float32).tobytes()
    members = {**artifact.members, GOLDEN_MAP: content[:header] + wrong}
    with pytest.raises(ArtifactError, match=f"Update {provider} and pillow here, or fit again here"):
        Predictor(replace(artifact, members=members), provider=provider)


def test_the_tolerance_is_that_of_the_numbers() -> None:
    floats, bytes_ = ({"detector": {"convolutions": kind}} for kind in ("float32", "int8"))
    assert golden_tolerance(floats, "f32") == golden_tolerance({}, "f32") == 1e-3
    assert golden_tolerance(bytes_, "f32") == golden_tolerance(floats, "bf16") == 0.05


def test_another_threshold_keeps_the_provider(part: Path, line: Path) -> None:
    predictor = andon.load(part, provider="openvino")
    moved = replace(predictor.calibration, threshold=predictor.calibration.threshold * 2)
    changed = predictor.recalibrated(moved)
    assert changed._graph is predictor._graph
    assert changed.calibration == moved != predictor.calibration
    assert changed.inspect(photos(line)[0]).image_score == predictor.inspect(photos(line)[0]).image_score
    assert changed.manifest["history"][0]["calibration"] == predictor.manifest["calibration"]


def test_a_port_takes_what_fits() -> None:
    assert Port("float32", (None, 3, 8, None)).takes(Port("float32", (None, 3, 8, 9)))
    assert not Port("float32", (None, 3, 8, 8)).takes(Port("float32", (None, 3, 8, 9)))
    assert not Port("float32", (None, 3)).takes(Port("float32", (None, 3, 8)))
    assert not Port("uint8", (None, 3)).takes(Port("float32", (None, 3)))


def test_the_command_line(part: Path, line: Path) -> None:
    verdicts = []
    for provider in PROVIDERS:
        done = CliRunner().invoke(
            program, ["inspect", str(part), str(line / "test"), "--provider", provider, "--jsonl", "-"], standalone_mode=False
        )  # fmt: skip
        verdicts.append([json.loads(row)["decision"] for row in done.stdout.splitlines()])
    assert verdicts[0] == verdicts[1] != []


def test_the_command_line_refuses_bf16_without_openvino(part: Path, line: Path) -> None:
    done = CliRunner().invoke(
        program, ["inspect", str(part), str(line), "--precision", "bf16"], standalone_mode=False
    )
    assert isinstance(done.exception, SettingsError)
