"""Training: stopped and resumed to the bit, the cache, budgets, early stopping, precision, divergence."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import test_contract as contract
from andon.data.augment import Augmentation
from andon.engine import Checkpoint, FitReport, Reader, fit, read_checkpoint
from andon.errors import DataError, ImageError, SettingsError
from andon.models import DETECTORS, build
from andon.models.base import Detector, Look, Phase, Scores, State, Turn, adam
from andon.models.trained import TrainedDetector, learning, redraw
from andon.training import Images, Machine, Pick, Plan, Trainer, curve
from andon.training.frozen import FeatureCache
from andon.training.packing import copies
from fakes import FakeBackbone

IMAGES = 10
HELD_OUT = 4


class Student(TrainedDetector):
    """A fixed net imitated by one with batch normalisation and dropout: a look, then a phase with two turns, then
    another look and another phase."""

    title, paper = "Student", "none"

    def __init__(self, steps: int = 12, batch_size: int = 3, learning_rate: float = 1e-2, clip: float = 0.0,
                 explode_at: int = 0, seed: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.steps, self.batch_size, self.learning_rate, self.seed = steps, batch_size, learning_rate, seed
        self.clip, self.explode_at = clip, explode_at
        self.frozen_calls: list[int] = []
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        nn.init.constant_(self.backbone.weight, 0.1)
        nn.init.constant_(self.backbone.bias, 0.0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.2)
        )
        self.head = nn.Linear(4, 1)
        self.register_buffer("middle", torch.zeros(4))
        self.register_buffer("seen", torch.zeros(()))
        self.reset()

    def draw(self) -> None:
        redraw(self.net, self.head)
        self.middle.zero_()
        self.seen.zero_()

    def frozen(self, images: Tensor) -> State:
        self.frozen_calls.append(len(images))
        with torch.no_grad():
            return {"wanted": self.backbone(images)}

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        wanted = (self.frozen(images) if frozen is None else frozen)["wanted"]
        with learning(self.net):
            error = (
                self.net(images + 0.01 * torch.randn_like(images)) - wanted + self.middle[:, None, None]
            ).square()
        bad = self.explode_at and int(self.seen) + 1 >= self.explode_at
        self.seen += 1
        return error.mean() * (math.inf if bad else 1.0)

    def head_loss(self, images: Tensor, frozen: State) -> Tensor:
        return F.softplus(self.head(frozen["wanted"].mean((2, 3)))).mean()

    @torch.no_grad()
    def measure(self, images: Tensor) -> None:
        self.middle += self.net(images).mean((0, 2, 3)) * len(images)

    def phases(self) -> Sequence[Phase | Look]:
        first = Turn(self.loss, list(self.net.parameters()), adam(self.learning_rate), clip=self.clip or None)
        second = Turn(
            self.head_loss, list(self.head.parameters()), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)
        )
        return (
            Look("measure", self.measure),
            Phase("both", self.steps, (first, second), lambda done: 1 - 0.5 * done),
            Look("measure again", self.measure),
            Phase("student", self.steps // 2, (first,)),
        )

    def forward(self, images: Tensor) -> Scores:
        anomaly_map = (self.net(images) - self.backbone(images)).abs().mean(1, keepdim=True)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


def load(path: Path) -> NDArray[np.float32]:
    rng = np.random.default_rng(int(path.stem))
    return rng.integers(0, 256, (3, 8, 8)).astype(np.float32) / np.float32(255)


READER = Reader(load, batch_size=3, workers=0)
OFF = Plan(cache_gb=0)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(IMAGES + HELD_OUT)]
    for path in found:
        path.touch()
    return found


def run(detector: Detector, paths: list[Path], plan: Plan = OFF, **keywords: object) -> FitReport:
    return fit(detector, paths[:IMAGES], READER, held_out=paths[IMAGES:], plan=plan, **keywords)  # type: ignore[arg-type]


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_at(phase: str, done: int) -> Callable[[str, int, int], None]:
    def progress(now: str, at: int, total: int) -> None:
        if (now, at) == (phase, done):
            signal.raise_signal(signal.SIGINT)

    return progress


# --- stopped and resumed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [OFF, Plan(early_stop=20), Plan(augment=Augmentation.parse("study"))],
                         ids=["plain", "cache and early stop", "augmented"])  # fmt: skip
@pytest.mark.parametrize(
    "where",
    [
        ("measure", 6),
        ("both", 1),
        ("both", 7),
        ("both", 12),
        ("measure again", 3),
        ("student", 4),
        ("student", 6),
    ],
    ids=lambda where: " ".join(map(str, where)),
)
def test_stopped_and_resumed_is_as_uninterrupted_to_the_bit(
    paths: list[Path], tmp_path: Path, plan: Plan, where: tuple[str, int]
) -> None:
    whole, kept = Student(), tmp_path / "x.partial"
    expected = run(whole, paths, plan)
    with pytest.raises(KeyboardInterrupt):
        run(Student(), paths, plan, checkpoint=Checkpoint(kept), progress=stop_at(*where))
    resumed = Student()
    report = run(resumed, paths, plan, checkpoint=Checkpoint(kept, resume=True))
    assert same(resumed.statistics(), whole.statistics())
    assert report.losses == expected.losses
    assert [record.held_out for record in report.phases] == [record.held_out for record in expected.phases]
    assert report.resumed_steps == {"measure": 0, "measure again": 12}.get(
        where[0], where[1] + 12 * (where[0] == "student")
    )


@pytest.mark.parametrize("plan", [OFF, Plan(early_stop=1)], ids=["plain", "early stop"])
def test_killed_after_any_checkpoint_and_resumed_is_as_uninterrupted(
    paths: list[Path], tmp_path: Path, plan: Plan
) -> None:
    """What a kill leaves is the last file written: each one is tried."""
    settings = {"learning_rate": 0.5, "steps": 24} if plan.early_stop else {}
    whole, kept = Student(**settings), tmp_path / "x.partial"
    copied: list[Path] = []

    def copy(phase: str, done: int, total: int) -> None:
        if kept.exists():
            copied.append(Path(shutil.copy(kept, tmp_path / f"copy{len(copied)}")))

    expected = run(whole, paths, plan, checkpoint=Checkpoint(kept, seconds=0.0), progress=copy)
    assert len(copied) > 15
    assert any(record.ended for record in expected.phases) == (plan is not OFF)
    for path in copied[::4]:
        resumed = Student(**settings)
        report = run(resumed, paths, plan, checkpoint=Checkpoint(path, resume=True))
        assert same(resumed.statistics(), whole.statistics())
        assert [record.ended for record in report.phases] == [record.ended for record in expected.phases]


def test_a_registered_method_resumes_to_the_bit(paths: list[Path], tmp_path: Path) -> None:
    def new() -> Detector:
        return build("autoencoder", width=2, latent=2, ssim_share=0.2, steps=10, batch_size=4)

    reader = Reader(lambda path: np.kron(load(path), np.ones((1, 4, 4), np.float32)), workers=2)
    whole, resumed, kept = new(), new(), tmp_path / "x.partial"
    fit(whole, paths, reader, plan=OFF)
    with pytest.raises(KeyboardInterrupt):
        fit(new(), paths, reader, plan=OFF, checkpoint=Checkpoint(kept), progress=stop_at("train", 5))
    fit(resumed, paths, reader, plan=OFF, checkpoint=Checkpoint(kept, resume=True))
    assert same(resumed.fitted_state(), whole.fitted_state())


def test_a_checkpoint_goes_on_only_with_the_same_plan(paths: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "x.partial"
    run(Student(), paths, checkpoint=Checkpoint(kept))
    run(Student(), paths, Plan(cache_gb=0, image_gb=0), checkpoint=Checkpoint(kept, resume=True))
    for other in (
        Plan(early_stop=3, cache_gb=0),
        Plan(augment=Augmentation.parse("flip"), cache_gb=0),
        Plan(),
    ):
        with pytest.raises(SettingsError, match="belongs to a fit with other settings or other images"):
            run(Student(), paths, other, checkpoint=Checkpoint(kept, resume=True))


def test_a_finished_training_is_not_repeated(paths: list[Path], tmp_path: Path) -> None:
    kept, said = tmp_path / "x.partial", []
    run(Student(), paths, checkpoint=Checkpoint(kept))
    run(
        Student(),
        paths,
        checkpoint=Checkpoint(kept, resume=True),
        progress=lambda *what: said.append(what[0]),
    )
    assert set(said) <= {"close"}


def test_an_image_that_vanishes_stops_training_and_can_be_brought_back(
    paths: list[Path], tmp_path: Path
) -> None:
    kept, steps = tmp_path / "x.partial", []

    def vanishing(path: Path) -> NDArray[np.float32]:
        if len(steps) >= 5:
            raise ImageError(f"cannot read {path.name}")
        return load(path)

    reader = Reader(vanishing, batch_size=3, workers=0)
    with pytest.raises(
        ImageError, match="could be read when fitting began, but not while training: cannot read"
    ):
        fit(Student(), paths[:IMAGES], reader, plan=Plan(cache_gb=0, image_gb=0), checkpoint=Checkpoint(kept),
            progress=lambda phase, done, total: steps.append(phase) if phase == "both" else None)  # fmt: skip
    whole, resumed = Student(), Student()
    fit(whole, paths[:IMAGES], READER, plan=OFF)
    report = fit(resumed, paths[:IMAGES], READER, plan=OFF, checkpoint=Checkpoint(kept, resume=True))
    assert report.resumed_steps == 5
    assert same(resumed.statistics(), whole.statistics())


# --- the cache ----------------------------------------------------------------------------------------------


def test_with_and_without_the_cache_the_same(paths: list[Path], tmp_path: Path) -> None:
    without, cached, partly = Student(), Student(), Student()
    plain = run(without, paths)
    report = run(cached, paths, Plan(cache_folder=tmp_path / "cache"))
    row = 4 * 8 * 8 * 4
    some = run(partly, paths, Plan(cache_gb=3.5 * row / 1e9))
    np.testing.assert_allclose(report.losses, plain.losses, rtol=1e-5)
    assert some.losses == report.losses  # whatever there is room for
    assert (report.cache.kept, some.cache.kept) == (IMAGES, 3)
    assert report.cache.gigabytes == pytest.approx(IMAGES * row / 1e9)
    assert report.cache.hits + report.cache.computed == some.cache.hits + some.cache.computed == 18 * 3
    assert report.cache.computed == 2 * IMAGES  # anew in each phase
    assert set(cached.frozen_calls) == {1}
    assert sum(cached.frozen_calls) == report.cache.computed < sum(without.frozen_calls)
    assert plain.cache.computed == 0
    assert "kept for 3 of 10" in some.notes[0]
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_gives_what_it_was_given(tmp_path: Path) -> None:
    detector = Student()
    images = list(torch.rand(4, 2, 3, 8, 8).unbind())  # four photographs in two tiles each
    cache = FeatureCache(detector, 4, 1.0, tmp_path)
    first = cache.rows([0, 1, 2, 3], images)["wanted"]
    detector.frozen_calls.clear()
    again = cache.rows([3, 0], [images[3], images[0]])["wanted"]
    assert torch.equal(again, torch.cat([first[6:], first[:2]]))
    assert detector.frozen_calls == []
    three = torch.rand(3, 3, 8, 8)  # in another number of tiles: not kept
    assert torch.equal(cache.rows([0], [three])["wanted"], cache.rows([0], [three])["wanted"])
    assert detector.frozen_calls == [3, 3]
    cache.forget()
    cache.rows([1], [images[1]])
    assert detector.frozen_calls == [3, 3, 2]
    assert cache.report.seconds_saved <= cache.report.hits * cache.report.seconds_computing
    cache.close()


def test_a_disk_without_room_costs_time_only(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, size: int) -> None:
        raise OSError(28, "No space left on device")

    expected = run(Student(), paths, Plan())
    monkeypatch.setattr("andon.training.frozen._take_space", full)
    report = run(Student(), paths, Plan(cache_folder=tmp_path))
    assert report.losses == expected.losses
    assert (report.cache.kept, report.cache.hits) == (0, 0)
    assert report.notes == [
        f"nothing of the frozen network is kept between epochs: {tmp_path}: No space left on device"
    ]


def test_frozen_that_is_not_one_row_an_image_is_refused(paths: list[Path]) -> None:
    detector = Student()
    detector.frozen = lambda images: {"wanted": torch.zeros(7, 4, 8, 8)}  # type: ignore[method-assign]
    with pytest.raises(
        DataError, match=r"Student\.frozen must give one row an image; of 1 it gave 'wanted' of shape"
    ):
        run(detector, paths, Plan())


def test_a_method_without_frozen_parts_has_no_cache(paths: list[Path], tmp_path: Path) -> None:
    reader = Reader(lambda path: np.kron(load(path), np.ones((1, 4, 4), np.float32)), workers=0)
    detector = build("autoencoder", width=2, latent=2, ssim_share=0.2, steps=6, batch_size=4)
    report = fit(detector, paths, reader, plan=Plan(cache_folder=tmp_path / "cache"))
    assert report.cache.kept == report.cache.hits == 0
    assert not (tmp_path / "cache").exists()


# --- images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_images_kept_in_memory_are_the_same_to_the_bit(paths: list[Path], workers: int, exact: bool) -> None:
    read: list[str] = []

    def counting(path: Path) -> NDArray[np.float32]:
        read.append(path.name)
        return load(path) * np.float32(1 if exact else 0.999)

    size = 3 * 8 * 8 * (1 if exact else 4)
    images = Images(paths, counting, workers=workers, limit=5 * size)
    wanted = [[Pick(0), Pick(1)], [Pick(2)], [Pick(3), Pick(4)]] * 3 + [[Pick(7)]] * 2
    found = list(images.batches(wanted))
    for picks, tensors in zip(wanted, found, strict=True):
        for pick, tensor in zip(picks, tensors, strict=True):
            assert np.array_equal(
                tensor.numpy()[0], load(paths[pick.number]) * np.float32(1 if exact else 0.999)
            )
    assert read.count("7.png") == 2  # no room
    if workers == 0:
        assert [read.count(f"{number}.png") for number in range(5)] == [1] * 5


def test_varied_images_depend_on_seed_epoch_and_number_alone(paths: list[Path]) -> None:
    def batch(seed: int, picks: list[Pick], workers: int = 0) -> list[Tensor]:
        varied = Augmentation.parse("study,flip")
        return next(Images(paths, load, workers=workers, varied=varied, seed=seed).batches([picks]))

    picks = [Pick(number, epoch) for epoch in range(3) for number in range(4)]
    one, other = batch(0, picks), batch(0, picks[::-1], workers=3)[::-1]
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, batch(1, picks), strict=True))
    assert torch.equal(batch(0, [Pick(5)])[0][0], torch.from_numpy(load(paths[5])))


def test_a_closed_form_method_sees_varied_copies_besides_each_image(paths: list[Path]) -> None:
    class Collects(Student):
        """Closed form: keeps what it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.steps, self.images = 0, []  # type: ignore[assignment]

        def look(self, images: Tensor) -> None:
            self.images.append(images.clone())

    detector = Collects()
    report = run(detector, paths, Plan(augment=Augmentation.parse("flip,noise"), copies=2))
    seen = torch.cat(detector.images)
    assert (report.images, len(seen)) == (IMAGES, 3 * IMAGES)
    for number in range(IMAGES):
        assert torch.equal(seen[3 * number], torch.from_numpy(load(paths[number])))
    assert len({tuple(image.flatten().tolist()) for image in seen}) > 2 * IMAGES


