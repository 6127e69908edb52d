"""The same sites fitted in several ways, and judged on the same test images: local only, federated, centralised.

``local``         each site alone, on its own images
``federated``     by :func:`andon.federated.run`, states through the bytes that a network would carry
``centralised``   as if one site held the training images of all
``federated, size | equal | need``   with other weights of the sites (:mod:`andon.federated.fairness`)

In each, a site closes the detector itself and sets its threshold on its own calibration images, which shaped no detector,
and is judged on its own test images. A run's seed draws which good images set the threshold, and the detector's own seed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from andon.cells import finite
from andon.data import read_channels, split_nominal
from andon.errors import AndonError
from andon.evaluate import evaluate
from andon.federated.fairness import RULES, weighted, weights_by
from andon.federated.partition_files import placed, to_plain, write_share
from andon.federated.partitions import Partition, Share
from andon.federated.rounds import InProcess, run
from andon.federated.sites import Site, build_detector
from andon.federated.types import Aggregate, Channel, Plan, Question, Reply
from andon.files import atomic_write, single_writer
from andon.models.base import Detector, State
from andon.models.patchcore import PatchCore
from andon.pipeline.fitting import loader
from andon.pipeline.options import FitOptions
from andon.pipeline.parts import HELD_OUT, Parts
from andon.pipeline.rules import Rule

Row = dict[str, Any]
LOCAL, FEDERATED, CENTRALISED = "local", "federated", "centralised"
WAYS = (LOCAL, FEDERATED, CENTRALISED)
PATIENCE = 1e9  # seconds that a round waits for a site of this process
FIGURES = ("image_auroc", "image_ap", "tpr_at_tnr_95", "pixel_auroc", "aupro_30", "auspro_5", "fpr", "fnr")


def fair(rule: str) -> str:
    """The way's name of a federation whose sites count by ``rule``."""
    return f"{FEDERATED}, {rule}"


@dataclass(frozen=True)
class Cell:
    """One fit in one way, and its evaluation at every site."""

    partition: Partition
    plan: Plan  # its seed is the run's
    way: str
    q: float = 2.0  # of the weights by need

    @cached_property
    def key(self) -> str:
        """A name of its own: of the method, the way and the seed, and a hash of everything else that decides the result."""
        what = {
            "partition": to_plain(self.partition),
            "plan": asdict(self.plan),
            "way": self.way,
            "q": self.q if self.way == fair("need") else None,
            "figures": FIGURES,
        }
        found = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
        way = self.way.replace(", ", "-")
        return f"{self.plan.method}-{way}-{self.partition.recipe.by}-{self.plan.seed}-{found[:12]}"

    def described(self) -> Row:
        """What a result says of how it was made."""
        recipe = self.partition.recipe
        return {"scene": recipe.label, "by": recipe.by, "alpha": recipe.alpha, "partition_seed": recipe.seed,
                "roots": [root.name for root in self.partition.roots], "method": self.plan.method, "way": self.way,
                "seed": self.plan.seed, "target_rate": self.plan.target_rate, "size": list(self.plan.size),
                "settings": {name: str(value) for name, value in self.plan.settings.items()},
                "rounds": self.plan.rounds}  # fmt: skip


def cells_of(partitions: Sequence[Partition], plans: Sequence[Plan], seeds: int, rules: Sequence[str] = RULES,
             q: float = 2.0) -> list[Cell]:  # fmt: skip
    """Every partition under every plan, ``seeds`` times, in each way; a partition's runs begin at its own seed.

    By size is how all but memory banks are merged anyway: it is no way of its own for them.
    """
    cells = []
    for partition in partitions:
        for plan in plans:
            is_bank = isinstance(build_detector(plan), PatchCore)
            own = [fair(rule) for rule in rules if rule != "size" or is_bank]
            for run_number in range(seeds):
                seeded = replace(plan, seed=partition.recipe.seed + run_number)
                cells += [Cell(partition, seeded, way, q) for way in (*WAYS, *own)]
    return cells


def compare(cells: Sequence[Cell], out: Path, *, say: Callable[[Cell, Row], None] | None = None) -> list[Row]:
    """The result of each cell, kept in ``out/cells``: what is there already is not computed again.

    A cell that fails is a row with its ``error``, and tried again the next time. Raises BusyError where another one
    writes to ``out``.
    """
    (out / "cells").mkdir(parents=True, exist_ok=True)
    rows = []
    with single_writer(out / "results.json"):
        for cell, row in _computed(cells, out):
            rows.append(row)
            if say is not None:
                say(cell, row)
        with atomic_write(out / "results.json", "w") as file:
            json.dump(rows, file, indent=1)
    return rows


