"""Rounds without Flower: what sites make together, and what happens when one of them fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from andon.calibrate import calibrate
from andon.errors import AndonError, DataError, SettingsError
from andon.federated import Contribution, InProcess, Plan, Question, Reply, Site, run
from andon.federated.rounds import schedule
from andon.federated.sites import build_detector, sites_of_folders
from andon.federated.wire import expected_of
from andon.models.base import State
from andon.pipeline.fitting import loader
from andon.pipeline.parts import Parts
from fakes import FakeBackbone, good_parts

SIZE = (32, 64)
SHARES = {"bergen": range(9), "oslo": range(9, 13), "turku": range(13, 20)}  # image numbers of each site
CALIBRATION = {"bergen": range(20, 26), "oslo": range(26, 30), "turku": range(30, 36)}
CLOSED = {
    "padim": {"dimensions": 12},
    "subspacead": {},
    "fre": {"grid": 2},
    "patchcore": {"coreset_fraction": 1.0, "bank_limit": 4000, "neighbours": 3},
}
TRAINED: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 2, "latent": 4, "score": "peak"},  # no look after the training
    "vae": {"width": 2, "latent": 4},
    "stfpm": {"backbone": FakeBackbone()},
    "reverse_distillation": {"backbone": FakeBackbone()},
    "efficientad": {"backbone": FakeBackbone(), "width": 2, "autoencoder_width": 2},
}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """36 drawn good parts as files."""
    folder = tmp_path_factory.mktemp("plants")
    paths = []
    for number, part in enumerate(good_parts(36, SIZE, seed=4)):
        paths.append(folder / f"{number:02}.png")
        Image.fromarray((part.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def sites(photographs: list[Path]) -> list[Site]:
    def parts(name: str) -> Parts:
        return Parts(
            [photographs[n] for n in SHARES[name]], [], [photographs[n] for n in CALIBRATION[name]], {}
        )

    return [Site(name, parts(name)) for name in ("turku", "bergen", "oslo")]


def plan(method: str = "padim", **more: Any) -> Plan:
    settings = more.pop("settings", {**CLOSED, **TRAINED}[method])
    if method in CLOSED:
        settings = {"backbone": FakeBackbone(), **settings}
    else:
        settings = {"steps": 4, "batch_size": 2, **settings}
    return Plan(method, settings, SIZE, **more)


def images(paths: list[Path], numbers: Any) -> torch.Tensor:
    load = loader(Site("", Parts([], [], [], {})).preprocessing(plan()))
    return torch.from_numpy(np.stack([load(paths[number]) for number in numbers]))  # type: ignore[arg-type]


# --- one round of closed-form methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", CLOSED)
def test_sites_together_are_one_fit_of_all_images(
    method: str, sites: list[Site], photographs: list[Path]
) -> None:
    outcome = run(InProcess(sites), plan(method))
    pooled = build_detector(plan(method))
    pooled.observe(images(photographs, range(20)))
    pooled.close()
    shown = torch.cat([good_parts(2, SIZE, seed=9), 1 - good_parts(2, SIZE, seed=8)])
    theirs, ours = pooled(shown), outcome.detector(shown)
    torch.testing.assert_close(ours.anomaly_map, theirs.anomaly_map, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.image_score, theirs.image_score, rtol=1e-4, atol=1e-4)


def test_a_bank_is_a_coreset_of_the_sites_coresets(sites: list[Site]) -> None:
    asked: list[Contribution] = []
    bank = {"coreset_fraction": 0.5, "bank_limit": 40}

    def aggregate(contributions: Any) -> State:
        asked.extend(contributions)
        detector = build_detector(plan("patchcore", settings=bank))
        return type(detector).merge(
            [one.state for one in contributions], [one.images for one in contributions]
        )

    outcome = run(InProcess(sites), plan("patchcore", settings=bank, site_rows=25), aggregate=aggregate)
    assert [len(one.state["patches"]) for one in asked] == [25, 25, 25]
    assert [one.site for one in asked] == ["bergen", "oslo", "turku"]
    assert [one.images for one in asked] == [9, 4, 7]
    assert len(outcome.state["patches"]) == 40
    assert int(outcome.state["seen"]) == 20
    rows = {tuple(row.tolist()) for one in asked for row in one.state["patches"]}
    assert {tuple(row.tolist()) for row in outcome.state["patches"]} <= rows


def test_the_order_of_the_sites_changes_nothing(sites: list[Site]) -> None:
    one = run(InProcess(sites), plan("patchcore"))
    other = run(InProcess(sites[::-1]), plan("patchcore"))
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


# --- rounds of training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", TRAINED)
def test_trained_methods_go_through_their_rounds(method: str, sites: list[Site]) -> None:
    asked = plan(method, rounds=2)
    outcome = run(InProcess(sites[:2]), asked)
    steps = schedule(build_detector(asked), 2)
    assert [report.kind for report in outcome.reports] == [step.kind for step in steps]
    assert int(outcome.state["images_seen"]) == 16  # not added up again in every round
    assert torch.isfinite(outcome.detector(good_parts(1, SIZE)).anomaly_map).all()


def test_efficientads_maps_are_looked_at_once_when_all_is_trained() -> None:
    steps = schedule(build_detector(plan("efficientad")), 3)
    assert [step.phase for step in steps] == ["", "train", "train", "train", "measure the maps", ""]


def test_fedavg_is_the_mean_by_images(sites: list[Site]) -> None:
    asked = plan("autoencoder")
    alone = [run(InProcess([site]), asked).state for site in sites[:2]]  # turku 7, bergen 9
    together = run(InProcess(sites[:2]), asked).state
    for name, tensor in together.items():
        if tensor.is_floating_point():
            mean = (7 * alone[0][name].double() + 9 * alone[1][name].double()) / 16
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)


def test_sites_may_count_alike(sites: list[Site]) -> None:
    asked = plan("autoencoder", weigh_equally=True)
    alone = [run(InProcess([site]), asked).state for site in sites[:2]]
    name = next(name for name, tensor in alone[0].items() if tensor.ndim > 1)
    together = run(InProcess(sites[:2]), asked).state[name]
    torch.testing.assert_close(together, (alone[0][name] + alone[1][name]) / 2, rtol=1e-5, atol=1e-6)


def test_fedprox_stays_nearer_to_where_it_began(sites: list[Site]) -> None:
    begun = build_detector(plan("autoencoder")).statistics()

    def moved(mu: float) -> float:
        settings = {**TRAINED["autoencoder"], "steps": 12, "learning_rate": 0.05}
        state = run(InProcess(sites[:1]), plan("autoencoder", settings=settings, proximal=mu)).state
        return float(
            sum((state[name] - begun[name]).square().sum() for name in begun if state[name].ndim > 1)
        )

    assert moved(100.0) < 0.8 * moved(0.0)


def test_the_learning_rate_goes_on_where_it_was() -> None:
    from andon.federated.sites import share_of
    from andon.models.base import Phase

    phase = Phase("train", 10, (), lambda done: 1 - done)
    parts = [share_of(phase, begin, begin + 1 / 3) for begin in (0, 1 / 3, 2 / 3)]
    assert [part.steps for part in parts] == [3, 4, 3]
    assert [round(part.rate(0.5), 3) for part in parts] == [0.833, 0.5, 0.167]


# --- thresholds and files ---------------------------------------------------------------------------------------------------


def test_every_site_has_its_own_threshold(sites: list[Site], photographs: list[Path]) -> None:
    outcome = run(InProcess(sites), plan("patchcore", target_rate=0.25))
    assert set(outcome.calibrations) == {"bergen", "oslo", "turku"}
    for name, told in outcome.calibrations.items():
        scores = outcome.detector(images(photographs, CALIBRATION[name])).image_score.tolist()
        own = calibrate(scores, target_rate=0.25, confidence=0.95, map_peaks=scores)
        assert told.threshold == pytest.approx(own.threshold, rel=1e-4)
        assert told.calibration_images == len(CALIBRATION[name])
    assert len({told.threshold for told in outcome.calibrations.values()}) == 3


def test_a_site_ends_with_a_file_that_inspects(
    sites: list[Site], tmp_path: Path, photographs: list[Path]
) -> None:
    from andon import load

    own = replace(sites[0], output=tmp_path / "turku.andon")
    outcome = run(InProcess([own, sites[1]]), plan("subspacead"))
    predictor = load(tmp_path / "turku.andon")
    verdict = predictor.inspect(photographs[0])
    assert verdict.threshold == pytest.approx(outcome.calibrations["turku"].threshold)
    assert predictor.manifest["fit"]["federated"] == {"site": "turku", "rounds": 2}
    assert outcome.calibrations["turku"].artifact == "turku.andon"


def test_sites_of_folders(photographs: list[Path], tmp_path: Path) -> None:
    (site,) = sites_of_folders([photographs[0].parent], tmp_path)
    assert site.output == tmp_path / f"{site.name}.andon"
    assert len(site.parts.train) + len(site.parts.held_out) + len(site.parts.calibration) == 36
    with pytest.raises(SettingsError, match="not all different"):
        sites_of_folders([photographs[0].parent] * 2)


# --- failures -----------------------------------------------------------------------------------------------------------------


class Troubled(Site):
    """A site whose answers go through ``spoil`` first."""

    spoil: Callable[[Question, Reply], Reply]

    def answer(self, question: Question) -> Reply:
        return self.spoil(question, super().answer(question))


def troubled(site: Site, spoil: Callable[[Question, Reply], Reply]) -> Site:
    made = Troubled(site.name, site.parts)
    made.spoil = spoil
    return made


def with_entry(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Question, Reply], Reply]:
    def spoil(question: Question, reply: Reply) -> Reply:
        return (
            replace(reply, state={**reply.state, "total": change(reply.state["total"])})
            if reply.state
            else reply
        )

    return spoil


def late(question: Question, reply: Reply) -> Reply:
    time.sleep(0.6)
    return reply


SPOILED: dict[str, tuple[Callable[[Question, Reply], Reply], str]] = {
    "NaN": (with_entry(lambda of: of * torch.nan), "oslo: 'total' holds values that are not finite"),
    "shape": (
        with_entry(lambda of: of[:-1]),
        "oslo: 'total' must be float64 of 128 x 12, got float64 of 127 x 12",
    ),
    "dtype": (with_entry(lambda of: of.float()), "oslo: 'total' must be float64 of 128 x 12, got float32"),
    "entries": (
        lambda question, reply: replace(reply, state={}),
        r"oslo: the state has other entries .*\(count, image_size",
    ),
    "images": (lambda question, reply: replace(reply, images=0), "oslo: it says that it has 0 images"),
    "name": (
        lambda question, reply: replace(reply, site="bergen"),
        "another site of this name answered already",
    ),
    "absent": (lambda question, reply: Reply("oslo", error="it is not connected"), "it is not connected"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_an_answer_that_does_not_count_is_named_and_the_round_goes_on(kind: str, sites: list[Site]) -> None:
    spoil, reason = SPOILED[kind]
    reports = []
    oslo = sites[2]
    channel = InProcess([sites[0], sites[1], troubled(oslo, spoil)])
    outcome = run(channel, plan(min_sites=2), on_round=reports.append)
    first = outcome.reports[0]
    assert first.answered == ("bergen", "turku")
    (refused,) = first.refused
    assert DataError(refused.reason).args[0] == refused.reason
    import re

    assert re.search(reason, refused.reason)
    assert float(outcome.state["count"]) == 16
    assert tuple(reports) == outcome.reports


def test_a_late_site_counts_as_silent(sites: list[Site]) -> None:
    channel = InProcess([sites[0], troubled(sites[2], late)])
    first = run(channel, plan(timeout=0.5)).reports[0]
    assert (first.refused[0].site, first.refused[0].reason) == ("oslo", "no answer within 0.5 s")


def test_too_few_sites_end_the_round_with_their_reasons(sites: list[Site]) -> None:
    channel = InProcess([sites[0], troubled(sites[2], SPOILED["NaN"][0])])
    with pytest.raises(
        AndonError, match=r"round 1 \(observe\): 1 sites gave an answer that counts, and 2 are needed. oslo"
    ):
        run(channel, plan(min_sites=2))


def test_a_site_that_was_killed_takes_part_again_when_it_is_back(sites: list[Site]) -> None:
    def gone(question: Question, reply: Reply) -> Reply:
        return Reply("oslo", error="killed") if question.number == 2 else reply

    channel = InProcess([sites[0], troubled(sites[2], gone)])
    outcome = run(channel, plan("autoencoder", rounds=2))
    assert [report.answered for report in outcome.reports] == [
        ("oslo", "turku"), ("turku",), ("oslo", "turku"), ("oslo", "turku")]  # fmt: skip


def test_a_stopped_server_goes_on_at_the_next_round(sites: list[Site], tmp_path: Path) -> None:
    kept, asked = tmp_path / "rounds", plan("autoencoder", rounds=2)
    whole = run(InProcess(sites[:2]), asked)

    class Killed(InProcess):
        def ask(self, question: Question, timeout: float) -> list[Reply]:
            if question.number == 3:
                raise KeyboardInterrupt
            return super().ask(question, timeout)

    with pytest.raises(KeyboardInterrupt):
        run(Killed(sites[:2]), asked, checkpoint=kept)
    asked_again: list[int] = []

    class Counting(InProcess):
        def ask(self, question: Question, timeout: float) -> list[Reply]:
            asked_again.append(question.number)
            return super().ask(question, timeout)

    with pytest.raises(SettingsError, match="another plan"):
        run(Counting(sites[:2]), replace(asked, rounds=3), checkpoint=kept, resume=True)
    resumed = run(Counting(sites[:2]), asked, checkpoint=kept, resume=True)
    assert asked_again == [3, 4]
    assert len(resumed.reports) == 4
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)
    assert not kept.exists()


def test_a_site_without_readable_images_says_so(tmp_path: Path, sites: list[Site]) -> None:
    (tmp_path / "torn.png").write_bytes(b"not an image")
    broken = Site("torn", Parts([tmp_path / "torn.png"], [], [], {}))
    report = run(InProcess([sites[0], broken]), plan()).reports[0]
    assert report.refused[0].site == "torn"
    assert "none of the 1 images could be read" in report.refused[0].reason


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(SettingsError, match="a federation fits one method, got 'padim\\+fre'"):
        build_detector(Plan("padim+fre"))
    for wrong in (
        {"rounds": 0},
        {"min_sites": 0},
        {"proximal": -1.0},
        {"resize": "tiles"},
        {"site_rows": 0},
        {"size": (30, 64)},
    ):
        with pytest.raises(SettingsError):
            Plan(**wrong)  # type: ignore[arg-type]


def test_what_is_expected_of_a_bank_leaves_its_rows_free() -> None:
    expected = expected_of(build_detector(plan("patchcore")), SIZE)
    assert expected["patches"] == (torch.float32, (None, 40))
    assert expected["seen"] == (torch.int64, ())


def test_a_release_changes_what_leaves(sites: list[Site]) -> None:
    def doubled(contribution: Contribution) -> Contribution:
        return replace(contribution, state={**contribution.state, "count": contribution.state["count"] * 2})

    own = replace(sites[0], release=doubled)
    assert float(run(InProcess([own]), plan()).state["count"]) == 14
