"""A calibration as JSON keeps it, and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, NoReturn

from andon.errors import CalibrationError
from andon.types import Calibration

METHODS = ("conformal", "max", "tpr", "f1", "cost", "youden", "none")
_REDO = "The file is damaged or from another version: calibrate again."


def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """``calibration`` as strict JSON can hold it: plain numbers, None for a threshold that there is not.

    >>> from andon.calibrate import calibrate
    >>> calibration_from_dict(calibration_to_dict(calibrate([1.0, 2.0]))) == calibrate([1.0, 2.0])
    True
    """
    content = {entry.name: getattr(calibration, entry.name) for entry in fields(Calibration)}
    content["nominal_scores"] = list(calibration.nominal_scores)
    for name in ("threshold", "map_threshold"):
        content[name] = None if math.isnan(content[name]) else content[name]
    return content


def calibration_from_dict(content: object) -> Calibration:
    """The calibration that :func:`calibration_to_dict` wrote.

    Raises :class:`CalibrationError` naming the entry that is missing, unknown or makes no sense.
    """
    names = sorted(entry.name for entry in fields(Calibration))
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
    )


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
