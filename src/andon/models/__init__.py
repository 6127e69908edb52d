"""The methods, by name: one paper a file, one line in ``DETECTORS``."""

from __future__ import annotations

import inspect
from typing import Any

from andon.errors import SettingsError, did_you_mean
from andon.models.autoencoder import Autoencoder
from andon.models.base import Detector, Scores, State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore

__all__ = ["DETECTORS", "Detector", "Scores", "State", "build"]

DETECTORS: dict[str, type[Detector]] = {
    "patchcore": PatchCore,
    "padim": PaDiM,
    "autoencoder": Autoencoder,
}


def build(method: str, **settings: Any) -> Detector:
    """The detector ``method``, not fitted, with ``settings`` as its constructor's keywords.

    Raises :class:`SettingsError` for an unknown method or keyword and for a value that makes no sense.

    >>> build("patchcore", neighbours=5).settings()["neighbours"]
    5
    >>> build("patchcor")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    andon.errors.SettingsError: there is no method 'patchcor'. Did you mean 'patchcore'? The methods are: ...
    """
    if method not in DETECTORS:
        hint = did_you_mean(method, DETECTORS)
        raise SettingsError(f"there is no method {method!r}.{hint} The methods are: {', '.join(DETECTORS)}")
    known = defaults(method)
    unknown = [name for name in settings if name not in known]
    if unknown:
        listed = ", ".join(f"{name}={value!r}" for name, value in known.items())
        raise SettingsError(
            f"{method} has no setting {unknown[0]!r}. Its settings and their defaults are: {listed}"
        )
    return DETECTORS[method](**settings)


def defaults(method: str) -> dict[str, Any]:
    """The settings of ``method`` and their default values.

    >>> defaults("padim")["ridge"]
    0.01
    """
    parameters = inspect.signature(DETECTORS[method].__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}
