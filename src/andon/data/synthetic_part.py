"""What the part of the synthetic line is: its drawing, how one is put together, how good ones differ.

`Part` is what differs from one good part to the next; `Build` is how a part is put together, its defaults
being a good one. Everything is given in part units (see synthetic_canvas.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from andon.data.synthetic_canvas import Pose
from andon.data.synthetic_label import LabelText, print_text

BOLTS = ((126.0, 214.0), (126.0, 310.0), (438.0, 214.0), (438.0, 310.0))
WASHER = 17.5
HOSE = 16.5
TOP = 14.0  # height of the bracket's face
ROUTE = ((-60, 62), (-10, 56), (45, 54), (103, 78), (158, 124), (212, 145), (270, 148), (334, 148))
CLIP_FROM_END = 36.0
LABEL_PLACE = (222.0, 262.0)


@dataclass(frozen=True)
class Part:
    """What differs from one good part to the next."""

    pose: Pose
    offsets: NDArray[np.int64]  # where textures are cut
    tone: float
    bolt_turns: NDArray[np.float64]
    bolt_tones: NDArray[np.float64]
    sway: NDArray[np.float64]  # of the hose's way, (points, 2)
    stripe: float  # where around the hose its printed line runs
    dash: float  # where along the hose the line's gaps are
    clip_slide: float
    clip_turn: float
    label_shift: tuple[float, float]
    label_turn: float
    text: LabelText
    smudge: NDArray[np.float64]


def make_part(rng: np.random.Generator) -> Part:
    """One good part; always the same number of draws."""
    shift = rng.uniform(-3.0, 3.0, 2)
    sway = rng.normal(0.0, 1.0, (len(ROUTE), 2)) * np.linspace(3.0, 0.2, len(ROUTE))[:, None]
    return Part(
        pose=Pose((float(shift[0]), float(shift[1])), float(np.radians(rng.uniform(-1.2, 1.2)))),
        offsets=rng.integers(0, 4096, (4, 2)),
        tone=float(rng.normal(1.0, 0.025)),
        bolt_turns=rng.uniform(0, np.pi / 3, len(BOLTS)),
        bolt_tones=rng.normal(1.0, 0.03, len(BOLTS)),
        sway=sway,
        stripe=float(rng.uniform(-0.25, 0.25)),
        dash=float(rng.uniform(0, 46)),
        clip_slide=float(rng.normal(0, 1.2)),
        clip_turn=float(np.radians(rng.normal(0, 1.5))),
        label_shift=(float(rng.normal(0, 0.9)), float(rng.normal(0, 0.9))),
        label_turn=float(np.radians(rng.normal(0, 0.6))),
        text=print_text(rng),
        smudge=rng.uniform(0, 1, 4),
    )


@dataclass(frozen=True)
class Build:
    """How a part is put together; the defaults are a good part."""

    bolts: tuple[str, ...] = ("hex", "hex", "hex", "hex")  # hex, none, socket, pan, small
    clip: bool = True
    clip_slide: float = 0.0  # along the hose, away from its end
    clip_turn: float = 0.0
    label: bool = True
    label_turn: float = 0.0
    label_shift: tuple[float, float] = (0.0, 0.0)  # x, y
    hose_gap: float = 0.0  # how far the hose is from its seat
    hose_detour: tuple[float, float] = (0.0, 0.0)  # x, y of the middle of its way


def zinc(tone: float) -> tuple[float, float, float]:
    """The colour of a zinc-plated screw of this brightness."""
    return (0.60 * tone, 0.60 * tone, 0.565 * tone)
