"""The methods, by name: one paper a file, one line in ``DETECTORS``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from andon.errors import SettingsError, did_you_mean
from andon.models.autoencoder import Autoencoder
from andon.models.base import Detector, Scores, State
from andon.models.cflow import CFlow
from andon.models.csflow import CSFlow
from andon.models.dinomaly import Dinomaly
from andon.models.draem import DRAEM
from andon.models.dsr import DSR
from andon.models.efficientad import EfficientAD
from andon.models.fanogan import FAnoGAN
from andon.models.fastflow import FastFlow
from andon.models.ganomaly import GANomaly
from andon.models.gcad import GCAD
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.reverse_distillation import ReverseDistillation
from andon.models.riad import RIAD
from andon.models.simplenet import SimpleNet
from andon.models.stfpm import STFPM
from andon.models.subspacead import SubspaceAD
from andon.models.supersimplenet import SuperSimpleNet
from andon.models.uninformed_students import UninformedStudents
from andon.models.vae import VAE
from andon.models.vit_inpainting import ViTInpainting

__all__ = ["DETECTORS", "Detector", "Scores", "State", "build", "defaults", "measured"]

DETECTORS: dict[str, type[Detector]] = {
    "patchcore": PatchCore,
    "padim": PaDiM,
    "autoencoder": Autoencoder,
    "vae": VAE,
    "riad": RIAD,
    "gcad": GCAD,
    "ganomaly": GANomaly,
    "fanogan": FAnoGAN,
    "draem": DRAEM,
    "dsr": DSR,
    "cflow": CFlow,
    "csflow": CSFlow,
    "fastflow": FastFlow,
    "efficientad": EfficientAD,
    "stfpm": STFPM,
    "uninformed_students": UninformedStudents,
    "reverse_distillation": ReverseDistillation,
    "subspacead": SubspaceAD,
    "simplenet": SimpleNet,
    "supersimplenet": SuperSimpleNet,
    "dinomaly": Dinomaly,
    "vit_inpainting": ViTInpainting,
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
    known = defaults(method)
    unknown = [name for name in settings if name not in known]
    if unknown:
        listed = ", ".join(f"{name}={value!r}" for name, value in known.items())
        raise SettingsError(
            f"{method} has no setting {unknown[0]!r}. Its settings and their defaults are: {listed}"
        )
    return DETECTORS[method](**settings)


def defaults(method: str) -> dict[str, Any]:
    """The settings of ``method`` and their default values. Raises :class:`SettingsError` for an unknown method.

    >>> defaults("padim")["ridge"]
    0.01
    """
    if method not in DETECTORS:
        hint = did_you_mean(method, DETECTORS)
        raise SettingsError(f"there is no method {method!r}.{hint} The methods are: {', '.join(DETECTORS)}")
    parameters = inspect.signature(DETECTORS[method].__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


def measured() -> dict[str, dict[str, float]]:
    """Of each method that was measured, ``artifact_mb`` and ``p50_ms`` of one image: docs/results/methods-costs.md says how.

    Written by tools/methods_table.py.
    """
    found: dict[str, dict[str, float]] = json.loads((Path(__file__).parent / "measured.json").read_text())
    return found
