"""One upload inspected, in a thread: its verdict, and its heatmap where asked for."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from andon.calibrate import group_of
from andon.errors import ArtifactError, ImageError
from andon.image import photo_size
from andon.runtime.monitor import DriftEvent
from andon.runtime.picture import overlay_of
from andon.runtime.predictor import Measurement, Predictor
from andon.runtime.server.backing import Backing
from andon.runtime.server.bodies import Upload
from andon.runtime.server.limits import Limits
from andon.runtime.server.problems import failed, too_many_pixels, unreadable
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import language_of
from andon.types import Verdict

MOST_PATH = 300  # letters of a path, its last ones: a pattern is compared with the last parts


@dataclass(frozen=True)
class Wishes:
    """How a request wants its verdicts."""

    language: str | None  # a code of LANGUAGES; None: the artefact's own
    heatmap: bool
    group: str | None = None  # of the image, by name
    path: str | None = None  # where it comes from; None: the file's name


@dataclass(frozen=True)
class Inspected:
    """What is known of one image."""

    verdict: Verdict
    heatmap: bytes | None  # PNG
    group: str | None  # that the image belongs to
    drift: tuple[DriftEvent, ...]  # noticed at it
    record: int | None  # its number in the records


def inspect_upload(
    shelved: Shelved, upload: Upload, wishes: Wishes, limits: Limits, backing: Backing
) -> Inspected:
    """The verdict on ``upload``, shown to the monitors and recorded. Raises :class:`Problem` where it cannot be inspected."""
    predictor = shelved.predictor
    path = (wishes.path or upload.name or "")[-MOST_PATH:]
    if wishes.language is not None:
        predictor = predictor.speaking(wishes.language)
    seen: list[Measurement] = []
    try:
        size = photo_size(upload.data)
        if size[0] * size[1] > limits.pixels:
            raise too_many_pixels(limits, size)
        verdict = predictor.inspect(upload.data, watch=seen.append, path=path, group=wishes.group)
    except ImageError as error:
        raise unreadable(str(error)) from error
    except ArtifactError as error:
        raise failed(f"the artefact {shelved.name} cannot answer: {error}") from error
    calibration = predictor.calibration
    group = (wishes.group or group_of(calibration, path)) if calibration.groups else None
    drift = backing.monitors.add(shelved, seen[0], path) if backing.monitors else ()
    keeps = backing.recorder is not None and verdict.decision != "pass"
    heatmap = _heatmap(predictor, seen[0], verdict) if wishes.heatmap or keeps else None
    record = None
    if backing.recorder is not None:
        record = backing.recorder.add(
            shelved, verdict, group, *((upload.data, heatmap) if keeps else (None, None))
        )
    return Inspected(verdict, heatmap if wishes.heatmap else None, group, drift, record)


def _heatmap(predictor: Predictor, measured: Measurement, verdict: Verdict) -> bytes:
    buffer = io.BytesIO()
    picture = overlay_of(predictor, measured.photo.pixels, verdict)[1]
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def accepted_language(header: str) -> str | None:
    """The language, of those there are, that an Accept-Language header likes best; None where it likes none.

    >>> accepted_language("de-AT,de;q=0.9,en;q=0.8"), accepted_language("it, fr;q=0.5"), accepted_language("*")
    ('de', 'fr', None)
    """
    liked: list[tuple[float, str]] = []
    for entry in header.split(","):
        tag, _, weight = entry.partition(";")
        language = language_of(tag.strip())
        quality = _quality(weight)
        if language is not None and quality > 0:
            liked.append((quality, language))
    return max(liked, key=lambda pair: pair[0])[1] if liked else None


def _quality(weight: str) -> float:
    """The number in ``q=0.8``; 1 where there is none, 0 where it is no number."""
    text = weight.strip().removeprefix("q=")
    try:
        return float(text or 1)
    except ValueError:
        return 0.0
