"""A small data set for tests of federations: parts in three looks, good ones and two kinds of defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 64)
LOOKS = ((180, 60, 60), (60, 180, 60), (60, 60, 180))  # colours of the parts; image n has look n modulo 3


def draw_blocks(root: Path) -> Path:
    """60 good images to train on, 12 good and 12 defective ones to test on, below ``root`` in MVTec AD's layout."""
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 60), ("test/good", 12), ("test/dent", 6), ("test/stain", 6)):
        for number in range(count):
            pixels = np.clip(np.array(LOOKS[number % 3]) + rng.normal(0, 6, (*SIZE, 3)), 0, 255).astype(
                np.uint8
            )
            path = root / folder / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if "good" not in folder:
                pixels[10:20, 20:30] = 255
                mask = np.zeros(SIZE, np.uint8)
                mask[10:20, 20:30] = 255
                where = root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
                where.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(where)
            Image.fromarray(pixels).save(path)
    return root
