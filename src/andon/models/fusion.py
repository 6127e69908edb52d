"""Fusion: several detectors as one, each brought to p-values of good images before they are combined.

A detector that compares patches (PatchCore) finds what is new at a spot; one that looks at the whole (FRE, GCAD) finds what
does not fit together. Their scores are on different scales, so each is first turned into how rare it is on good images.

    L = log(n / k) + (s - u) / beta,     beta = mean of (s_i - u) over the k largest of n held-out scores      (tail)
    -log p = -log( m / sum over members of 1 / p_i ) = log( (1/m) sum over members of exp L_i )                (harmonic)

Tail: u is the (k + 1)-th largest held-out score; beyond it, excesses are taken as exponential, the generalised Pareto
distribution (Pickands 1975; Balkema and de Haan 1974) with shape 0: its shape cannot be told from ten excesses
(:mod:`andon.calibrate.extrapolated` takes it from 25 and more, for a threshold). L = -log p goes on rising however rare the
score, so that no two defects tie. Below u it falls on along the same line, beyond 0 too: p is at most 1 there, and L still
tells which of two good images is the better one.

Harmonic: D. J. Wilson 2019, "The harmonic mean p-value for combining dependent tests", PNAS 116. The members see the same
image, often through the same backbone: their p-values depend on each other, which the harmonic mean allows for and Fisher's
sum of -log p does not. A defect that one member alone sees keeps its p-value but for the factor m.

Maps are combined the same way, with the tail of the maps' peaks: L of a pixel says how rare so high a peak is on a good
image, so members' maps share one scale.

Letters: B images, m members, n held-out images, k excesses, u ``threshold``, beta ``mean_excess``; s a score or a peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from andon.errors import DataError, SettingsError
from andon.models.base import Detector, Look, Phase, Progress, Scores, State, Turn
from andon.models.checks import one_of, require_images

JOINT = "+"  # between the members' names: patchcore+fre
EXCESSES = 10  # k: so many, where there are as many,
TOP_SHARE = 0.1  # or this share of the held-out images where that is more
HELD_OUT_LIMIT = 500  # held-out images looked at, and kept in memory for it
LEAST = 2  # held-out images
FLOOR = 1e-3  # least beta, as a share of the largest held-out score: equal scores do not explode
HELD, SCORES, MAPS = "held_out", "tails.scores", "tails.maps"  # entries of a state that are no member's


def harmonic(logs: Tensor) -> Tensor:
    """-log of the harmonic mean (B, ...) of p-values, from -log p (B, m, ...).

    >>> p = torch.tensor([[0.01, 0.5]])
    >>> round(float(harmonic(-p.log()).neg().exp()), 4), round(2 / (1 / 0.01 + 1 / 0.5), 4)
    (0.0196, 0.0196)
    """
    most = logs.amax(1, keepdim=True)
    return most[:, 0] + (logs - most).exp().mean(1).log()


def fisher(logs: Tensor) -> Tensor:
    """The sum (B, ...) of -log p (B, m, ...): half of Fisher's statistic (1932)."""
    return logs.sum(1)


def smallest(logs: Tensor) -> Tensor:
    """-log (B, ...) of the smallest of the p-values, from -log p (B, m, ...): Tippett (1931)."""
    return logs.amax(1)


RULES: dict[str, Callable[[Tensor], Tensor]] = {"harmonic": harmonic, "fisher": fisher, "smallest": smallest}


