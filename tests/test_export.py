"""The exported graph: proven against torch before anything is written."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

from andon.errors import ArtifactError, NotFittedError
from andon.export import golden_picture, to_onnx
from andon.models.base import Detector, Scores, State


class Brightness(Detector):
    """Scores by brightness; ``drift`` makes torch answer otherwise each time, as no detector may, for the first
    ``drifting`` images."""

    title, paper = "Brightness", "none"

    def __init__(self, drift: float = 0.0, fitted: bool = True, drifting: int = 3) -> None:
        super().__init__()
        self.drift, self.fitted, self.drifting, self.calls = drift, fitted, drifting, 0

    def reset(self) -> None: ...
    def observe(self, images: Tensor) -> None: ...
    def statistics(self) -> State:
        return {}

    def load_statistics(self, state: State) -> None: ...
    def close(self, held_out: Iterable[Tensor] = (), *, progress: object = None) -> None: ...

    @property
    def is_fitted(self) -> bool:
        return self.fitted

    def forward(self, images: Tensor) -> Scores:
        anomaly_map = images.mean(1, keepdim=True)
        if not torch.compiler.is_compiling():
            self.calls += 1
            anomaly_map[: self.drifting] *= 1 + self.drift * self.calls
        return Scores(anomaly_map, anomaly_map.amax((1, 2, 3)), images if self.drift == 0 else None)


def test_any_batch_and_the_reconstruction() -> None:
    session = onnxruntime.InferenceSession(
        to_onnx(Brightness(), (32, 64)), providers=["CPUExecutionProvider"]
    )
    for batch in (1, 2, 5):
        images = torch.rand(batch, 3, 32, 64)
        anomaly_map, image_score, reconstruction = session.run(None, {"images": images.numpy()})
        assert anomaly_map.shape == (batch, 1, 32, 64)
        assert np.allclose(image_score, images.mean(1).amax((1, 2)), atol=1e-6)
        assert np.array_equal(reconstruction, images.numpy())


def test_a_graph_that_answers_otherwise_is_refused() -> None:
    with pytest.raises(
        ArtifactError,
        match=r"the exported graph's anomaly_map differs from torch's by .* nothing was written",
    ):
        to_onnx(Brightness(drift=0.5), (32, 32))


class Quantised(Brightness):
    quantises = True


def test_of_codes_equally_near_the_last_bit_may_decide() -> None:
    to_onnx(Quantised(drift=0.5, drifting=2), (32, 32))
    with pytest.raises(ArtifactError, match="differs from torch's"):
        to_onnx(Quantised(drift=0.5), (32, 32))
    with pytest.raises(ArtifactError, match="differs from torch's"):
        to_onnx(Brightness(drift=0.5, drifting=1), (32, 32))


def test_unfitted_is_refused() -> None:
    with pytest.raises(NotFittedError, match="Brightness has not been fitted"):
        to_onnx(Brightness(fitted=False), (32, 32))


def test_the_golden_picture_is_the_same_everywhere() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(golden_picture())))
    assert pixels.shape == (120, 160, 3)
    assert pixels.dtype == np.uint8
    assert int(pixels.astype(np.int64).sum()) == 6_660_142
    assert golden_picture() == golden_picture()
