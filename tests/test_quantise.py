"""8-bit export: close to the 32-bit graph, smaller, and the threshold is set on what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import andon
from andon.data.synthetic import write_line
from andon.errors import DataError
from andon.quantise import OBSERVED_AT_MOST, inner_convolutions, quantise


class Net(nn.Module):
    """A few convolutions, a distance and a blur, as detectors have them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.down = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)
        self.beside, self.measured = nn.Conv2d(64, 64, 3, 1, 1), nn.Conv2d(64, 48, 1)
        self.blur = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.down(self.first(images).relu()).relu()
        features = self.measured((x + self.beside(x)).relu())
        distances = torch.cdist(features.flatten(2).transpose(1, 2), torch.ones(1, 5, 48))
        return self.blur(distances[:, None])


@pytest.fixture(scope="module")
def graph() -> bytes:
    program = torch.onnx.export(
        Net().eval(),
        (torch.rand(1, 3, 32, 48),),
        input_names=["images"],
        dynamo=True,
        opset_version=20,
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, 3, 32, 48), dtype=np.float32)


def answer(graph: bytes, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"images": batch})[0]
    return found


def test_answers_nearly_as_before_and_is_smaller(graph: bytes) -> None:
    small = quantise(graph, [images(8), images(8, seed=1)])
    before, after = answer(graph, images(1, seed=2)), answer(small, images(1, seed=2))
    assert 0 < np.abs(before - after).max() < 0.05 * np.ptp(before)
    assert len(small) < 0.5 * len(graph)
    kinds = [node.op_type for node in onnx.load_from_string(small).graph.node]
    assert kinds.count("Conv") == 5
    assert "QuantizeLinear" in kinds


def test_what_sees_the_photograph_or_is_measured_stays_in_floats(graph: bytes) -> None:
    model = onnx.load_from_string(graph).graph
    shapes = {weight.name: list(weight.dims) for weight in model.initializer}
    weights = {node.name: shapes[node.input[1]] for node in model.node if node.op_type == "Conv"}
    assert [weights[name] for name in inner_convolutions(model)] == [[64, 32, 3, 3], [64, 64, 3, 3]]


def test_a_graph_without_inner_convolutions_is_left_as_it_is() -> None:
    program = torch.onnx.export(
        nn.Conv2d(3, 4, 3), (torch.rand(1, 3, 32, 48),), input_names=["images"], dynamo=True, verbose=False
    )
    assert program is not None
    content = program.model_proto.SerializeToString()
    assert quantise(content, [images(2)]) == content


def test_the_same_images_give_the_same_graph(graph: bytes) -> None:
    assert quantise(graph, [images(4)]) == quantise(graph, [images(4)])


def test_looks_at_a_bounded_number_of_images(graph: bytes) -> None:
    asked = 0

    def endless() -> object:
        nonlocal asked
        while True:
            asked += 8
            yield images(8)

    quantise(graph, endless())  # type: ignore[arg-type]
    assert asked <= OBSERVED_AT_MOST + 8


def test_without_images_says_so(graph: bytes) -> None:
    with pytest.raises(DataError, match="8-bit export takes the ranges from good images, and there is none"):
        quantise(graph, [])


def test_a_detector_fitted_for_8_bits_is_calibrated_on_them(tmp_path: Path) -> None:
    line = write_line(tmp_path, train=16, test_good=1, per_defect=1, size=(96, 128), seed=0)
    whole, small = (
        andon.fit(line, tmp_path / f"{int8}.andon", size=(96, 128), bank_limit=100, int8=int8)
        for int8 in (False, True)
    )
    assert small.manifest["detector"]["convolutions"] == "int8"
    assert whole.manifest["detector"]["convolutions"] == "float32"
    assert len((tmp_path / "True.andon").read_bytes()) < len((tmp_path / "False.andon").read_bytes())
    assert small.calibration.threshold == pytest.approx(whole.calibration.threshold, rel=0.1)
    assert small.calibration.threshold != whole.calibration.threshold
    andon.load(tmp_path / "True.andon")  # its golden answer is the 8-bit graph's