# --- budget -------------------------------------------------------------------------------------------------


def trainer(detector: Detector, plan: Plan) -> Trainer:
    """A trainer by a clock of its own: a second for every batch."""
    now = [0.0]

    class Tensors:
        count = IMAGES

        def batches(self, wanted: Iterator[list[Pick]]) -> Iterator[list[Tensor]]:
            for picks in wanted:
                now[0] += 1.0
                yield [torch.from_numpy(load(Path(f"{pick.number}.png")))[None] for pick in picks]

    return Trainer(detector, Tensors(), plan, clock=lambda: now[0])  # type: ignore[arg-type]


def test_minutes_end_training_and_drive_the_learning_rate() -> None:
    detector = Student(steps=1000)  # 1000 and 500 steps: two thirds of the time and one
    rates: list[tuple[str, float]] = []
    phases = [
        phase if isinstance(phase, Look) else
        Phase(phase.name, phase.steps, phase.turns, lambda done, name=phase.name: rates.append((name, done)) or 1.0)
        for phase in detector.phases()
    ]  # fmt: skip
    detector.phases = lambda: phases  # type: ignore[method-assign]
    job = trainer(detector, Plan(minutes=1.0, cache_gb=0))
    job.run()
    both, student = job.records[1], job.records[3]
    looks = math.ceil(IMAGES / 3)
    assert len(both.losses) == pytest.approx((60 - looks) * 2 / 3, abs=1)
    assert len(student.losses) == pytest.approx((60 - 2 * looks - len(both.losses)), abs=1)
    assert both.ended == student.ended == "its share of the minutes was used up"
    assert job.used == pytest.approx(60, abs=2)
    first = [done for name, done in rates if name == "both"]
    assert first == sorted(first)
    assert first[0] == 0
    assert 0.9 < first[-1] <= 1.0  # the schedule has come to its end with the time


