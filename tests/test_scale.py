"""A stream of good images longer than PatchCore's buffer: what is held, how often it is thinned out, what it covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from andon.engine import Checkpoint, Reader, fit
from andon.models import patchcore
from andon.models.base import State
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, good_parts

STREAM = good_parts(120, (32, 48), seed=11)  # 96 patches each
SMALL = {"bank_limit": 60, "buffer_limit": 600}


def observed(images: Tensor = STREAM, batch: int = 8, **settings: Any) -> PatchCore:
    detector = PatchCore(FakeBackbone(), **{**SMALL, **settings})
    for part in images.split(batch):
        detector.observe(part)
    return detector


def rows_of(detector: PatchCore, images: Tensor = STREAM) -> Tensor:
    return detector.patches(images).permute(0, 2, 3, 1).flatten(0, 2)


def farthest(rows: Tensor, kept: Tensor) -> float:
    return float(torch.cdist(rows.double(), kept.double()).amin(1).max())


@pytest.fixture
def thinned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Told of how many points each coreset is taken."""
    sizes: list[int] = []
    real = patchcore.greedy_k_centre

    def counted(points: Tensor, *given: Any, **named: Any) -> Tensor:
        sizes.append(len(points))
        return real(points, *given, **named)

    monkeypatch.setattr(patchcore, "greedy_k_centre", counted)
    return sizes


def test_a_stream_is_thinned_out_a_few_times_and_not_once_a_buffer(thinned: list[int]) -> None:
    detector = observed()
    assert 1 <= len(thinned) <= 6
    refills = (len(STREAM) * 96 - 600) // (600 - 120)
    assert len(thinned) < refills / 3
    assert int(detector.statistics()["patches_seen"]) == len(STREAM) * 96


def test_what_is_covered_already_is_not_held_again(thinned: list[int]) -> None:
    detector = observed()
    before, times = len(detector.statistics()["patches"]), len(thinned)
    for part in good_parts(120, (32, 48), seed=12).split(8):
        detector.observe(part)
    assert len(thinned) <= times + 2
    assert len(detector.statistics()["patches"]) < 600
    detector.observe(STREAM[:8] * 0 + 0.9)  # like nothing before
    assert len(detector.statistics()["patches"]) != before


def test_equal_images_fill_the_buffer_once(thinned: list[int]) -> None:
    observed(STREAM[:1].expand(100, -1, -1, -1))
    assert len(thinned) == 1


def test_every_patch_lies_within_the_reaches_of_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out lies within the reach of a centre, which the next thinning may leave out within its own reach."""
    reaches: list[float] = []
    cover = PatchCore._cover

    def noted(self: PatchCore, centres: int) -> None:
        cover(self, centres)
        reaches.append(self._reach)

    monkeypatch.setattr(PatchCore, "_cover", noted)
    detector = observed()
    assert farthest(rows_of(detector), detector.statistics()["patches"]) <= sum(reaches) * (1 + 1e-5)


def test_the_bank_of_a_stream_covers_nearly_as_well_as_that_of_all_patches() -> None:
    stream, whole = observed(), observed(buffer_limit=20_000)
    for detector in (stream, whole):
        detector.close()
    rows = rows_of(whole)
    radius = farthest(rows, whole.memory_bank)
    assert farthest(rows, stream.memory_bank) < 1.25 * radius
    scores = [detector(good_parts(4, (32, 48), seed=13)).image_score.mean() for detector in (stream, whole)]
    assert float(scores[0]) == pytest.approx(float(scores[1]), rel=0.1)


@pytest.mark.parametrize("batch", [3, 7, 120])
def test_the_batches_do_not_matter(batch: int) -> None:
    a, b = observed(batch=batch).statistics(), observed(batch=8).statistics()
    assert a.keys() == b.keys()
    torch.testing.assert_close(a["patches"], b["patches"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at", [0.3, 0.7])
def test_a_stream_stopped_and_resumed_ends_at_the_same_bits(at: float, tmp_path: Path) -> None:
    paths, reader = (
        [Path(str(n)) for n in range(len(STREAM))],
        Reader(lambda p: STREAM[int(p.name)].numpy(), 8, 0),
    )
    whole, halves = (PatchCore(FakeBackbone(), **SMALL) for _ in range(2))
    fit(whole, paths, reader)

    def stop(phase: str, done: int, total: int) -> None:
        if done > at * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(halves, paths, reader, checkpoint=Checkpoint(tmp_path / "x"), progress=stop)
    report = fit(halves, paths, reader, checkpoint=Checkpoint(tmp_path / "x", resume=True))
    assert 0 < report.resumed_at < len(STREAM)
    assert same(whole.fitted_state(), halves.fitted_state())
    assert same(whole.statistics(), halves.statistics())


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_merged_states_measure_by_no_ones_centres_until_thinned_out() -> None:
    states = [observed(part).statistics() for part in STREAM.split(60)]
    assert all(int(state["centres"]) == 120 for state in states)
    merged = PatchCore.merge(states, [60.0, 60.0])
    assert "centres" not in merged
    assert len(merged["patches"]) == sum(len(state["patches"]) for state in states)
    roomy = PatchCore(FakeBackbone(), bank_limit=60, buffer_limit=5000)
    roomy.load_statistics(merged)
    assert "centres" not in roomy.statistics()
    tight = PatchCore(FakeBackbone(), bank_limit=30, buffer_limit=150)
    tight.load_statistics(merged)
    assert int(tight.statistics()["centres"]) == 60
    assert int(tight.statistics()["patches_seen"]) == len(STREAM) * 96


def test_the_checkpoint_is_as_large_for_a_long_stream_as_for_a_short_one() -> None:
    sizes = [sum(t.nbytes for t in observed(STREAM[:n]).statistics().values()) for n in (12, 120)]
    assert sizes[1] <= 600 * 40 * 4 + 100
    assert sizes[1] < 5 * sizes[0]
