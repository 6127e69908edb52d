"""A site: it holds its images and answers the server's questions about them. It keeps nothing between two questions.

So a site that was killed, or comes late, answers the next question as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from andon.engine import FitReport, Reader
from andon.errors import AndonError, DataError, SettingsError
from andon.federated.privacy.answering import private_contribution
from andon.federated.privacy.budget import Budget
from andon.federated.privacy.training import private_training, require_trainable
from andon.federated.types import Contribution, LocalTraining, Plan, Question, Release, Reply, SiteCalibration
from andon.federated.wire import expected_of
from andon.image import Preprocessing
from andon.models import accepts, build
from andon.models.base import Detector, Phase, State, Turn
from andon.models.patchcore import PatchCore
from andon.models.trained import TrainedDetector
from andon.pipeline.fitting import calibrated, loader, manifest_of
from andon.pipeline.options import FitOptions
from andon.pipeline.parts import Parts, parts_of
from andon.pipeline.rules import Rule
from andon.training import Images, Record, Source, Trainer
from andon.training import Plan as TrainingPlan
from andon.training.order import seed_of
from andon.types import Calibration

THRESHOLD_STAYS = "the threshold stays at this site: it is a score of one of its images"
BATCH = 8  # photographs read together
IMAGE_BYTES = 5e8  # of decoded images that a site keeps in memory while it trains


def build_detector(plan: Plan) -> Detector:
    """The detector that ``plan`` names, nothing observed. Raises :class:`SettingsError` for one that cannot be shared."""
    if "+" in plan.method:
        raise SettingsError(
            f"a federation fits one method, got {plan.method!r}. Fit each of its methods by itself."
        )
    settings = dict(plan.settings)
    if accepts(plan.method, "seed"):
        settings.setdefault("seed", plan.seed)
    detector = build(plan.method, **settings)
    if detector.steps and not isinstance(detector, TrainedDetector):
        raise SettingsError(f"{plan.method} trains in a way that sites cannot share")
    return detector


def outgoing(detector: Detector, rows: int | None) -> State:
    """What of ``detector`` leaves a site: its statistics; of a memory bank its own coreset, the first ``rows`` of it.

    The rows of a coreset come in the order in which they were chosen: the first are themselves a greedy coreset.
    """
    if not isinstance(detector, PatchCore):
        return detector.statistics()
    detector.close()
    state = detector.kept_statistics()
    return {name: of[:rows].clone() if of.ndim else of for name, of in state.items()}


def descend(detector: Detector, images: Source, phase: Phase, seed: int) -> None:
    """Train ``detector`` by ``phase`` alone, images and random numbers drawn from ``seed``: a site's round of FedAvg.

    Optimisers begin anew in every round (McMahan et al. 2017, algorithm 1).
    """
    trainer = Trainer(detector, images, TrainingPlan(cache_gb=0))
    trainer.phases, trainer.records = [phase], [Record(phase.name, phase.steps)]
    own, detector.seed = detector.seed, seed
    try:
        trainer.run()
    finally:
        detector.seed = own


def held_near(phase: Phase, mu: float) -> Phase:
    """``phase`` with FedProx's term in every turn: + mu/2 |w - w^t|^2 (Li et al. 2020, eq. 2), w^t the weights as they are."""

    def near(turn: Turn) -> Turn:
        anchor = [parameter.detach().clone() for parameter in turn.parameters]

        def loss(images: Tensor, frozen: State) -> Tensor:
            apart = [(now - then).square().sum() for now, then in zip(turn.parameters, anchor, strict=True)]
            return turn.loss(images, frozen) + mu / 2 * torch.stack(apart).sum()

        return replace(turn, loss=loss)

    return phase if mu == 0 else replace(phase, turns=[near(turn) for turn in phase.turns])


def share_of(phase: Phase, begin: float, end: float) -> Phase:
    """The part of ``phase`` from ``begin`` to ``end``, shares of it; its learning rate goes on where it was."""
    steps = round(end * phase.steps) - round(begin * phase.steps)
    return replace(phase, steps=steps, rate=lambda done: phase.rate(begin + done * (end - begin)))