def test_minutes_that_are_not_used_up_change_nothing(paths: list[Path]) -> None:
    a, b = Student(), Student()
    assert run(a, paths).losses == run(b, paths, Plan(minutes=60.0, cache_gb=0)).losses
    assert same(a.statistics(), b.statistics())


def test_a_budget_far_too_small_takes_one_step_a_phase(paths: list[Path]) -> None:
    report = run(Student(), paths, Plan(minutes=1e-9, cache_gb=0))
    assert [len(record.losses) for record in report.phases] == [0, 1, 0, 1]


def test_the_time_used_before_a_resume_counts() -> None:
    stopped = trainer(Student(steps=1000), Plan(minutes=1.0, cache_gb=0))

    def stop() -> None:
        if len(stopped.losses) == 20:
            raise KeyboardInterrupt

    stopped.between = stop
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    kept, detector = stopped.snapshot(), Student(steps=1000)
    detector.load_statistics(kept.statistics)
    job = trainer(detector, Plan(minutes=1.0, cache_gb=0))
    job.resume(kept.tensors, kept.plain)
    assert job.used == pytest.approx(24, abs=1)
    job.run()
    assert job.used == pytest.approx(60, abs=2)


# --- early stopping -----------------------------------------------------------------------------------------


def test_the_held_out_loss_changes_nothing(paths: list[Path]) -> None:
    """Step for step, parameters and the means of batch normalisation are those of a training without evaluations."""
    states: list[list[State]] = []

    def states_of(plan: Plan) -> FitReport:
        detector, own = Student(steps=20), []
        states.append(own)
        return run(detector, paths, plan, progress=lambda phase, done, total: own.append(copies(detector)))

    without, measured = states_of(OFF), states_of(Plan(early_stop=1000, cache_gb=0))
    both = (
        4 + 4 + 20
    )  # calls while observing, in the look and in the first phase, whose end gives the best state back
    assert all(same(a, b) for a, b in zip(states[0][:both], states[1][:both], strict=True))
    assert without.phases[1].losses == measured.phases[1].losses
    assert [step for step, _ in measured.phases[1].held_out] == list(range(1, 21))  # every twentieth
    assert all(math.isfinite(loss) for _, loss in measured.phases[1].held_out)


