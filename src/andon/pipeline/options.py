"""How to fit, apart from the method's own settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from andon.calibrate import PathPattern, check_share
from andon.data.augment import Augmentation
from andon.errors import SettingsError
from andon.image import RESIZES
from andon.pipeline.ignoring import ZoneSource
from andon.runtime.words import words_of


@dataclass(frozen=True)
class FitOptions:
    """How to fit, apart from the method's own settings."""

    size: tuple[int, int] | None = (
        None  # network input (H, W); None: near 256x256, the photos' own shape kept
    )
    resize: str = "stretch"  # "stretch", "letterbox" or "tiles"
    overlap: float = 0.25  # of neighbouring tiles, at least; share of a tile
    tile_scale: float = 1.0  # the photograph is scaled by this before it is cut into tiles
    white_level: int = 65535  # the 16-bit value that counts as white
    layout: str = "auto"
    category: str | None = None
    calibration: float | Path = 0.25  # share of the good images, or a folder of further ones
    group_by: str | None = None  # pattern of the path, {shift}/{lot}_*.png: images of a group stay together
    latest: bool = False  # calibrate on the last images by name, not on random ones
    limit: int | None = None  # fit on so many of the good images at most, drawn by the seed; None: on all
    target_rate: float = 0.01
    confidence: float = 0.95
    strict: bool = False  # no threshold, and no fit, unless the images promise target_rate with confidence
    threshold_by: str | None = None  # pattern of the path: a threshold for each group, all groups in the fit
    fall_back: bool = False  # groups without a threshold of their own: by that of all groups; else for review
    int8: bool = False  # convolutions of the exported graph in 8 bits
    leave_out: Path | None = None  # a list of images not to fit or calibrate on, as `andon audit` writes it
    ignore: ZoneSource | None = None  # zones that no network is to see: a zones.json, a mask image, or zones
    align: bool = False  # zones follow the part, found in each photograph; needs the extra `nuisance`
    print_into: ZoneSource | None = None  # zones into which random prints are drawn while fitting
    seed: int = 0
    batch_size: int | None = None  # images in a batch; None: what the method asks for
    workers: int = 2
    checkpoint_seconds: float = 20.0  # how often an unfinished fit is kept
    ray: str | None = None  # address of a Ray cluster to look at the images, "local": one here; None: none
    shards: int | None = None  # parts that the images are cut into for it; None: by their number
    # of training; closed-form methods heed `augment`, `copies` and `device` alone
    minutes: float | None = None  # None: as many as the method's steps take
    early_stop: int | None = None  # evaluations without a better held-out loss after which training ends
    precision: str = "float32"  # "float32", "bfloat16" or "float16"
    device: str = "auto"  # "auto", "cpu", "cuda"
    augment: str = ""  # "study", or kinds of andon.data.augment separated by commas
    copies: int = 1  # varied versions of each image that a closed-form method sees besides the image
    cache_gb: float = 4.0  # of disk, for what frozen networks make of the images; 0: none
    cache_folder: Path | None = None  # where; None: the system's folder for temporary files
    keep_patches: bool = False  # keep pictures of good parts in the artefact, to set beside odd regions
    kept_bytes: int = 1_000_000  # of these pictures, at most
    language: str | None = None  # of the verdicts, a code of andon.runtime.words; None: left to who inspects
    image_gb: float = 0.5  # of memory, for decoded images

    def __post_init__(self) -> None:
        check_share("target_rate", self.target_rate)
        check_share("confidence", self.confidence)
        for name, least in (("seed", 0), ("workers", 0)):
            _check_whole(name, getattr(self, name), least)
        if self.align and self.ignore is None:
            raise SettingsError("align lets zones follow the part; give the zones, too, by ignore")
        if self.fall_back and self.threshold_by is None:
            raise SettingsError(
                "fall_back is for groups without a threshold of their own; give threshold_by, too"
            )
        if self.threshold_by is not None:
            PathPattern.parse(self.threshold_by, "threshold_by")
        if self.language is not None:
            words_of(self.language)
        _check_whole("kept_bytes", self.kept_bytes, 1)
        if self.shards is not None and self.ray is None:
            raise SettingsError("shards are what a Ray cluster shares out; give its address, too, by ray")
        for name in ("batch_size", "limit", "shards"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        _check_number("checkpoint_seconds", self.checkpoint_seconds)
        if not isinstance(self.calibration, str | os.PathLike):
            _check_number("calibration", self.calibration)
        if self.resize not in RESIZES:
            raise SettingsError(f"resize must be one of {', '.join(RESIZES)}, got {self.resize!r}")
        Augmentation.parse(self.augment)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SettingsError(f"{name} must be a number, got {value!r}")
