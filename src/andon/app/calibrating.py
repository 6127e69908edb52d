"""Other thresholds for an artefact, weighed before one is chosen: scores, proposals, their effect, earlier ones.

Nothing here changes a file; :func:`andon.app.saving.put_in_place` does. No Streamlit, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from andon.artifact import Artifact
from andon.calibrate import (
    Costs,
    Expected,
    calibrate,
    calibrate_with_defects,
    calibration_from_dict,
    expected_cost,
    outcome_table,
)
from andon.data import list_images
from andon.errors import DataError, SettingsError
from andon.nuisance import Zone, ZonePlan
from andon.pipeline import raw_scores, recalibrate
from andon.records import Change
from andon.runtime.predictor import Predictor
from andon.types import Calibration, Decision

Progress = Callable[[str, int, int], None]  # phase, done, total
_CHANGED = ("calibration", "nuisance")  # what an entry of a manifest's history holds


@dataclass(frozen=True)
class Scores:
    """Raw scores to weigh thresholds on, upwards. ``base``: the artefact with the zones that they were measured with.

    ``skipped``: (name, reason) of images that have no score; ``left_out``: good images that the detector was fitted on.
    ``measured``: from images now, not those kept in the artefact.
    """

    base: Predictor
    nominal: tuple[float, ...]
    anomalous: tuple[float, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    measured: bool = False

    def same_zones(self, other: Predictor) -> bool:
        """Whether they were measured with the zones of ``other``: else its threshold is none of these scores."""
        return self.base.manifest.get("nuisance") == other.manifest.get("nuisance")


@dataclass(frozen=True)
class Wish:
    """What the threshold is to hold, or to cost least. Costs in any one unit; ``cost_review`` None: nobody looks.

    ``defect_rate``: share of defective parts on the line.
    """

    rule: Literal["rate", "cost"] = "rate"
    target_rate: float = 0.01
    review_rate: float = 0.05
    cost_escape: float = 100.0
    cost_false_alarm: float = 1.0
    cost_review: float | None = 0.2
    defect_rate: float = 0.01

    @property
    def costs(self) -> Costs:
        """The same as :class:`andon.calibrate.Costs`. Raises :class:`SettingsError`."""
        return Costs(self.cost_escape, self.cost_false_alarm, self.defect_rate, self.cost_review)


class Earlier(NamedTuple):
    """A calibration that an artefact had, or has. ``number``: its place in the history; None: the one in use."""

    number: int | None
    calibration: Calibration
    zones: tuple[str, ...]  # names
    change: Change | None  # who set it and why, where the records know


def stored_scores(predictor: Predictor) -> Scores:
    """The scores of good images that the artefact keeps from its last calibration."""
    return Scores(predictor, predictor.calibration.nominal_scores)


def measure(
    predictor: Predictor,
    good: str,
    bad: str,
    zones: Sequence[Zone] | None = None,
    progress: Progress | None = None,
) -> Scores:
    """The scores of the images in the folders ``good`` and ``bad``; of an empty name those that the artefact keeps, or none.

    ``zones``: not to inspect, or by a threshold of their own, from now on; they need ``good`` images. Raises
    :class:`DataError` for folders and images, :class:`SettingsError` for zones that the detector cannot do without.
    """
    if good.strip():
        return _measured(predictor, _folder(good), _folder(bad) if bad.strip() else None, zones, progress)
    if zones is not None:
        raise DataError("zones need good photographs: give a folder of them, on which they are tried")
    if not bad.strip():
        return stored_scores(predictor)
    anomalous, _, skipped = raw_scores(predictor, list_images(_folder(bad)), progress)
    return replace(
        stored_scores(predictor), anomalous=tuple(sorted(anomalous)), skipped=_pairs(skipped), measured=True
    )


def _measured(
    predictor: Predictor,
    good: Path,
    bad: Path | None,
    zones: Sequence[Zone] | None,
    progress: Progress | None,
) -> Scores:
    done = recalibrate(predictor, good, bad, ignore=zones, progress=progress)
    return Scores(
        done.predictor,
        tuple(sorted(done.nominal)),
        tuple(sorted(done.anomalous)),
        _pairs(done.skipped),
        done.left_out,
        measured=True,
    )


def _folder(name: str) -> Path:
    return Path(name.strip()).expanduser()


def _pairs(skipped: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, reason) for name, reason in skipped)


def proposed(scores: Scores, wish: Wish) -> Calibration:
    """The calibration that ``wish`` comes to on ``scores``. Where regions are drawn stays as it is.

    Raises :class:`CalibrationError` without scores, :class:`SettingsError` for costs without defective images, and for an
    artefact whose groups have thresholds of their own.
    """
    now = scores.base.calibration
    if now.groups:
        raise SettingsError(
            f"this detector has a threshold for each of {len(now.groups)} groups ({now.group_by}); change them with: "
            "andon calibrate ARTIFACT --good FOLDER --group-by PATTERN"
        )
    if wish.rule == "rate":
        made = calibrate(
            scores.nominal,
            target_rate=wish.target_rate,
            confidence=now.confidence,
            review_rate=wish.review_rate,
        )
    elif not scores.anomalous:
        raise SettingsError("costs need defective images, too: give a folder of them, and measure")
    else:
        made = calibrate_with_defects(
            scores.nominal, scores.anomalous, criterion="cost", cost_escape=wish.cost_escape,
            cost_false_alarm=wish.cost_false_alarm, cost_review=wish.cost_review, defect_rate=wish.defect_rate,
            confidence=now.confidence, review_rate=0.0,
        )  # fmt: skip
    return made if math.isnan(now.map_threshold) else replace(made, map_threshold=now.map_threshold)


def outcomes(calibration: Calibration, scores: Scores) -> dict[str, dict[Decision, int]]:
    """How many of the ``nominal`` and the ``anomalous`` images would pass, be reviewed and fail.

    Kinds without images are left out.
    """
    kinds = {"nominal": scores.nominal, "anomalous": scores.anomalous}
    return {kind: outcome_table(calibration, values)["nominal"] for kind, values in kinds.items() if values}


def cost_of(calibration: Calibration, scores: Scores, wish: Wish) -> Expected | None:
    """What a part is expected to cost at this calibration; None without defective images, or without a threshold."""
    if not (scores.nominal and scores.anomalous) or math.isnan(calibration.threshold):
        return None
    return expected_cost(calibration, scores.nominal, scores.anomalous, wish.costs)


def changed(
    now: Artifact, scores: Scores, calibration: Calibration
) -> tuple[Artifact, Literal["threshold", "zones"]]:
    """The artefact ``now`` with the calibration, and the zones of the ``scores``; and which of both it changes.

    What was is kept in its history. With scores measured on good images, what good parts look like is taken from them, too.
    """
    found = Predictor(now, check=False).recalibrated(calibration, scores.base.zone_plan).artifact
    own = {
        name: value
        for name, value in scores.base.manifest.items()
        if name not in (*_CHANGED, "history", "members")
    }
    artifact = found.with_manifest(**own)
    same = artifact.manifest.get("nuisance") == now.manifest.get("nuisance")
    return artifact, "threshold" if same else "zones"


def earlier(manifest: Mapping[str, Any], changes: Sequence[Change] = ()) -> list[Earlier]:
    """The calibrations of an artefact, the one in use first, then the latest before it.

    ``changes``: of this artefact, from the records, newest first.
    """
    history: list[tuple[int | None, Mapping[str, Any]]] = [(None, manifest)]
    history += reversed(list(enumerate(manifest.get("history", []))))
    told = {_identity(change.after): change for change in reversed(changes)}
    found = []
    for number, entry in history:
        if "calibration" not in entry:
            continue
        calibration = calibration_from_dict(entry["calibration"])
        plan = ZonePlan.from_manifest(entry)
        zones = tuple(zone.name for zone in plan.zones) if plan else ()
        found.append(Earlier(number, calibration, zones, told.get(_identity(entry["calibration"]))))
    return found


def _identity(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells a calibration from others, in a manifest and in the records alike."""
    return tuple(entry.get(name) for name in ("threshold", "review_threshold", "map_threshold", "statement"))


def gone_back(now: Artifact, number: int) -> Artifact:
    """The artefact with the calibration and the zones of entry ``number`` of its history; what it has now is kept there.

    Raises :class:`DataError` where there is no such entry, :class:`ArtifactError` where it cannot be used.
    """
    history = list(now.manifest.get("history", []))
    if not 0 <= number < len(history) or "calibration" not in history[number]:
        raise DataError(f"the detector has no earlier threshold {number}; it has {len(history)}")
    before = {name: now.manifest[name] for name in _CHANGED if name in now.manifest}
    rest = {name: value for name, value in now.manifest.items() if name not in _CHANGED}
    again = {name: history[number][name] for name in _CHANGED if name in history[number]}
    artifact = replace(now, manifest={**rest, **again, "history": [*history, before]})
    Predictor(artifact, check=False)  # refuses what cannot be used
    return artifact
