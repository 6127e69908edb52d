"""The server's side of a federation, whatever lies between it and the sites.

    observe -> merge -> (train -> merge)^R -> close, then every site closes its own and sets its own threshold

Each answer is looked at before it counts; a round goes on without the sites that are silent, late or refused, while
enough are left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from andon.errors import AndonError, DataError, SettingsError
from andon.federated.checkpoint import RoundKeeper
from andon.federated.privacy.answering import private_rounds
from andon.federated.robust import rule_of
from andon.federated.sites import Site, build_detector
from andon.federated.types import (
    Aggregate,
    Channel,
    Contribution,
    Outcome,
    Plan,
    Question,
    QuestionKind,
    Refused,
    Reply,
    Report,
    SiteCalibration,
)
from andon.federated.wire import Expected, carry, expected_of, require_like
from andon.models.base import Detector, Phase, State


@dataclass(frozen=True)
class Step:
    """One round: what is asked, and in training which part of which phase."""

    kind: QuestionKind
    phase: str = ""
    plain: Mapping[str, Any] = field(default_factory=dict)


def schedule(detector: Detector, rounds: int, observations: int = 1) -> list[Step]:
    """The rounds that fitting ``detector`` takes; each of its training phases is cut into ``rounds`` equal parts."""
    steps = [Step("observe")] * observations
    for number, phase in enumerate(detector.phases()):
        cuts = rounds if isinstance(phase, Phase) else 1
        steps += [
            Step("train", phase.name, {"phase": number, "begin": cut / cuts, "end": (cut + 1) / cuts})
            for cut in range(cuts)
        ]
    return [*steps, Step("finish")]


def default_aggregate(detector: Detector, *, equally: bool = False) -> Aggregate:
    """The rule without privacy or robustness: the detector's own ``merge``, weights the sites' images (or all alike).

    Closed-form statistics are added up site by site, held to the detector's own bound on what it keeps.
    """

    def average(contributions: Sequence[Contribution]) -> State:
        states = [contribution.state for contribution in contributions]
        return type(detector).merge(states, [1 if equally else one.images for one in contributions])

    def add(sum_so_far: Contribution, one: Contribution) -> Contribution:
        state = type(detector).merge([sum_so_far.state, one.state], [sum_so_far.images, one.images])
        detector.load_statistics(state)
        return Contribution("", detector.statistics(), sum_so_far.images + one.images)

    def add_up(contributions: Sequence[Contribution]) -> State:
        return reduce(add, contributions).state

    return average if detector.steps else add_up


def run(channel: Channel, plan: Plan, *, aggregate: Aggregate | None = None, expected: Expected | None = None,
        checkpoint: Path | None = None, resume: bool = False, on_round: Callable[[Report], None] | None = None,
        check: Sequence[Tensor] = ()) -> Outcome:  # fmt: skip
    """What the sites behind ``channel`` make together by ``plan``.

    ``expected``: what an answer looks like, where a site's ``release`` changes that (masks); ``aggregate`` undoes it.
    ``checkpoint``: where the state is kept after each round; with ``resume``, rounds that it holds are not asked again.
    ``check``: batches of the server's own good images; sites whose answers do not fit them do not count
    (:mod:`andon.federated.robust`). ``on_round`` is told of each round when it is over. Raises :class:`AndonError` when fewer than ``plan.min_sites`` gave an answer that counts in a round.
    """
    detector = build_detector(plan)
    private = private_rounds(detector, plan) if plan.privacy is not None else None
    like = expected or (private.expected if private else expected_of(detector, plan.size))
    server = _Server(channel, plan, detector, like, on_round or (lambda report: None))
    if private and check:
        raise SettingsError("noise hides what a check would look at; give privacy or good images, not both")
    rule = default_aggregate(detector, equally=plan.weigh_equally)
    server.aggregate = aggregate or (
        private.merged if private else rule_of(detector, plan, rule, check, server.doubt)
    )
    keeper = RoundKeeper(checkpoint, plan, resume)
    steps = schedule(detector, plan.rounds, private.observations if private else 1)
    kept = keeper.found()
    state, server.reports = kept if kept is not None else ({}, [])
    if private and state:
        private.go_on_from(state)
    for number, step in enumerate(steps[:-1], 1):
        if number > len(server.reports):
            server.expected = private.expected if private and not expected else like  # a bank's centres move
            state = server.merged(step, number, state)
            keeper.save(state, server.reports)
    detector.load_statistics(state)
    detector.close()
    final = detector.kept_statistics()
    calibrations = server.finished(len(steps), final)
    keeper.done()
    return Outcome(detector, final, tuple(server.reports), calibrations)


class _Server:
    """Asks, looks at the answers, merges, and keeps a report of each round."""

    aggregate: Aggregate

    def __init__(self, channel: Channel, plan: Plan, detector: Detector, expected: Expected,
                 on_round: Callable[[Report], None]) -> None:  # fmt: skip
        self.channel, self.plan, self.detector = channel, plan, detector
        self.expected, self.on_round = expected, on_round
        self.reports: list[Report] = []

    def doubt(self, refused: Refused) -> None:
        """Note in the latest report what the aggregate left out."""
        latest = self.reports[-1]
        self.reports[-1] = replace(latest, refused=(*latest.refused, refused))

    def merged(self, step: Step, number: int, state: State) -> State:
        """The state after one round of observing or training."""
        question = Question(step.kind, self.plan, state, step.plain, number)
        contributions: list[Contribution] = []

        def take(reply: Reply) -> None:
            if reply.images < 1:
                raise DataError(f"{reply.site}: it says that it has {reply.images} images")
            require_like(reply.state, self.expected, reply.site)
            contributions.append(Contribution(reply.site, reply.state, reply.images))

        self._round(question, step.phase, take)
        merged = self.aggregate(contributions)
        self.on_round(self.reports[-1])
        if not all(bool(torch.isfinite(of).all()) for of in merged.values() if of.is_floating_point()):
            raise DataError(f"round {number}: the merged state is not finite; nothing was taken over.")
        return merged

    def finished(self, number: int, state: State) -> dict[str, SiteCalibration]:
        """What every site says of its own threshold, after it closed its own detector on ``state``."""
        found: dict[str, SiteCalibration] = {}

        def take(reply: Reply) -> None:
            try:
                found[reply.site] = SiteCalibration(**{**reply.plain, "site": reply.site})
            except TypeError as error:
                raise DataError(f"{reply.site}: its last answer is not a calibration ({error})") from error

        self._round(Question("finish", self.plan, state, {}, number), "", take)
        self.on_round(self.reports[-1])
        return found

    def _round(self, question: Question, phase: str, take: Callable[[Reply], None]) -> None:
        """Ask, hand each sound answer to ``take``, report; raise :class:`AndonError` where too few are left."""
        began = time.monotonic()
        replies = sorted(self.channel.ask(question, self.plan.timeout), key=lambda reply: reply.site)
        answered: dict[str, int] = {}
        refused: list[Refused] = []
        for reply in replies:
            try:
                if reply.error:
                    raise DataError(reply.error)
                if reply.site in answered:
                    raise DataError(
                        "another site of this name answered already; give every site a name of its own"
                    )
                take(reply)
                answered[reply.site] = reply.images
            except AndonError as error:
                refused.append(Refused(reply.site, str(error)))
        report = Report(question.number, question.kind, phase, tuple(answered), tuple(refused), answered,
                        sum(reply.bytes_up for reply in replies), sum(reply.bytes_down for reply in replies),
                        round(time.monotonic() - began, 3))  # fmt: skip
        self.reports.append(report)
        if len(answered) < self.plan.min_sites:
            self.on_round(report)
            reasons = "; ".join(f"{one.site}: {one.reason}" for one in refused) or "no site answered"
            raise AndonError(
                f"round {question.number} ({question.kind}): {len(answered)} sites gave an answer that counts, and "
                f"{self.plan.min_sites} are needed. {reasons}. What was merged before is kept: put that right and go on with "
                "--resume."
            )


class InProcess:
    """The channel to sites in this process, asked one after the other: for tests and comparisons.

    States travel as they would over a network, through the same bytes. A site that took longer than the timeout counts
    as silent.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = sorted(sites, key=lambda site: site.name)

    def ask(self, question: Question, timeout: float) -> list[Reply]:
        """The replies, sorted by site."""
        return [self._ask(site, question, timeout) for site in self.sites]

    def _ask(self, site: Site, question: Question, timeout: float) -> Reply:
        state, down = carry(question.state, site.name)
        began = time.monotonic()
        reply = site.answer(Question(question.kind, question.plan, state, question.plain, question.number))
        if time.monotonic() - began > timeout:
            return Reply(site.name, error=f"no answer within {timeout:g} s", bytes_down=down)
        returned, up = carry(reply.state, site.name)
        return Reply(reply.site, returned, reply.images, reply.plain, reply.error, up, down)