class Tails(nn.Module):
    """L of m members' values: the exponential tail of each on good images.

    >>> tails = Tails(1)
    >>> tails.fit(torch.tensor([[1.0], [2.0], [3.0]]))  # u = 1, beta = mean of 1 and 2
    >>> round(tails(torch.tensor([[4.0]])).item(), 4) == round(math.log(3 / 2) + (4 - 1) / 1.5, 4)
    True
    """

    threshold: Tensor  # u: (m,) float32
    mean_excess: Tensor  # beta: (m,) float32
    level: Tensor  # log(n / k): () float32

    def __init__(self, members: int) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.zeros(members))
        self.register_buffer("mean_excess", torch.ones(members))
        self.register_buffer("level", torch.zeros(()))

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.load_state_dict(Tails(len(self.threshold)).state_dict())

    def fit(self, values: Tensor) -> None:
        """Take the tails of ``values`` (n, m), n at least 2."""
        n = len(values)
        k = min(n - 1, max(EXCESSES, round(TOP_SHARE * n)))
        top = values.double().sort(dim=0, descending=True).values[: k + 1]
        floor = FLOOR * top[0].abs().clamp(min=1e-6)
        self.threshold.copy_(top[k])
        self.mean_excess.copy_((top[:k] - top[k]).mean(0).maximum(floor))
        self.level.fill_(math.log(n / k))

    def forward(self, values: Tensor) -> Tensor:
        """L of ``values`` (B, m, ...)."""
        shape = (-1, *[1] * (values.ndim - 2))
        return self.level + (values - self.threshold.view(shape)) / self.mean_excess.view(shape)


