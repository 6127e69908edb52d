"""What is made of sites' answers when some of them may be wrong on purpose or by mistake.

Three rules on vectors, for weights and for moments: of m sites,

    trimmed mean   the mean of each number without its ``trim`` largest and smallest values      (Yin et al. 2018, definition 2)
    median         of each number                                                                  (Yin et al. 2018, definition 1)
    multi-Krum     the mean of the ``keep`` sites nearest to their m - bad - 2 nearest others      (Blanchard et al. 2017)

A memory bank is rows, not a vector: nothing in it can be averaged. There each site gets a quota, and its rows are looked at one by
one: a row that lies farther from the server's own good patches than these do from each other is left out (`checked_rows`).
`checked` puts any rule behind a look at each site by itself on the server's own good images, on which its detector must find
about as much odd as the others' do: neither far more, nor far less (a covariance that was blown up finds nothing odd).

Under these rules sites count alike: what a site says of its number of images is its own word. Moments become means an image
before, for sums of two sites cannot be compared. Contributions come sorted by site; so do the answers.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from andon.errors import AndonError, DataError, SettingsError
from andon.features.gaussian import pack, unpack
from andon.features.neighbours import nearest
from andon.federated.types import Aggregate, Contribution, Plan, Refused
from andon.models.base import Detector, State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD
from andon.models.trained import TrainedDetector

Rule = Callable[[Tensor], Tensor]  # (m, N) float64, a row a site -> (N,)
Tell = Callable[[Refused], None]  # whom and why
MOMENTS = ("total", "second")
FACTOR = 2.0  # how far a site's figure may lie from the median site's, up or down
SLACK = 1.5  # times the distance that good patches lie apart, beyond which a row is no good patch
QUANTILE = 0.99  # of the distances between good patches that counts as that distance
LEAST = 0.5  # share of a site's rows that must be good for any of them to count


def nobody(refused: Refused) -> None:
    """Tells nobody."""


def rule_of(detector: Detector, plan: Plan, mean: Aggregate, good: Sequence[Tensor] = (), tell: Tell = nobody) -> Aggregate:  # fmt: skip
    """The aggregate that ``plan`` asks for, ``mean`` being the plain one; behind a check where there are ``good`` images.

    Raises :class:`SettingsError` for a rule that the method cannot have.
    """
    if isinstance(detector, PatchCore) and plan.rule == "mean" and good:
        return checked_rows(detector, good, quota=plan.site_rows, tell=tell)
    rules = {"trimmed-mean": trimmed_mean(plan.bad), "median": coordinate_median, "krum": krum(plan.bad)}
    rule = mean if plan.rule == "mean" else robust(detector, rules[plan.rule])
    return checked(detector, good, rule, tell=tell) if good else rule


# --- rules on vectors ------------------------------------------------------------------------------------------------------


def trimmed_mean(trim: int) -> Rule:
    """Each number's mean over the sites without its ``trim`` largest and smallest. Stands up to ``trim`` bad sites."""

    def rule(vectors: Tensor) -> Tensor:
        if trim < 0 or len(vectors) <= 2 * trim:
            raise SettingsError(
                f"to leave out {trim} at each end takes more than {2 * trim} sites, got {len(vectors)}"
            )
        return vectors.sort(dim=0).values[trim : len(vectors) - trim].mean(0)

    return rule


