"""A synthetic inspection line: pictures of a bracket with bolts, hose, clamp and label, good and defective.

No two good parts are alike: place, turn, brushing, bolts' angles, the hose's sway, the label's text and its
barcode, the light of the day and the sensor's noise vary. A defective part differs from the good part of the
same seed by its defect alone. The same seed gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.synthetic_canvas import DRAWING, Canvas, reduce_mask
from andon.data.synthetic_defects import DEFECTS, DefectType, mark, plan
from andon.data.synthetic_light import Camera, as_jpeg, lamps_at, photograph
from andon.data.synthetic_part import make_part
from andon.data.synthetic_scene import paint_scene
from andon.errors import DataError, SettingsError, did_you_mean

__all__ = ["DEFECTS", "SIZE", "DefectType", "Scene", "draw", "write_line"]

SIZE = DRAWING
_SMALLEST = 64
_LARGEST = 8192


@dataclass(frozen=True)
class Scene:
    """One picture of the line.

    image: (H, W, 3) uint8 RGB. masks: for each defect its name and the pixels (H, W) bool that show it, or
    where what is missing should be; empty for a good part. serial: the digits of the barcode.
    """

    image: NDArray[np.uint8]
    masks: tuple[tuple[str, NDArray[np.bool_]], ...]
    serial: str


def draw(
    seed: int | Sequence[int] | np.random.Generator,
    *,
    size: tuple[int, int] = SIZE,
    defect: str | None = None,
    severity: float | None = None,
    light: float = 0.0,
    jpeg: int | None = None,
) -> Scene:
    """One picture of one part, good, or with ``defect`` (a key of `DEFECTS`).

    severity: 0 hard to see, 1 plain, None drawn. light: place in the day's drift, 0 to 1: the lamps grow
    dimmer and warmer, and turn. jpeg: quality 1 to 95 of a compression that the picture goes through.
    With equal seeds, pictures with and without a defect show the same part in the same light and noise.

    Raises :class:`SettingsError` for a value out of range.

    >>> scene = draw(7, size=(96, 128), defect="missing_bolt")
    >>> scene.image.shape, scene.masks[0][0], scene.masks[0][1].any()
    ((96, 128, 3), 'missing_bolt', np.True_)
    """
    _check_draw(size, defect, severity, light, jpeg)
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**63))
    if min(seed if isinstance(seed, Sequence) else (seed,), default=0) < 0:
        raise SettingsError(f"seed must be 0 or more; got {seed}.")
    of_part, of_light, of_sensor, of_defect = np.random.SeedSequence(seed).spawn(4)
    part = make_part(np.random.default_rng(of_part))
    rng = np.random.default_rng(of_defect)
    drawn = float(rng.uniform(0, 1))
    strength = drawn if severity is None else severity
    build = plan(defect, strength, rng)
    canvas = Canvas(size, part.pose)
    paint_scene(canvas, part, build)
    masks: tuple[tuple[str, NDArray[np.bool_]], ...] = ()
    if defect is not None:
        masks = ((defect, reduce_mask(mark(defect, strength, rng, canvas, part, build))),)
    image = _shoot(canvas, light, np.random.default_rng(of_light), of_sensor)
    return Scene(image if jpeg is None else as_jpeg(image, jpeg), masks, part.text.serial)


def _shoot(
    canvas: Canvas, light: float, rng: np.random.Generator, of_sensor: np.random.SeedSequence
) -> NDArray[np.uint8]:
    a, b, c = (float(value) for value in rng.normal(size=3))
    camera = Camera(defocus=float(rng.uniform(0.45, 0.70)), noise=0.012, seed=of_sensor)
    return photograph(canvas, lamps_at(light, (a, b, c)), camera)


def _check_draw(
    size: tuple[int, int], defect: str | None, severity: float | None, light: float, jpeg: int | None
) -> None:
    if not (min(size) >= _SMALLEST and max(size) <= _LARGEST):
        raise SettingsError(
            f"size must be (H, W), at least {_SMALLEST} each and at most {_LARGEST}; got {tuple(size)}."
        )
    if defect is not None:
        _check_defects([defect])
    if not 0 <= light <= 1:
        raise SettingsError(f"light is a place in the day's drift, 0 to 1; got {light}.")
    if severity is not None and not 0 <= severity <= 1:
        raise SettingsError(f"severity must be 0 (hard to see) to 1 (plain), or None; got {severity}.")
    if jpeg is not None and not 1 <= jpeg <= 95:
        raise SettingsError(f"jpeg is a quality, 1 to 95, or None; got {jpeg}.")


def _check_defects(names: Sequence[str]) -> None:
    for name in names:
        if name not in DEFECTS:
            hint = did_you_mean(name, DEFECTS)
            raise SettingsError(f"no defect is called {name!r}.{hint} There are: {', '.join(DEFECTS)}.")


def write_line(
    root: Path,
    *,
    train: int = 60,
    test_good: int = 20,
    per_defect: int = 3,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    defects: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    category: str = "bracket_line",
) -> Path:
    """The folder ``root/category`` with a data set in AutoVI's layout, whole or not at all.

    ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/<defect>/<image>/0000.png`` and
    ``defects_config.json``. The images of each folder are spread over the whole drift of the light, so that
    neither split nor defect can be told by it. ``defects``: names to draw, all when None.
    ``progress(done, total)`` is called after every image.

    Raises :class:`DataError` when the folder exists already, :class:`SettingsError` for bad values.
    """
    names = list(DEFECTS) if defects is None else list(dict.fromkeys(defects))
    _check_line((train, test_good, per_defect), size, seed, names, category)
    target = Path(root) / category
    if target.exists():
        raise DataError(f"{target} exists already. Delete it, or choose another folder or category.")
    total = train + test_good + per_defect * len(names)
    try:
        with _built_aside(target) as building:
            scenes = _scenes(train, test_good, per_defect, size, seed, names)
            for done, (folder, i, scene) in enumerate(scenes, 1):
                _save(building, folder, i, scene)
                if progress is not None:
                    progress(done, total)
            _save_config(building, size, names)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror or error}. Choose a folder that can be written."
        ) from error
    return target


def _check_line(
    counts: tuple[int, int, int], size: tuple[int, int], seed: int, names: Sequence[str], category: str
) -> None:
    _check_defects(names)
    _check_draw(size, None, None, 0.0, None)
    if seed < 0:
        raise SettingsError(f"seed must be 0 or more; got {seed}.")
    if min(counts) < 0:
        raise SettingsError(f"train, test_good and per_defect are counts; got {', '.join(map(str, counts))}.")
    if not category or Path(category).name != category or category.startswith("."):
        raise SettingsError(f"category must be the name of a folder; got {category!r}.")


@contextlib.contextmanager
def _built_aside(target: Path) -> Iterator[Path]:
    """A new hidden folder beside ``target`` that takes its name when the block ends well, else vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        yield building
        building.chmod(0o755)
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _scenes(
    train: int, test_good: int, per_defect: int, size: tuple[int, int], seed: int, names: Sequence[str]
) -> Iterator[tuple[str, int, Scene]]:
    """Folder, number in the folder and picture of every image; a defect's seeds are its own."""
    groups: list[tuple[str, str | None, int, int]] = [
        ("train/good", None, train, 0),
        ("test/good", None, test_good, 1),
        *((f"test/{name}", name, per_defect, 2 + list(DEFECTS).index(name)) for name in names),
    ]
    for folder, defect, count, group in groups:
        for i in range(count):
            yield folder, i, draw((seed, group, i), size=size, defect=defect, light=(i + 0.5) / count)


def _save(root: Path, folder: str, i: int, scene: Scene) -> None:
    """Write the image, and each mask with its defect's pixel value."""
    path = root / folder / f"{i:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(path, compress_level=2)
    for k, (name, mask) in enumerate(scene.masks):
        path = root / "ground_truth" / name / f"{i:04d}" / f"{k:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(mask, np.uint8(_pixel_value(name)), np.uint8(0))).save(path)


def _pixel_value(name: str) -> int:
    return 255 - list(DEFECTS).index(name)


def _save_config(root: Path, size: tuple[int, int], names: Sequence[str]) -> None:
    scale = min(size[0] / DRAWING[0], size[1] / DRAWING[1]) ** 2
    entries = [
        {
            "defect_name": name,
            "pixel_value": _pixel_value(name),
            "saturation_threshold": kind.saturation
            if kind.relative_saturation
            else round(kind.saturation * scale),
            "relative_saturation": kind.relative_saturation,
        }
        for name, kind in ((name, DEFECTS[name]) for name in names)
    ]
    (root / "defects_config.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