class Fusion(Detector):
    """Scores by how rare a good part would be that the members score so high, all of them taken together.

    ``members``: detectors by the name of their method, not fitted; give names as ``patchcore+fre`` to ``build`` or to
    ``--method``. ``rule``: how p-values are combined, one of ``RULES``. Settings of a member are called after it
    (``patchcore.bank_limit``); without a method's name (``backbone``) they go to every member that has them.
    """

    title = "Fusion"
    paper = "Wilson 2019, The harmonic mean p-value for combining dependent tests"
    uses_held_out = True

    def __init__(self, members: Mapping[str, Detector], rule: str = "harmonic") -> None:
        super().__init__()
        if len(members) < 2:
            raise SettingsError(
                f"a fusion has at least two members, got {list(members)}. Name them like patchcore+fre"
            )
        self.rule = one_of("rule", rule, list(RULES))
        _share_backbones(list(members.values()))
        self.members = nn.ModuleDict(members)
        every = list(members.values())
        self.title = " + ".join(member.title for member in every)
        self.paper = "; ".join(member.paper for member in every)
        self.reconstructs = any(member.reconstructs for member in every)
        self.steps = sum(member.steps for member in every)
        self.batch_size = max(member.batch_size for member in every if member.steps or not self.steps)
        self.seed = next((member.seed for member in every if "seed" in member.settings()), 0)
        self.score_tails, self.map_tails = Tails(len(every)), Tails(len(every))
        self.held_out_seen = 0  # images that the tails were taken from

    def each(self) -> Iterator[tuple[str, Detector]]:
        """The members by name, in order."""
        return cast(Iterator[tuple[str, Detector]], iter(self.members.items()))

    def settings(self) -> dict[str, Any]:
        """``rule``, and each member's settings as ``method.setting``."""
        own = {
            f"{name}.{key}": value for name, member in self.each() for key, value in member.settings().items()
        }
        return {"rule": self.rule, **own}

    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""
        for _, member in self.each():
            member.reset()
        self.score_tails.reset_parameters()
        self.map_tails.reset_parameters()
        self.held_out_seen = 0

    def observe(self, images: Tensor) -> None:
        """Show ``images`` to every member."""
        for _, member in self.each():
            member.observe(images)

    # --- training: the members' phases one after the other -----------------------------------------------

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The sum of the losses of the members that train."""
        training = [(name, member) for name, member in self.each() if member.steps]
        if not training:
            return super().loss(images, frozen)
        losses = [member.loss(images, frozen and part(frozen, name)) for name, member in training]
        return torch.stack(losses).sum()

    def frozen(self, images: Tensor) -> State:
        """What the members' training reads of ``images`` through parts that never change, their names in front."""
        return {
            f"{name}.{key}": value
            for name, member in self.each()
            for key, value in member.frozen(images).items()
        }

    def phases(self) -> Sequence[Phase | Look]:
        """Those of the first member that trains, then those of the next."""
        return [
            _named(phase, name, member.title) for name, member in self.each() for phase in member.phases()
        ]

    # --- what was observed -------------------------------------------------------------------------------

    def statistics(self) -> State:
        """The members', each name with the member's in front; ``held_out`` () int64 and the tails (2 m + 1 numbers each)."""
        return self._joined(lambda member: member.statistics())

    def kept_statistics(self) -> State:
        """As :meth:`statistics`, of what each member keeps."""
        self.require_fitted()
        return self._joined(lambda member: member.kept_statistics())

    def _joined(self, state_of: Callable[[Detector], State]) -> State:
        joined: State = {HELD: torch.tensor(self.held_out_seen)}
        for name, state in [(SCORES, self.score_tails.state_dict()), (MAPS, self.map_tails.state_dict()),
                            *((name, state_of(member)) for name, member in self.each())]:  # fmt: skip
            joined |= {f"{name}.{key}": value.detach().cpu().clone() for key, value in state.items()}
        return joined

    def load_statistics(self, state: State) -> None:
        """Take over ``state``. Raises :class:`DataError` when its entries are not these members'."""
        own = (HELD, *(f"{name}." for name in (SCORES, MAPS, *self.members)))
        strange = sorted(key for key in state if not key.startswith(own))
        if strange or HELD not in state:
            raise DataError(
                f"the statistics are not those of {JOINT.join(self.members)}: expected {HELD} and entries of its members, "
                f"got {sorted(state)[:6]}. Use the methods that the state was made with, in the same order."
            )
        for name, member in self.each():
            member.load_statistics(part(state, name))
        self._load_tails(state)

    def _load_tails(self, state: State) -> None:
        self.score_tails.load_state_dict(part(state, SCORES))
        self.map_tails.load_state_dict(part(state, MAPS))
        self.held_out_seen = int(state[HELD])

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """Each member's states as that method merges them; the weighted mean of the tails, the held-out images added up."""
        from andon.models import DETECTORS  # the registry imports this file

        means = {SCORES: Detector.merge, MAPS: Detector.merge}
        merges = means | {name: DETECTORS[name].merge for name in _names(states)}
        merged: State = {HELD: sum((state[HELD] for state in states), torch.tensor(0))}
        for name, merge in merges.items():
            found = merge([part(state, name) for state in states], weights)
            merged |= {f"{name}.{key}": value for key, value in found.items()}
        return merged

    # --- fitted ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Close every member, then take the tails of their scores and peaks on ``held_out``, the first 500 images of it.

        Without any, the tails of an earlier fit stay. Raises :class:`DataError` where there is neither.
        """
        shown = list(_first(held_out, HELD_OUT_LIMIT))
        for place, (_, member) in enumerate(self.each()):
            member.close(iter(shown), progress=_share_of(progress, place, len(self.members)))
        count = sum(len(images) for images in shown)
        if count < LEAST and (count or not self.held_out_seen):
            raise DataError(
                f"a fusion compares its methods on good images that they were not fitted on: it needs at least {LEAST}, "
                f"better 10 or more, and got {count}. Give more good images, or held_out images to close()."
            )
        if count:
            self._take_tails(shown)

    def _take_tails(self, shown: Sequence[Tensor]) -> None:
        answers = [self._answers(images) for images in shown]
        self.score_tails.fit(torch.cat([_scores(found) for found in answers]))
        self.map_tails.fit(torch.cat([_maps(found).flatten(2).amax(2) for found in answers]))
        self.held_out_seen = sum(len(images) for images in shown)

    @property
    def is_fitted(self) -> bool:
        """Whether all members are, and their tails were taken."""
        return self.held_out_seen > 0 and all(member.is_fitted for _, member in self.each())

    def fitted_state(self) -> State:
        """The members' fitted states, each name with the member's in front; the tails. Raises NotFittedError."""
        self.require_fitted()
        return self._joined(lambda member: member.fitted_state())

    def fitted_names(self) -> set[str]:
        """The entries of :meth:`fitted_state`."""
        tails = {f"{name}.{key}" for name in (SCORES, MAPS) for key in self.score_tails.state_dict()}
        members = {f"{name}.{key}" for name, member in self.each() for key in member.fitted_names()}
        return {HELD} | tails | members

    def load_fitted_state(self, state: State) -> None:
        """Take over ``state``, as :meth:`fitted_state` gave it to a fusion of the same members and settings."""
        self.require_entries(state)
        for name, member in self.each():
            member.load_fitted_state(part(state, name))
        self._load_tails(state)

    def bank_sources(self, batches: Iterable[Tensor]) -> Tensor | None:
        """Those of the first member that has a memory bank."""
        found = (member.bank_sources(batches) for _, member in self.each())
        return next((sources for sources in found if sources is not None), None)

    def _answers(self, images: Tensor) -> list[Scores]:
        return [member(images) for _, member in self.each()]

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): -log p; the reconstruction and the bank's rows of the first that has them."""
        self.require_fitted()
        require_images(images)
        answers, combine = self._answers(images), RULES[self.rule]
        return Scores(
            combine(self.map_tails(_maps(answers)))[:, None],
            combine(self.score_tails(_scores(answers))),
            next((found.reconstruction for found in answers if found.reconstruction is not None), None),
            next((found.nearest for found in answers if found.nearest is not None), None),
        )