def _computed(cells: Sequence[Cell], out: Path) -> Iterator[tuple[Cell, Row]]:
    scene: Scene | None = None
    for cell in cells:
        path = out / "cells" / f"{cell.key}.json"
        kept = _kept(path)
        if kept is None:
            if scene is None or not scene.is_of(cell):
                scene = Scene.of(cell, out / "images")
            kept = _result(scene, cell)
            with atomic_write(path, "w") as file:
                json.dump(kept, file, indent=1)
        yield cell, kept


def _kept(path: Path) -> Row | None:
    """The result in ``path``, if it is whole and did not fail."""
    try:
        found: Row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("status") == "done" else None


def _result(scene: Scene, cell: Cell) -> Row:
    try:
        return {**cell.described(), "status": "done", **scene.result(cell)}
    except AndonError as error:
        return {**cell.described(), "status": "failed", "error": " ".join(str(error).split())}


# --- one partition under one plan -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What fitting in one way gave: the state that each site closes its detector on, and what it took."""

    states: Mapping[str, State]
    plan: Plan
    seconds: float
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass
class Scene:
    """The sites of one partition with their images in place, under one plan; what they observed is asked for once."""

    partition: Partition
    plan: Plan
    shares: dict[str, Share]
    sites: dict[str, Site]

    @classmethod
    def of(cls, cell: Cell, folder: Path) -> Scene:
        """The scene of ``cell``; photographs that a shift changes are written below ``folder``, once."""
        shares = [in_place(share, cell.partition, folder) for share in cell.partition.shares]
        uses = build_detector(cell.plan).uses_held_out
        sites = {share.name: Site(share.name, parts_at(share, cell.plan.seed, uses)) for share in shares}
        return cls(cell.partition, cell.plan, {share.name: share for share in shares}, sites)

    def is_of(self, cell: Cell) -> bool:
        """Whether this is the scene of ``cell``, too."""
        return self.partition is cell.partition and self.plan == cell.plan

    def result(self, cell: Cell) -> Row:
        """The figures of every site, and what it cost."""
        made = self.made(cell)
        sites = {name: self._at(name, made) for name in self.sites}
        nominal = [score for own in sites.values() for score in own.pop("nominal")]
        common = Rule(self.plan.target_rate, self.plan.confidence)(nominal, nominal, []).threshold
        for own in sites.values():
            good = own.pop("good_scores")
            own["false_alarms_common"] = None if cell.way == LOCAL else sum(score > common for score in good)
        return {"sites": sites, "seconds": made.seconds, "bytes_up": made.bytes_up, "bytes_down": made.bytes_down,
                "image_bytes": sum(path.stat().st_size for site in self.sites.values() for path in _good(site))}  # fmt: skip

    @property
    def _together(self) -> Plan:
        """Every site must answer, however long it takes: what is compared is all of them."""
        return replace(self.plan, min_sites=len(self.sites), timeout=PATIENCE)

    @property
    def _alone(self) -> Plan:
        """What one site fits by: without a pause, nothing to hold it near to others, and nobody to hide its images from."""
        return replace(self.plan, min_sites=1, timeout=PATIENCE, rounds=1, proximal=0.0, privacy=None)

    def made(self, cell: Cell) -> Made:
        """What the way of ``cell`` makes of all sites' images."""
        if cell.way == LOCAL:
            began = time.monotonic()
            states = {name: run(InProcess([site]), self._alone).state for name, site in self.sites.items()}
            return Made(states, self._alone, time.monotonic() - began)
        if cell.way == CENTRALISED:
            began = time.monotonic()
            state = run(InProcess([self.pooled]), self._alone).state
            return Made(dict.fromkeys(self.sites, state), self._alone, time.monotonic() - began)
        if cell.way == FEDERATED:
            return self._federated(InProcess(list(self.sites.values())), None)
        return self._federated(self._channel, self._rule(cell))

    def _federated(self, channel: Channel, aggregate: Aggregate | None) -> Made:
        began = time.monotonic()
        outcome = run(channel, self._together, aggregate=aggregate)
        seconds = time.monotonic() - began
        up, down = (
            sum(getattr(report, name) for report in outcome.reports) for name in ("bytes_up", "bytes_down")
        )
        return Made(dict.fromkeys(self.sites, outcome.state), self.plan, seconds, up, down)

    def _rule(self, cell: Cell) -> Aggregate:
        rule = cell.way.removeprefix(fair(""))
        images = {name: len(site.fitted_on(build_detector(self.plan))) for name, site in self.sites.items()}
        need = self._need if rule == "need" else None
        return weighted(build_detector(self.plan), weights_by(rule, images, need, cell.q))

    @cached_property
    def pooled(self) -> Site:
        """One site with the images of all."""
        parts = Parts([], [], [], {})
        for own in (site.parts for site in self.sites.values()):
            parts.train.extend(own.train)
            parts.held_out.extend(own.held_out)
            parts.calibration.extend(own.calibration)
        return Site("all", parts)

    @cached_property
    def _channel(self) -> Remembered:
        return Remembered(InProcess(list(self.sites.values())))

    @cached_property
    def _need(self) -> dict[str, float]:
        """The mean score of each site's own calibration images under the detector that all made by size."""
        made = self._federated(self._channel, None)
        found = {}
        for name, site in self.sites.items():
            scores = scorer(site.closed(self.plan, made.states[name]), self.plan)
            nominal = [scores(path)[0] for path in site.parts.calibration]
            found[name] = sum(nominal) / len(nominal)
        return found

    def _at(self, name: str, made: Made) -> Row:
        """What is found at one site: its figures, its threshold, and the scores that a common threshold needs."""
        site, share = self.sites[name], self.shares[name]
        score = scorer(site.closed(made.plan, made.states[name]), made.plan)
        found = [score(path) for path in site.parts.calibration]
        nominal = [one[0] for one in found]
        calibration = Rule(self.plan.target_rate, self.plan.confidence)(
            nominal, [float(m.max()) for _, m in found], []
        )
        evaluation = evaluate(
            share.test, lambda sample: score(sample.path), threshold=calibration.threshold, channels=read_channels,
            spro_limits=(0.05,), bootstrap=0,
        )  # fmt: skip
        figures = {key: metric.value for key, metric in evaluation.groups["all"].items() if key in FIGURES}
        good = [row.image_score for row in evaluation.rows if not row.is_anomalous and not row.error]
        failed = sum(row.decision == "fail" for row in evaluation.rows if not row.is_anomalous)
        return {"figures": figures, "false_alarms": failed, "threshold": finite(calibration.threshold), "promised_rate": calibration.promised_rate,
                "train": len(site.parts.train), "calibration": len(nominal), "test_good": len(good),
                "test_anomalous": share.tested(anomalous=True), "nominal": nominal, "good_scores": good}  # fmt: skip