def coordinate_median(vectors: Tensor) -> Tensor:
    """Each number's median over the sites (of an even number: the mean of the middle two)."""
    ordered, m = vectors.sort(dim=0).values, len(vectors)
    return ordered[(m - 1) // 2 : m // 2 + 1].mean(0)


def krum(bad: int, keep: int = 1) -> Rule:
    """The mean of the ``keep`` sites that lie nearest to their neighbours; ``bad`` of at least 2 bad + 3 may mean harm."""

    def rule(vectors: Tensor) -> Tensor:
        return vectors[chosen_by_krum(vectors, bad, keep)].mean(0)

    return rule


def chosen_by_krum(vectors: Tensor, bad: int, keep: int = 1) -> Tensor:
    """Numbers (keep,) of the sites with the smallest sums of squared distances to their m - bad - 2 nearest others."""
    m = len(vectors)
    if bad < 0 or m < 2 * bad + 3 or not 1 <= keep <= m - bad:
        raise SettingsError(
            f"Krum with {bad} bad sites needs at least {2 * bad + 3} sites and keeps 1 to m - {bad} of them; got m = {m} and "
            f"keep = {keep}"
        )
    squared = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").square()
    squared.fill_diagonal_(math.inf)
    score = squared.sort(dim=1).values[:, : m - bad - 2].sum(1)
    return score.argsort(stable=True)[:keep].sort().values


def robust(detector: Detector, rule: Rule) -> Aggregate:
    """The aggregate that takes ``rule`` to the sites' states of ``detector``: PaDiM's and SubspaceAD's moments, or weights.

    Raises :class:`SettingsError` for methods whose states are neither.
    """
    if isinstance(detector, PaDiM | SubspaceAD):
        return lambda contributions: _moments(detector, rule, contributions)
    if isinstance(detector, TrainedDetector):
        return lambda contributions: _weights(detector, rule, contributions)
    raise SettingsError(
        f"the statistics of {type(detector).__name__} are no vectors that a median or Krum could be taken of; "
        "for memory banks there is checked_rows"
    )


def _moments(detector: PaDiM | SubspaceAD, rule: Rule, contributions: Sequence[Contribution]) -> State:
    """``rule`` on the sites' means an image, times as many as the median site has, for each site.

    A site whose count is not above 0 has no mean, and does not count.
    """
    states = [one.state for one in contributions if float(one.state["count"]) > 0]
    if not states:
        raise DataError("no site's moments are of any image; nothing was merged")
    counts = torch.stack([state["count"].double() for state in states])
    means = {name: [s[name].double() / n for s, n in zip(states, counts, strict=True)] for name in MOMENTS}
    found = _by_rule(rule, means)
    count = coordinate_median(counts) * len(states)
    state = dict(states[0]) | {"count": count, "total": found["total"] * count}
    return state | {"second": _sound(detector, found["total"], found["second"]) * count}


def _sound(detector: PaDiM | SubspaceAD, mean: Tensor, second: Tensor) -> Tensor:
    """``second`` moments about 0 such that the covariance about ``mean`` (P, D) has no negative direction."""
    kind = "shared" if isinstance(detector, SubspaceAD) else detector.covariance
    if kind == "diagonal":
        return torch.maximum(second, mean.square())
    if kind == "shared":
        between = mean.T @ mean  # of all positions: second is their sum, too
        values, vectors = torch.linalg.eigh(unpack(second, mean.shape[1]) - between)
    else:
        between = mean[:, :, None] * mean[:, None, :]
        values, vectors = torch.linalg.eigh(unpack(second, mean.shape[1]) - between)
    return pack(vectors * values.clamp(min=0)[..., None, :] @ vectors.mT + between)


def _weights(detector: Detector, rule: Rule, contributions: Sequence[Contribution]) -> State:
    """``rule`` on all floating entries; the others as the detector merges them."""
    states = [one.state for one in contributions]
    merged = type(detector).merge(states, [1.0] * len(states))
    floating = [name for name, tensor in merged.items() if tensor.is_floating_point()]
    found = _by_rule(rule, {name: [state[name].double() for state in states] for name in floating})
    return merged | {name: found[name].to(merged[name].dtype) for name in floating}


def _by_rule(rule: Rule, entries: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """``rule`` on all ``entries`` at once, each brought to length 1 at the median site, so that none drowns the others."""
    stacked = {name: torch.stack([of.flatten() for of in tensors]) for name, tensors in entries.items()}
    sizes = {name: float(coordinate_median(of).norm()) or 1.0 for name, of in stacked.items()}
    vector = rule(torch.cat([of / sizes[name] for name, of in stacked.items()], dim=1))
    parts = vector.split([of.shape[1] for of in stacked.values()])
    return {
        name: (part * sizes[name]).reshape(entries[name][0].shape)
        for name, part in zip(stacked, parts, strict=True)
    }


# --- a look at each site by itself -----------------------------------------------------------------------------------------


def checked(detector: Detector, good: Sequence[Tensor], then: Aggregate, *, factor: float = FACTOR,
            tell: Tell = nobody) -> Aggregate:  # fmt: skip
    """``then`` on those sites whose own detector finds about as much odd on the server's ``good`` images as the median site's.

    ``good``: batches (n, 3, H, W) that no site knows. A site's figure is the mean of its maps; it may be ``factor`` times the
    median or its ``factor``-th part. ``tell`` is called with each site that is refused. Raises :class:`AndonError` when none
    is left.
    """
    if factor <= 1 or not good:
        raise SettingsError(f"the check needs good images and a factor above 1, got {factor!r}")

    def look(contributions: Sequence[Contribution]) -> State:
        figures = [figure_on(detector, one.state, good) for one in contributions]
        middle = statistics.median([figure for figure in figures if math.isfinite(figure)] or [math.nan])
        kept = []
        for one, figure in zip(contributions, figures, strict=True):
            if middle / factor <= figure <= middle * factor:
                kept.append(one)
            else:
                tell(Refused(one.site, f"on the server's good images it finds {figure:.3g}, the median site {middle:.3g}"))  # fmt: skip
        if not kept:
            raise AndonError("no site's detector takes the server's good images for good; nothing was merged")
        return then(kept)

    return look


@torch.no_grad()
def figure_on(detector: Detector, state: State, good: Sequence[Tensor]) -> float:
    """The mean of the maps of ``good`` images by a detector on ``state`` alone; inf where it cannot be closed on it."""
    own = copy.deepcopy(detector)
    try:
        own.load_statistics(state)
        own.close()
        maps = [own(images).anomaly_map.flatten(1).mean(1) for images in good]
    except (AndonError, RuntimeError):
        return math.inf
    figure = float(torch.cat(maps).double().mean())
    return figure if math.isfinite(figure) else math.inf


# --- memory banks ----------------------------------------------------------------------------------------------------------


def checked_rows(detector: PatchCore, good: Sequence[Tensor], *, quota: int | None = None, slack: float = SLACK,
                 least: float = LEAST, tell: Tell = nobody) -> Aggregate:  # fmt: skip
    """Banks merged from the rows that lie near the server's ``good`` patches, at most ``quota`` of each site.

    ``good``: batches (n, 3, H, W) of at least two images in all. Near: within ``slack`` times the distance at which 99 % of
    good patches find the nearest one of another image. Of a site with fewer than ``least`` near rows none count. ``tell`` is
    called with each site that sent rows farther away. Raises :class:`AndonError` when no row is left.
    """
    patches = _patches(detector, good)  # (n, P, D)
    reach = slack * good_distance(patches)

    def merge(contributions: Sequence[Contribution]) -> State:
        kept = [_near(one, patches.flatten(0, 1), reach, quota, least, tell) for one in contributions]
        kept = [one for one in kept if len(one.state["patches"])]
        if not kept:
            raise AndonError("no site's rows lie near the server's good patches; nothing was merged")
        return type(detector).merge([one.state for one in kept], [one.images for one in kept])

    return merge


def good_distance(patches: Tensor) -> float:
    """The distance within which 99 % of ``patches`` (n, P, D) find the nearest patch of another image."""
    if len(patches) < 2:
        raise SettingsError(f"the check of rows needs at least 2 good images, got {len(patches)}")
    distances = []
    for number, own in enumerate(patches):
        others = torch.cat([patches[:number], patches[number + 1 :]]).flatten(0, 1)
        distances.append(nearest(own, others)[0][:, 0])
    return float(torch.quantile(torch.cat(distances), QUANTILE))


@torch.no_grad()
def _patches(detector: PatchCore, good: Sequence[Tensor]) -> Tensor:
    return torch.cat([detector.patches(images).float().flatten(2).mT for images in good])


def _near(one: Contribution, good: Tensor, reach: float, quota: int | None, least: float,
          tell: Tell) -> Contribution:  # fmt: skip
    """``one`` with its near rows alone, the first ``quota`` of them: a greedy coreset's first rows cover the most."""
    rows = one.state["patches"]
    near = nearest(rows.float(), good)[0][:, 0] <= reach
    taken = near.nonzero()[:, 0][:quota] if float(near.double().mean()) >= least else near.nonzero()[:0, 0]
    away = int((~near).sum())
    if away:
        tell(Refused(one.site, f"{away} of {len(rows)} rows are far from every good patch; {len(taken)} rows count"))  # fmt: skip
    state = {name: of[taken] if of.ndim else of for name, of in one.state.items() if name != "centres"}
    return replace(one, state=state)
