"""``method="auto"``: the cheap methods, tried on the part's own good images with invented defects.

Nobody has shown a defect yet, so some are drawn: textures that show through blobs of noise (DRAEM's way) and pieces of
the image copied to where they do not belong (Li et al. 2021, CutPaste, arXiv:2104.04015). Each candidate is fitted on
some of the good images and must tell the others as they are from the same ones with a defect. That an invented defect
is found does not mean that yours is: the choice is a start, not a measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from andon.errors import DataError, SettingsError
from andon.metrics import auroc

if TYPE_CHECKING:
    from torch import Tensor

    from andon.engine import Reader
    from andon.models.base import Detector
    from andon.training import Plan

AUTO = "auto"
CANDIDATES = ("patchcore", "padim", "subspacead")  # in the order in which they are preferred when level
SHARED = ("backbone", "layers", "seed")  # settings that may be given: all candidates understand them
LEVEL = 0.01  # a difference of AUROC that is none
FITTED, TRIED, LEAST = 64, 24, 8  # images to fit on, to try on; fewer good images than the last: no trial
PASTED = (0.02, 0.1)  # of the image's area

Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class Choice:
    """A method, why, and the AUROC that each candidate had."""

    method: str
    reason: str
    aurocs: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {"method": self.method, "reason": self.reason, "aurocs": self.aurocs}


def choose(
    paths: Sequence[Path],
    reader: Reader,
    settings: dict[str, Any],
    *,
    seed: int = 0,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Choice:
    """The method for the good images in ``paths``, from a trial of a minute or so on at most 88 of them.

    ``reader`` and ``plan`` are those of the fit: what it covers, aligns or varies, the trial does, too.
    Raises :class:`SettingsError` for settings that not every candidate takes, :class:`DataError` where no image drawn for
    the trial can be used.
    """
    strange = sorted(set(settings) - set(SHARED))
    if strange:
        raise SettingsError(
            f"--method auto tries {', '.join(CANDIDATES)}, which share the settings {', '.join(SHARED)}; "
            f"{strange[0]} is not one of them. Name the method to set it."
        )
    if len(paths) < LEAST:
        reason = f"{len(paths)} good images are too few for a trial (at least {LEAST})"
        return Choice(CANDIDATES[0], reason, {})
    drawn = np.random.default_rng(seed).permutation(len(paths))
    tried = min(TRIED, len(paths) // 3)
    good = _read(reader, [paths[i] for i in drawn[:tried]])
    spoiled = with_defects(good, seed)
    aurocs = {}
    for done, method in enumerate(CANDIDATES):
        if progress:
            progress("try methods", done, len(CANDIDATES))
        detector = _fitted(method, [paths[i] for i in drawn[tried : tried + FITTED]], reader, settings, plan)
        aurocs[method] = _told_apart(detector, good, spoiled)
    if progress:
        progress("try methods", len(CANDIDATES), len(CANDIDATES))
    return _best(aurocs, len(good))


def _best(aurocs: dict[str, float], images: int) -> Choice:
    """The first candidate that is level with the best."""
    best = max(aurocs.values())
    method = next(name for name, value in aurocs.items() if value >= best - LEVEL)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in aurocs.items())
    rule = (
        "the highest" if aurocs[method] == best else f"level with the highest (within {LEVEL}) and preferred"
    )
    reason = f"AUROC on {images} good images with and without invented defects: {shown}; {method} is {rule}"
    return Choice(method, reason, {name: round(value, 4) for name, value in aurocs.items()})


def _read(reader: Reader, paths: Sequence[Path]) -> Tensor:
    import torch

    if not (found := list(reader.tensors(paths))):
        raise DataError(
            f"none of the {len(paths)} good images drawn to try methods on can be used: name the method"
        )
    return torch.cat(found)


def _fitted(
    method: str, paths: Sequence[Path], reader: Reader, settings: dict[str, Any], plan: Plan | None
) -> Detector:
    from andon.engine import fit
    from andon.models import build, defaults

    detector = build(method, **{name: value for name, value in settings.items() if name in defaults(method)})
    fit(detector, paths, reader, plan=plan)
    return detector


def _told_apart(detector: Detector, good: Tensor, spoiled: Tensor) -> float:
    """The AUROC of the image scores."""
    import torch

    with torch.no_grad():
        scores = [detector(image[None]).image_score for image in (*good, *spoiled)]
    truth = np.arange(len(scores)) >= len(good)
    return auroc(torch.cat(scores).numpy(), truth)


def with_defects(good: Tensor, seed: int) -> Tensor:
    """``good`` (B, 3, H, W) twice, (2 B, 3, H, W): with a texture on each, and with a piece copied elsewhere on each."""
    import torch

    from andon.features.textures import TextureSource, disturbed

    rng = np.random.default_rng([seed, 1])
    size = (int(good.shape[2]), int(good.shape[3]))
    source, textured = TextureSource("drawn"), good.clone()
    for image in textured:
        picture = disturbed(rng, source.draw(rng, size)).transpose(2, 0, 1).astype(np.float32) / 255
        image += _blob(rng, size) * float(rng.uniform(0.3, 1.0)) * (torch.from_numpy(picture) - image)
    return torch.cat([textured, torch.stack([_pasted(image, rng) for image in good])])


def _blob(rng: np.random.Generator, size: tuple[int, int]) -> Tensor:
    """A mask (1, H, W) bool with something in it: noise does not always reach above the threshold."""
    import torch

    from andon.features.perlin import blob_mask

    mask = blob_mask(rng, size)
    while not mask.any():
        mask = blob_mask(rng, size)
    return torch.from_numpy(mask)[None]


def _pasted(image: Tensor, rng: np.random.Generator) -> Tensor:
    """``image`` (3, H, W) with a rectangle of it over another place."""
    rows, columns = int(image.shape[1]), int(image.shape[2])
    area, aspect = rng.uniform(*PASTED) * rows * columns, np.exp(rng.uniform(-1, 1))
    h, w = (
        max(2, min(n // 2, int(side)))
        for n, side in ((rows, np.sqrt(area * aspect)), (columns, np.sqrt(area / aspect)))
    )
    (top, left), (to_top, to_left) = ((rng.integers(rows - h), rng.integers(columns - w)) for _ in range(2))
    out = image.clone()
    out[:, to_top : to_top + h, to_left : to_left + w] = image[:, top : top + h, left : left + w]
    return out