def test_early_stopping_keeps_the_best_state(paths: list[Path]) -> None:
    detector = Student(steps=40, learning_rate=0.5)
    kept: dict[int, State] = {}
    phase = detector.phases()[1]
    detector.phases = lambda: (phase,)  # type: ignore[method-assign]

    def remember(name: str, done: int, total: int) -> None:
        if name == "both":
            kept[done] = copies(detector)

    report = run(detector, paths, Plan(early_stop=3, cache_gb=0), progress=remember)
    record = report.phases[0]
    best = min(record.held_out, key=lambda pair: pair[1])
    assert len(record.losses) < 40
    assert record.held_out[-1][0] - best[0] == 3 * 2  # three evaluations, two steps apart
    assert record.ended == f"the held-out loss was lowest after {best[0]} steps"
    now = copies(detector)
    assert all(torch.equal(now[name], kept[best[0]][name]) for name in now if name != "closed")


def test_early_stopping_leaves_adversarial_phases_alone(paths: list[Path]) -> None:
    detector = Student(steps=6, learning_rate=0.5)
    look, both, *rest = detector.phases()
    detector.phases = lambda: (look, replace(both, adversarial=True), *rest)  # type: ignore[method-assign, type-var]
    report = run(detector, paths, Plan(early_stop=1, cache_gb=0))
    measured = {record.phase: bool(record.held_out) for record in report.phases}
    assert (measured["both"], measured["student"]) == (False, True)


