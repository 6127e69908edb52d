"""A calibration as JSON keeps it, and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, NoReturn

from andon.errors import CalibrationError, SettingsError
from andon.path_pattern import PathPattern
from andon.types import Calibration

METHODS = ("conformal", "max", "extrapolated", "tpr", "f1", "cost", "youden", "none")
_BY_GROUP = ("group_by", "groups", "fall_back")  # entries that only calibrations by group have
_REDO = "The file is damaged or from another version: calibrate again."


def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """``calibration`` as strict JSON can hold it: plain numbers, None for a threshold that there is not.

    >>> from andon.calibrate import calibrate
    >>> calibration_from_dict(calibration_to_dict(calibrate([1.0, 2.0]))) == calibrate([1.0, 2.0])
    True
    """
    content = {name: getattr(calibration, name) for name in _entries(by_group=bool(calibration.groups))}
    if calibration.groups:
        content["groups"] = {name: calibration_to_dict(own) for name, own in calibration.groups.items()}
    content["nominal_scores"] = list(calibration.nominal_scores)
    for name in ("threshold", "map_threshold"):
        content[name] = None if math.isnan(content[name]) else content[name]
    return content


def calibration_from_dict(content: object) -> Calibration:
    """The calibration that :func:`calibration_to_dict` wrote.

    Raises :class:`CalibrationError` naming the entry that is missing, unknown or makes no sense.
    """
    by_group = isinstance(content, Mapping) and any(name in content for name in _BY_GROUP)
    names = _entries(by_group=by_group)
    if not isinstance(content, Mapping) or sorted(map(str, content)) != names:
        found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise CalibrationError(f"calibration: expected the entries {names}, got {found}. {_REDO}")
    method, statement, review = content["method"], content["statement"], content["review_threshold"]
    if method not in METHODS:
        _refuse("method", f"one of {', '.join(METHODS)}", method)
    if not isinstance(statement, str):
        _refuse("statement", "a text", statement)
    blank = method == "none"
    threshold = _threshold(content, "threshold", blank)
    if review is not None and not (_is_number(review) and review < threshold):
        _refuse("review_threshold", f"null or a number below the threshold, {threshold}", review)
    if blank and not math.isnan(threshold):
        _refuse("threshold", "null, as the method is 'none'", threshold)
    return Calibration(
        threshold=threshold,
        review_threshold=None if review is None else float(review),
        map_threshold=_threshold(content, "map_threshold", blank),
        target_rate=_share(content, "target_rate"),
        promised_rate=_share(content, "promised_rate"),
        confidence=_share(content, "confidence"),
        nominal_scores=_scores(content, blank),
        method=method,
        statement=statement,
        **(_groups(content) if by_group else {}),
    )


def _entries(*, by_group: bool) -> list[str]:
    """The names of a calibration's entries, sorted; artefacts of one threshold for all have none about groups."""
    return sorted(entry.name for entry in fields(Calibration) if by_group or entry.name not in _BY_GROUP)


def _groups(content: Mapping[str, Any]) -> dict[str, Any]:
    """The entries about groups, each group's calibration read like one of its own."""
    group_by, groups, fall_back = (content[name] for name in _BY_GROUP)
    if not isinstance(group_by, str):
        _refuse("group_by", "a pattern of paths", group_by)
    try:
        PathPattern.parse(group_by)
    except SettingsError as error:
        raise CalibrationError(f"calibration: {error}. {_REDO}") from error
    if not isinstance(groups, Mapping) or not groups:
        _refuse("groups", "calibrations by the names of groups", groups)
    if not isinstance(fall_back, bool):
        _refuse("fall_back", "true or false", fall_back)
    read = {str(name): calibration_from_dict(own) for name, own in groups.items()}
    if any(own.groups for own in read.values()):
        _refuse("groups", "groups without groups of their own", sorted(read))
    return {"group_by": group_by, "groups": read, "fall_back": fall_back}


def _is_number(value: object) -> bool:
    """True for a number that a float can hold and that is finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _threshold(content: Mapping[str, Any], name: str, none_allowed: bool) -> float:
    value = content[name]
    if value is None and none_allowed:
        return math.nan
    if not _is_number(value):
        _refuse(name, "a finite number", value)
    return float(value)


def _share(content: Mapping[str, Any], name: str) -> float:
    value = content[name]
    if not _is_number(value) or not 0 <= value <= 1:
        _refuse(name, "a share from 0 to 1", value)
    return float(value)


def _scores(content: Mapping[str, Any], none_allowed: bool) -> tuple[float, ...]:
    values = content["nominal_scores"]
    if not isinstance(values, list | tuple) or not (values or none_allowed):
        _refuse("nominal_scores", "a list with at least one score", values)
    if not all(map(_is_number, values)) or any(a > b for a, b in pairwise(values)):
        _refuse("nominal_scores", "finite numbers, sorted upwards", values)
    return tuple(map(float, values))


def _refuse(name: str, expected: str, value: object) -> NoReturn:
    raise CalibrationError(f"calibration, entry {name!r}: expected {expected}, got {value!r:.80}. {_REDO}")