def part(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entries of ``state`` that are called after ``name``, without it.

    >>> part({"a.x": 1, "b.x": 2, "y": 3}, "a")
    {'x': 1}
    """
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


def _scores(answers: Sequence[Scores]) -> Tensor:
    """(B, m)."""
    return torch.stack([found.image_score for found in answers], dim=1)


def _maps(answers: Sequence[Scores]) -> Tensor:
    """(B, m, H, W)."""
    return torch.cat([found.anomaly_map for found in answers], dim=1)


def _names(states: Sequence[State]) -> list[str]:
    """The members that any of ``states`` holds statistics of, in order."""
    keys = [key for state in states for key in state if key != HELD and not key.startswith((SCORES, MAPS))]
    return list(dict.fromkeys(key.split(".")[0] for key in keys))


def _named(phase: Phase | Look, name: str, title: str) -> Phase | Look:
    """``phase`` of a member: called after it, its losses reading that member's part of what is frozen."""
    called = f"{title}: {phase.name}"
    if isinstance(phase, Look):
        return replace(phase, name=called)
    return replace(
        phase, name=called, turns=[replace(turn, loss=_reading(turn, name)) for turn in phase.turns]
    )


def _reading(turn: Turn, name: str) -> Callable[[Tensor, State], Tensor]:
    return lambda images, frozen: turn.loss(images, part(frozen, name))


def _first(batches: Iterable[Tensor], limit: int) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) up to ``limit`` images."""
    left = limit
    for images in batches:
        yield images[:left]
        left -= len(images)
        if left <= 0:
            return


def _share_of(progress: Progress | None, place: int, total: int) -> Progress | None:
    return None if progress is None else lambda share: progress((place + share) / total)


def _share_backbones(members: Sequence[Detector]) -> None:
    """Let members whose backbones hold the same weights use one: its features are then computed once in the graph."""
    first: list[Detector] = []
    for member in members:
        if not isinstance(getattr(member, "backbone", None), nn.Module):
            continue
        alike = next((other for other in first if _same_weights(other.backbone, member.backbone)), None)
        if alike is None:
            first.append(member)
        else:
            member.backbone = alike.backbone


def _same_weights(a: Any, b: Any) -> bool:
    """Whether backbones ``a`` and ``b`` give the same layers of the same network."""
    ours, theirs = a.state_dict(), b.state_dict()
    return (
        type(a) is type(b)
        and (a.name, list(a.layers)) == (b.name, list(b.layers))
        and ours.keys() == theirs.keys()
        and all(ours[key].shape == theirs[key].shape and torch.equal(ours[key], theirs[key]) for key in ours)
    )
