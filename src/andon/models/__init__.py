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
from andon.models.fre import FRE
from andon.models.fusion import JOINT, RULES, Fusion
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

__all__ = [
    "DETECTORS",
    "Detector",
    "Scores",
    "State",
    "accepts",
    "build",
    "defaults",
    "measured",
    "method_of",
]

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
    "fre": FRE,
    "simplenet": SimpleNet,
    "supersimplenet": SuperSimpleNet,
    "dinomaly": Dinomaly,
    "vit_inpainting": ViTInpainting,
}


def build(method: str, **settings: Any) -> Detector:
    """The detector ``method``, not fitted, with ``settings`` as its constructor's keywords.

    Methods joined by + make one detector of several, see :class:`andon.models.fusion.Fusion`: a setting called
    ``patchcore.neighbours`` goes to that member, ``neighbours`` to every member that has it.
    Raises :class:`SettingsError` for an unknown method or keyword and for a value that makes no sense.

    >>> build("patchcore", neighbours=5).settings()["neighbours"]
    5
    >>> build("patchcore+fre", **{"fre.grid": 4}).settings()["fre.grid"]
    4
    >>> build("patchcor")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    andon.errors.SettingsError: there is no method 'patchcor'. Did you mean 'patchcore'? The methods are: ...
    """
    known = defaults(method)
    unknown = [name for name in settings if not accepts(method, name)]
    if unknown:
        listed = ", ".join(f"{name}={value!r}" for name, value in known.items())
        raise SettingsError(
            f"{method} has no setting {unknown[0]!r}. Its settings and their defaults are: {listed}"
        )
    names = _members(method)
    if len(names) == 1:
        return DETECTORS[method](**settings)
    rule = {"rule": settings["rule"]} if "rule" in settings else {}
    return Fusion({name: DETECTORS[name](**_meant_for(name, settings)) for name in names}, **rule)


def accepts(method: str, setting: str) -> bool:
    """Whether ``build(method, ...)`` takes ``setting``. Raises :class:`SettingsError` for an unknown method.

    >>> accepts("patchcore+subspacead", "seed"), accepts("subspacead", "seed")
    (True, False)
    """
    names, known = _members(method), defaults(method)
    return setting in known or (len(names) > 1 and any(f"{name}.{setting}" in known for name in names))


def method_of(detector: Detector) -> str:
    """The name that ``build`` made ``detector`` by.

    >>> method_of(build("padim+fre"))
    'padim+fre'
    """
    if isinstance(detector, Fusion):
        return JOINT.join(detector.members)
    return next(name for name, kind in DETECTORS.items() if type(detector) is kind)


def _members(method: str) -> list[str]:
    """The methods that ``method`` names; those of a fusion must differ. Raises :class:`SettingsError`."""
    names = method.split(JOINT)
    for name in names:
        _require_known(name)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"{method} names {twice[0]} twice; a fusion is of different methods")
    return names


def _meant_for(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What of a fusion's ``settings`` goes to the member ``name``: what is said for it comes before what is said for all."""
    own = defaults(name)
    shared = {setting: value for setting, value in settings.items() if setting in own and setting != "rule"}
    return shared | {
        setting: settings[f"{name}.{setting}"] for setting in own if f"{name}.{setting}" in settings
    }


def defaults(method: str) -> dict[str, Any]:
    """The settings of ``method`` and their default values; of a fusion, ``rule`` and ``member.setting``.

    Raises :class:`SettingsError` for an unknown method.

    >>> defaults("padim")["ridge"]
    0.01
    >>> defaults("padim+fre")["padim.ridge"]
    0.01
    """
    names = _members(method)
    if len(names) > 1:
        own = {f"{name}.{setting}": value for name in names for setting, value in defaults(name).items()}
        return {"rule": next(iter(RULES)), **own}
    parameters = inspect.signature(DETECTORS[method].__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


def _require_known(method: str) -> None:
    if method not in DETECTORS:
        hint = did_you_mean(method, DETECTORS)
        raise SettingsError(f"there is no method {method!r}.{hint} The methods are: {', '.join(DETECTORS)}")


def measured() -> dict[str, dict[str, float]]:
    """Of each method that was measured, ``artifact_mb`` and ``p50_ms`` of one image: docs/results/methods-costs.md says how.

    Written by tools/methods_table.py.
    """
    found: dict[str, dict[str, float]] = json.loads((Path(__file__).parent / "measured.json").read_text())
    return found