def test_early_stopping_needs_held_out_images(paths: list[Path]) -> None:
    with pytest.raises(
        SettingsError, match="early stopping measures the loss on held-out images, and there are none"
    ):
        fit(Student(), paths, READER, plan=Plan(early_stop=2))


# --- loss, gradients, precision -----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_leaves_nothing(paths: list[Path], tmp_path: Path) -> None:
    kept, detector = tmp_path / "x.partial", Student(explode_at=4)
    with pytest.raises(SettingsError, match=r"^training diverged: the loss is inf at step 4 of 12 \(both\)\. Nothing was "
                                            "saved. Lower the learning rate"):  # fmt: skip
        run(detector, paths, checkpoint=Checkpoint(kept, seconds=0.0))
    assert not detector.is_fitted
    assert not kept.exists()


def test_weights_that_are_not_finite_at_the_end_are_refused(paths: list[Path]) -> None:
    """The last step's gradient may be the one that breaks them, after its loss was still finite."""
    detector = Student(steps=1, learning_rate=math.inf)
    with pytest.raises(SettingsError, match="training diverged: the loss is nan at step 1 of 1"):
        run(detector, paths)
    assert not detector.is_fitted


def test_gradients_are_clipped_where_a_turn_says_so(paths: list[Path]) -> None:
    norms: list[float] = []

    def recording(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        chosen = torch.optim.SGD(parameters, lr=0.01)
        chosen.register_step_pre_hook(
            lambda *_: norms.append(
                torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item()
            )
        )
        return chosen

    for clip in (None, 1e-3):
        detector = Student(steps=3)
        turn = Turn(detector.loss, list(detector.net.parameters()), recording, clip=clip)
        detector.phases = lambda turn=turn: (Phase("train", 3, (turn,)),)  # type: ignore[method-assign]
        run(detector, paths)
    assert min(norms[:3]) > 1e-2
    assert norms[3:] == pytest.approx([1e-3] * 3, rel=1e-2)


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cpu", "float8", "precision must be one of float32, bfloat16, float16, got 'float8'"),
        ("cpu", "float16", "float16 trains on a GPU only"),
        ("tpu", "float32", "device must be auto, cpu, cuda or, of several GPUs, such as cuda:1; got 'tpu'"),
        ("cuda:99", "float32", "device 'cuda:99' was asked for, but PyTorch .* finds .* here"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(device: str, precision: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Machine.choose(device, precision)


def test_bfloat16_where_the_processor_knows_it(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("andon.training.machine._knows_bfloat16", lambda device: False)
    with pytest.raises(SettingsError, match="has neither AMX nor AVX512-BF16: bfloat16 would be emulated"):
        Machine.choose("cpu", "bfloat16")
    monkeypatch.setattr("andon.training.machine._knows_bfloat16", lambda device: True)
    full, half = Student(), Student()
    expected = run(full, paths).losses
    found = run(half, paths, Plan(precision="bfloat16", cache_gb=0, device="cpu")).losses
    assert found != expected
    np.testing.assert_allclose(found, expected, rtol=0.05)
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_scaled_gradients_train_alike_clipped_or_not_and_resume(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What float16 needs on a GPU; the scale is a power of two, so that here it changes no bit."""
    expected = [run(Student(clip=clip), paths).losses for clip in (0.0, 1e-2)]
    monkeypatch.setattr(Machine, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=1024.0))
    for clip, losses in zip((0.0, 1e-2), expected, strict=True):
        whole, resumed, kept = Student(clip=clip), Student(clip=clip), tmp_path / f"{clip}.partial"
        np.testing.assert_allclose(run(whole, paths).losses, losses, rtol=1e-5)
        with pytest.raises(KeyboardInterrupt):
            run(Student(clip=clip), paths, checkpoint=Checkpoint(kept), progress=stop_at("both", 5))
        run(resumed, paths, checkpoint=Checkpoint(kept, resume=True))
        assert same(resumed.statistics(), whole.statistics())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"minutes": 0}, "minutes must be more than 0"), ({"early_stop": 0}, "early_stop must be a whole number of at least 1"),
     ({"cache_gb": -1}, "cache_gb must be a number of at least 0"), ({"copies": 1.5}, "copies must be a whole number")],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Plan(**settings)  # type: ignore[arg-type]


# --- what is told -------------------------------------------------------------------------------------------


def test_progress_tells_the_smoothed_loss_before_each_step(paths: list[Path]) -> None:
    told: list[object] = []
    report = run(Student(), paths, progress=lambda phase, done, total: told.append((phase, done, total)),
                 on_loss=told.append)  # fmt: skip
    steps = [index for index, what in enumerate(told) if isinstance(what, tuple) and what[0] == "both"]
    assert [told[index] for index in steps] == [("both", done, 12) for done in range(1, 13)]
    assert [told[index - 1] for index in steps] == [
        pytest.approx(np.mean(report.losses[:done])) for done in range(1, 13)
    ]


def test_the_curve_is_thinned_to_means() -> None:
    losses = list(np.random.default_rng(0).random(12345))
    steps, means = curve(losses)
    assert len(steps) == len(means) == 500
    assert steps[-1] == 12345
    assert means[0] == pytest.approx(np.mean(losses[: steps[0]]), rel=1e-5)
    assert curve(losses[:7])[0] == [1, 2, 3, 4, 5, 6, 7]
    assert curve([]) == ([], [])


def test_a_closed_form_method_says_what_it_does_not_heed(paths: list[Path]) -> None:
    detector = build("padim", backbone=FakeBackbone(), dimensions=2)
    report = run(detector, paths, Plan(minutes=1.0, early_stop=3))
    assert report.notes == ["PaDiM does not train: minutes and early_stop changed nothing"]
    assert report.described() == {"notes": report.notes}


def test_optimiser_states_and_losses_are_in_the_checkpoint(paths: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt):
        run(Student(), paths, checkpoint=Checkpoint(kept), progress=stop_at("both", 3))
    state, header = read_checkpoint(kept)
    assert header["training"]["number"] == 1
    assert len(state["training:losses/1"]) == 3
    assert any(name.endswith("exp_avg_sq") for name in state)
    assert any(name.endswith("momentum_buffer") for name in state)


# --- what the loop relies on, of every method ---------------------------------------------------------------


@pytest.mark.parametrize("method", list(DETECTORS))
def test_steps_says_whether_a_method_trains_and_frozen_gives_one_row_an_image(method: str) -> None:
    """An image alone is frozen as among others: what the cache keeps stands for what a batch would have given."""
    detector = contract.observe(contract.new(method), contract.TRAIN[:8])
    assert bool(detector.steps) == bool(detector.phases())
    together = detector.frozen(contract.TRAIN[:3])
    for number in range(3):
        alone = detector.frozen(contract.TRAIN[number : number + 1])
        assert alone.keys() == together.keys()
        for name, row in alone.items():
            assert row.shape == (1, *together[name].shape[1:])
            torch.testing.assert_close(row[0], together[name][number], rtol=1e-4, atol=1e-4)
