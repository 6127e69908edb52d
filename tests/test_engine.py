"""The loop: order, resume, broken images, training steps."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from andon.engine import Checkpoint, Reader, fingerprint, fit, read_checkpoint
from andon.errors import DataError, ImageError, SettingsError
from andon.models.base import Detector, Scores, State


class Mean(Detector):
    """The mean good image, and one trained number."""

    title, paper = "Mean image", "none"

    def __init__(self, size: int = 4, steps: int = 0, stop_after: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.size, self.steps, self.stop_after, self.seed = size, steps, stop_after, seed
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(0))
        self.reset()

    def reset(self) -> None:
        self.total, self.count, self.held_out_seen = torch.zeros(3, self.size, self.size), 0, 0

    def observe(self, images: Tensor) -> None:
        if self.stop_after and self.count >= self.stop_after:
            signal.raise_signal(signal.SIGINT)
        self.total, self.count = self.total + images.sum(0), self.count + len(images)

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        return (self.scale - images.mean()).square()

    def statistics(self) -> State:
        return {"total": self.total, "count": torch.tensor(self.count)}

    def load_statistics(self, state: State) -> None:
        self.total, self.count = state["total"], int(state["count"])

    def close(self, held_out: Iterable[Tensor] = (), *, progress: object = None) -> None:
        self.held_out_seen = sum(len(images) for images in held_out)
        self.mean = self.total / self.count

    @property
    def is_fitted(self) -> bool:
        return bool(self.mean.numel())

    def forward(self, images: Tensor) -> Scores:
        anomaly_map = (images - self.mean).abs().mean(1, keepdim=True)
        return Scores(anomaly_map, anomaly_map.amax((1, 2, 3)))


def load(path: Path) -> NDArray[np.float32]:
    if path.stem.startswith("broken"):
        raise ImageError(f"cannot read {path}: broken on purpose")
    return np.full((3, 4, 4), float(path.stem), dtype=np.float32)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(20)]
    for path in found:
        path.touch()
    return found


def test_every_image_is_observed_once(paths: list[Path]) -> None:
    detector = Mean()
    report = fit(detector, paths, Reader(load, batch_size=3))
    assert (report.images, detector.count, report.skipped) == (20, 20, [])
    assert detector.mean.mean().item() == pytest.approx(9.5)


def test_a_broken_image_is_skipped_and_said(paths: list[Path]) -> None:
    broken = [*paths[:5], paths[0].with_name("broken.png"), *paths[5:]]
    detector = Mean()
    report = fit(detector, broken, Reader(load, batch_size=4))
    assert report.images == detector.count == 20
    assert [Path(path).name for path, _ in report.skipped] == ["broken.png"]
    assert "broken on purpose" in report.skipped[0][1]


def test_only_broken_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 images could be read. .*broken on purpose"):
        fit(Mean(), [tmp_path / "broken.png"], Reader(load))


@pytest.mark.parametrize("stop_after", [2, 7, 13])
def test_stopped_and_resumed_is_as_uninterrupted(paths: list[Path], tmp_path: Path, stop_after: int) -> None:
    paths = [*paths[:3], paths[0].with_name("broken1.png"), *paths[3:], paths[0].with_name("broken2.png")]
    whole, where = Mean(), tmp_path / "x.partial"
    expected = fit(whole, paths, Reader(load, batch_size=2))
    stopped = Mean(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, paths, Reader(load, batch_size=2), checkpoint=Checkpoint(where))
    state, header = read_checkpoint(where)
    assert 0 < header["done"] < len(paths)
    resumed = Mean(stop_after=stop_after)
    resumed.stop_after = 0  # the interruption does not happen again; the settings are the same
    resumed.settings = lambda: stopped.settings()  # type: ignore[method-assign]
    report = fit(resumed, paths, Reader(load, batch_size=2), checkpoint=Checkpoint(where, resume=True))
    assert torch.equal(resumed.mean, whole.mean)
    assert report.skipped == expected.skipped
    assert report.resumed_at == header["done"]


def test_a_checkpoint_of_another_fit_is_refused(paths: list[Path], tmp_path: Path) -> None:
    where = tmp_path / "x.partial"
    fit(Mean(), paths, Reader(load), checkpoint=Checkpoint(where))
    with pytest.raises(SettingsError, match="belongs to a fit with other settings or other images"):
        fit(Mean(seed=1), paths, Reader(load), checkpoint=Checkpoint(where, resume=True))
    with pytest.raises(SettingsError, match="belongs to a fit with other settings or other images"):
        fit(Mean(), paths[1:], Reader(load), checkpoint=Checkpoint(where, resume=True))
    with pytest.raises(SettingsError, match="belongs to a fit with other settings or other images"):
        fit(Mean(), paths, Reader(load), checkpoint=Checkpoint(where, resume=True, reading="size 64x64"))


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_said(paths: list[Path], tmp_path: Path, damage: bytes | None) -> None:
    where = tmp_path / "x.partial"
    fit(Mean(), paths, Reader(load), checkpoint=Checkpoint(where))
    where.write_bytes(where.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(DataError, match="is not a checkpoint of a fit .*. Start over without --resume"):
        fit(Mean(), paths, Reader(load), checkpoint=Checkpoint(where, resume=True))


def test_held_out_goes_to_close_alone(paths: list[Path]) -> None:
    detector = Mean()
    fit(detector, paths[:15], Reader(load, batch_size=4), held_out=paths[15:])
    assert (detector.count, detector.held_out_seen) == (15, 5)


def test_training_steps_are_the_same_for_the_same_seed(paths: list[Path]) -> None:
    reports = [fit(Mean(steps=30, seed=seed), paths, Reader(load, batch_size=8)) for seed in (0, 0, 1)]
    assert len(reports[0].losses) == 30
    assert reports[0].losses == reports[1].losses
    assert reports[0].losses != reports[2].losses


def test_progress_counts_up_to_the_end(paths: list[Path]) -> None:
    said: list[tuple[str, int, int]] = []
    fit(Mean(steps=2), paths, Reader(load, batch_size=8), progress=lambda *what: said.append(what))
    assert [done for phase, done, _ in said if phase == "observe"] == [8, 16, 20]
    assert ("train", 2, 2) in said


def test_the_fingerprint_depends_on_content(paths: list[Path]) -> None:
    before = fingerprint(Mean(), paths)
    assert before == fingerprint(Mean(), paths)
    paths[3].write_bytes(b"other")
    assert before != fingerprint(Mean(), paths)