@dataclass
class Site:
    """One plant. ``parts``: its good images by what they are for; ``output``: the .andon file that it ends with.

    Without ``output`` nothing is exported: the threshold is one of the detector as PyTorch computes it. ``release`` is
    called on what is about to leave; ``train`` is how a round of training is done. ``budget``: what may be told about its
    images at all; with one, a plan without privacy is refused.
    """

    name: str
    parts: Parts
    output: Path | None = None
    release: Release | None = None
    train: LocalTraining = descend
    budget: Budget | None = None
    workers: int = 0
    _readable: list[Path] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of_folder(cls, name: str, folder: Path, output: Path | None = None, *, options: FitOptions | None = None,
                  **more: Any) -> Site:  # fmt: skip
        """The site whose good images lie in ``folder``, divided as ``andon fit`` would. Raises :class:`DataError`."""
        return cls(name, parts_of(folder, options or FitOptions(), uses_held_out=True), output, **more)

    def answer(self, question: Question) -> Reply:
        """What this site says to ``question``; what goes wrong here is said, not raised."""
        try:
            if question.kind == "observe":
                return self._told(self.observe(question))
            if question.kind == "train":
                return self._told(self.learn(question))
            return Reply(self.name, images=len(self.parts.calibration), plain=asdict(self.finish(question)))
        except (AndonError, OSError, RuntimeError, ValueError, KeyError) as error:
            return Reply(self.name, error=f"{type(error).__name__}: {error}")

    def _told(self, contribution: Contribution) -> Reply:
        if self.release is not None:
            contribution = self.release(contribution)
        return Reply(self.name, contribution.state, contribution.images)

    def observe(self, question: Question) -> Contribution:
        """The statistics of this site's images alone."""
        plan = question.plan
        detector, reader = build_detector(plan), self._reader(plan)
        if self.privately(plan) and not detector.steps:
            batches = reader.tensors(self.fitted_on(detector))
            return private_contribution(self.name, detector, question, batches, self.budget)
        names, paths = (
            expected_of(detector, plan.size),
            self.fitted_on(detector),
        )  # (the first resets it, too)
        seen = 0
        for images in reader.tensors(paths):
            detector.observe(images)
            seen += len(images)
        if not seen:
            raise DataError(f"none of the {len(paths)} images could be read")
        state = outgoing(detector, plan.site_rows)
        return Contribution(self.name, {name: state[name] for name in names}, seen)

    def learn(self, question: Question) -> Contribution:
        """The weights after this site's part of one round of training, from ``question.state`` on."""
        plan, plain = question.plan, question.plain
        detector = build_detector(plan)
        detector.load_statistics(question.state)
        phase = detector.phases()[int(plain["phase"])]
        paths = self.readable(plan, detector)
        images = Images(paths, loader(self.preprocessing(plan)), workers=self.workers, limit=IMAGE_BYTES)
        if self.privately(plan):
            require_trainable(detector, plan)
        if isinstance(phase, Phase):
            part = held_near(share_of(phase, plain["begin"], plain["end"]), plan.proximal)
            train = private_training(plan, self.budget) if self.privately(plan) else self.train
            train(detector, images, part, seed_of(plan.seed, question.number))
        else:
            with torch.no_grad():
                for batch in self._reader(plan).tensors(paths):
                    phase.look(batch)
        if isinstance(detector, TrainedDetector):
            detector.images_seen = len(paths)  # counts are added up: each site says its own again
        return Contribution(self.name, detector.statistics(), len(paths))

    def privately(self, plan: Plan) -> bool:
        """Whether ``plan`` promises privacy. Raises :class:`SettingsError` where it does not and this site asks for it."""
        if plan.privacy is None and self.budget is not None:
            raise SettingsError(
                f"this site tells nothing without noise (epsilon {self.budget.epsilon:g} at most), and the plan promises no "
                "privacy. Start the server with --epsilon."
            )
        return plan.privacy is not None

    def fitted_on(self, detector: Detector) -> list[Path]:
        """This site's images for ``detector``; the held-out ones, too, where it has no use for such."""
        return self.parts.train + ([] if detector.uses_held_out else self.parts.held_out)

    def readable(self, plan: Plan, detector: Detector) -> list[Path]:
        """Those of them that can be read; looked at once."""
        paths = self.fitted_on(detector)
        if self._readable is None:
            broken = {path for batch in self._reader(plan).batches(paths) for path, _ in batch.skipped}
            self._readable = [path for path in paths if str(path) not in broken]
        if not self._readable:
            raise DataError(f"none of the {len(paths)} images could be read")
        return self._readable

    def finish(self, question: Question) -> SiteCalibration:
        """This site's threshold for the detector that all sites made; its .andon file is written, if it is to have one."""
        plan, detector = question.plan, self.closed(question.plan, question.state)
        if self.output is None:
            calibration = self._calibrate(detector, self._reader(plan), plan)
        else:
            calibration = self._export(detector, plan, question.number, self.output)
        if plan.privacy is not None:  # the score of one image, and none of noise: it stays here
            return SiteCalibration(self.name, math.nan, plan.target_rate, math.nan, 0, THRESHOLD_STAYS,
                                   self.output.name if self.output else "")  # fmt: skip
        return SiteCalibration(self.name, calibration.threshold, calibration.target_rate, calibration.promised_rate,
                               len(calibration.nominal_scores), calibration.statement,
                               self.output.name if self.output else "")  # fmt: skip

    def closed(self, plan: Plan, state: State) -> Detector:
        """This site's detector on ``state``, what all sites made; it may look at the site's held-out images."""
        detector = build_detector(plan)
        detector.load_statistics(state)
        detector.close(self._reader(plan).tensors(self.parts.held_out if detector.uses_held_out else []))
        return detector

    @torch.no_grad()
    def _calibrate(self, detector: Detector, reader: Reader, plan: Plan) -> Calibration:
        found = [detector(images) for images in reader.tensors(self.parts.calibration)]
        scores = [float(score) for one in found for score in one.image_score]
        peaks = [float(peak) for one in found for peak in one.anomaly_map.flatten(1).amax(1)]
        return Rule(plan.target_rate, plan.confidence)(scores, peaks, [])

    def _export(self, detector: Detector, plan: Plan, rounds: int, output: Path) -> Calibration:
        from andon.calibrate import calibration_to_dict, uncalibrated
        from andon.export import to_artifact
        from andon.files import single_writer

        options = FitOptions(size=plan.size, resize=plan.resize, target_rate=plan.target_rate,
                             confidence=plan.confidence, seed=plan.seed)  # fmt: skip
        report = FitReport(images=len(self.fitted_on(detector)))
        manifest = manifest_of(self.parts, report, options, TrainingPlan())
        manifest["fit"]["federated"] = {"site": self.name, "rounds": rounds}
        manifest["explain"] = {"language": None, "pictures": 0, "bytes": 0}
        blank = {**manifest, "calibration": calibration_to_dict(uncalibrated())}
        draft = to_artifact(detector, self.preprocessing(plan), blank)
        predictor = calibrated(draft, None, self.parts, options, None)
        with single_writer(output):
            predictor.save(output)
        return predictor.calibration

    def _reader(self, plan: Plan) -> Reader:
        return Reader(loader(self.preprocessing(plan)), BATCH, self.workers)

    @staticmethod
    def preprocessing(plan: Plan) -> Preprocessing:
        """How this site's photographs become the network's input: as ``plan`` says, the same at every site."""
        return Preprocessing(size=plan.size, resize=plan.resize)


def good_images(folder: Path, plan: Plan) -> list[Tensor]:
    """Batches of the good images in ``folder``, as the network of ``plan`` sees them: the server's own, for its check."""
    site = Site.of_folder("server", folder)
    paths = [*site.parts.train, *site.parts.held_out, *site.parts.calibration]
    return list(Reader(loader(site.preprocessing(plan)), BATCH, 0).tensors(paths))


def sites_of_folders(folders: Sequence[Path], outputs: Path | None = None, **more: Any) -> list[Site]:
    """A site for each folder, named after it; ``outputs``: where each writes ``<name>.andon``.

    Raises :class:`SettingsError` where two folders have the same name.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise SettingsError(
            f"sites are named after their folders, and these names are not all different: {', '.join(names)}"
        )
    files = [outputs / f"{name}.andon" if outputs else None for name in names]
    return [
        Site.of_folder(name, folder, file, **more)
        for name, folder, file in zip(names, folders, files, strict=True)
    ]
