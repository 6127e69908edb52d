"""A threshold for each group of images: each lot, shift or camera keeps its promise by itself.

Mondrian conformal prediction (Vovk, Lindsay, Nouretdinov, Gammerman 2003, "Mondrian confidence machine"; Vovk 2012,
section 3): the scores of one group alone set the threshold of that group, so the promise holds within it. One pooled
threshold holds its promise for the mixture only: a group of few parts may fail all of them unnoticed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from andon.calibrate.conformal import SLACK, images_needed
from andon.calibrate.thresholds import exact_percent
from andon.path_pattern import PathPattern, group_names
from andon.types import Calibration


def group_paths(group_by: str, paths: Iterable[Path]) -> dict[str, list[Path]]:
    """``paths`` by the group that the pattern ``group_by`` finds in each, groups in sorted order.

    Raises :class:`DataError` naming a path that does not fit the pattern.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, name in group_names(group_by, paths).items():
        groups[name].append(path)
    return dict(sorted(groups.items()))


def group_images_needed(target_rate: float, confidence: float, *, strict: bool = False) -> int:
    """The least number of good images with which a group gets a threshold of its own.

    Enough to hold ``target_rate`` on average over calibration sets; ``strict``: with ``confidence``.

    >>> group_images_needed(0.01, 0.95), group_images_needed(0.01, 0.95, strict=True)
    (99, 299)
    """
    return images_needed(target_rate, confidence) if strict else math.ceil(1 / target_rate - 1 - SLACK)


def refused_group(pooled: Calibration, nominal: Sequence[float], reason: str) -> Calibration:
    """A group that gets no threshold of its own: ``pooled`` without one, with the group's scores and the ``reason``."""
    return replace(
        pooled, threshold=math.nan, review_threshold=None, promised_rate=1.0, nominal_scores=tuple(sorted(nominal)),
        method="none", statement=f"no threshold of its own: {reason}", group_by="", groups={}, fall_back=False,
    )  # fmt: skip


def too_few(n: int, target_rate: float, confidence: float, *, strict: bool = False) -> str:
    """Why n good images are too few for a group, and how many are needed."""
    average = group_images_needed(target_rate, confidence)
    sure = f"{images_needed(target_rate, confidence):,} with {100 * confidence:.10g} % confidence"
    needed = sure if strict else f"{average:,} on average over calibration sets, {sure}"
    return f"{n:,} good image{'' if n == 1 else 's'}; for {exact_percent(target_rate)} are needed {needed}"


def with_groups(
    pooled: Calibration, group_by: str, groups: Mapping[str, Calibration], *, fall_back: bool = False
) -> Calibration:
    """``pooled`` that decides by group where the path of an image names one; see :func:`calibration_for`."""
    PathPattern.parse(group_by)
    return replace(pooled, group_by=group_by, groups=dict(groups), fall_back=fall_back)


def group_of(calibration: Calibration, path: str | None) -> str | None:
    """The group that the image at ``path`` belongs to; None where there are no groups, or the path names none."""
    if not calibration.groups or path is None:
        return None
    return PathPattern.parse(calibration.group_by).group_of(path)


def calibration_for(
    calibration: Calibration, path: str | None, group: str | None = None
) -> tuple[Calibration, str]:
    """The calibration that decides on the image at ``path``, and a note that says which; "" where there are no groups.

    ``group``: its name where it is known, such as "lot=B12"; else it is read from the path.

    A group with a threshold of its own is decided by that. All other images are decided by the pooled threshold where
    ``calibration.fall_back`` says so; else there is none, and they are for review.
    """
    if not calibration.groups:
        return calibration, ""
    name = group_of(calibration, path) if group is None else group
    deciding = calibration_of_group(calibration, name)
    if name is not None and deciding is calibration.groups.get(name) and not math.isnan(deciding.threshold):
        return deciding, f"threshold of the group {name}"
    if name is None:
        which = "the path names no group"
    elif name in calibration.groups:
        which = f"the group {name} has no threshold of its own"
    else:
        which = f"the group {name} was not there when the thresholds were set"
    by_all = "decided by the threshold of all groups" if calibration.fall_back else "a person should look"
    return deciding, f"{which}: {by_all}"


def calibration_of_group(calibration: Calibration, name: str | None) -> Calibration:
    """What decides on images of the group ``name``, None for images that belong to no group."""
    own = calibration.groups.get(name) if name is not None else None
    if own is not None and not math.isnan(own.threshold):
        return own
    if calibration.fall_back:
        return replace(calibration, group_by="", groups={}, fall_back=False)
    unknown = (
        "there was no such group when the thresholds were set" if name else "the image belongs to no group"
    )
    return own or refused_group(calibration, (), unknown)