class Remembered:
    """A channel that asks for what sites have observed once, for several ways to merge it."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.observed = channel, list[Reply]()

    def ask(self, question: Question, timeout: float) -> list[Reply]:
        """The replies, sorted by site."""
        if question.kind != "observe":
            return self.channel.ask(question, timeout)
        self.observed = self.observed or self.channel.ask(question, timeout)
        return self.observed


def parts_at(share: Share, seed: int, uses_held_out: bool) -> Parts:
    """A site's good images by what they are for, divided as ``andon fit`` would; none is also a test image."""
    split = split_nominal(
        [*share.train, *share.test], held_out=HELD_OUT if uses_held_out else 0.0,
        calibration=float(FitOptions().calibration), seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    train, held_out, calibration = ([one.path for one in own] for own in split[:3])
    return Parts(train, held_out, calibration, {})


def scorer(detector: Detector, plan: Plan) -> Callable[[Path], tuple[float, Any]]:
    """What gives a photograph's raw image score and its raw anomaly map (H, W)."""
    load = loader(Site.preprocessing(plan))

    @torch.no_grad()
    def score(path: Path) -> tuple[float, Any]:
        found = detector(torch.from_numpy(load(path))[None])
        return float(found.image_score[0]), found.anomaly_map[0, 0].numpy()

    return score


def in_place(share: Share, partition: Partition, folder: Path) -> Share:
    """``share`` with photographs as its line shows them, as files; written below ``folder`` where they are not yet."""
    if not share.shift.changes:
        return share
    what = json.dumps(
        [to_plain(partition)["sites"][share.name], [str(root) for root in partition.roots]], sort_keys=True
    )
    own = folder / f"{share.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    if own.is_dir():
        return placed(share, own)
    own.parent.mkdir(parents=True, exist_ok=True)
    return write_share(share, own)


def _good(site: Site) -> list[Path]:
    return [*site.parts.train, *site.parts.held_out, *site.parts.calibration]
