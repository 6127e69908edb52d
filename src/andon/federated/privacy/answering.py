"""Where privacy meets the rounds: what a site answers, and what the server makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from andon.errors import SettingsError
from andon.federated.privacy.banks import PrivateBank
from andon.federated.privacy.budget import Budget
from andon.federated.privacy.statistic import (
    Statistic,
    expected_private,
    merge_privately,
    observe_privately,
    statistic_of,
)
from andon.federated.privacy.training import require_trainable
from andon.federated.types import Contribution, Plan, Privacy, Question
from andon.federated.wire import Expected, expected_of
from andon.models.base import Detector, State


def private_contribution(site: str, detector: Detector, question: Question, batches: Iterable[Tensor],
                         budget: Budget | None) -> Contribution:  # fmt: skip
    """What ``site`` says of the images in ``batches`` when it is asked to observe."""
    privacy = _required(question.plan)
    statistic = statistic_of(detector, question.plan)
    if question.state and isinstance(statistic, PrivateBank):
        statistic.go_on_from(question.state)
    told = observe_privately(statistic, batches, privacy, budget=budget)
    return Contribution(site, told.state, told.images)


@dataclass(frozen=True)
class PrivateRounds:
    """The server's side: what sites' answers look like, in how many rounds, and what they come to."""

    detector: Detector
    plan: Plan
    statistic: Statistic | None  # None: private training, whose states are the detector's own

    @property
    def observations(self) -> int:
        """How often sites are asked to observe."""
        return _required(self.plan).lloyd if self.statistic else 1

    @property
    def expected(self) -> Expected:
        """What an answer looks like."""
        if self.statistic is None:
            return expected_of(self.detector, self.plan.size)
        return expected_private(self.statistic)

    def merged(self, contributions: Sequence[Contribution]) -> State:
        """The aggregate of a round. A bank's rows are kept as the centres of the next round."""
        if self.statistic is None:
            weights = [1 if self.plan.weigh_equally else one.images for one in contributions]
            return type(self.detector).merge([one.state for one in contributions], weights)
        return merge_privately(self.statistic, _required(self.plan), contributions)

    def go_on_from(self, state: State) -> None:
        """Take up the rounds after the one that ended with ``state``."""
        if isinstance(self.statistic, PrivateBank):
            self.statistic.go_on_from(state)


def private_rounds(detector: Detector, plan: Plan) -> PrivateRounds:
    """The server's side of ``plan.privacy``. Raises :class:`SettingsError` for what cannot be private."""
    if detector.steps:
        require_trainable(detector, plan)
        return PrivateRounds(detector, plan, None)
    return PrivateRounds(detector, plan, statistic_of(detector, plan))


def _required(plan: Plan) -> Privacy:
    if plan.privacy is None:
        raise SettingsError("the plan promises no privacy")
    return plan.privacy
