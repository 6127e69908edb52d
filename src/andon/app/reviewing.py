"""The queue of what a person should look at, and what leaves it: new good images, and annotations of defects."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from andon.errors import DataError, SettingsError
from andon.pipeline import AnnotateOptions, annotate
from andon.records import Answer, Filters, Inspection, Session
from andon.runtime.predictor import Predictor
from andon.types import Decision

if TYPE_CHECKING:
    from andon.records import Records

CARDS = 12  # a page of the queue
MOST_IMAGES, MOST_BYTES = 500, 200 * 10**6  # of one file to download
QUEUE: tuple[Decision, ...] = ("fail", "review")
DAYS = (1, 7, 30, 0)  # 0: all
Done = Literal["open", "done", "both"]
DECIDED: dict[Done, bool | None] = {"open": False, "done": True, "both": None}


@dataclass(frozen=True)
class Wanted:
    """What a person chose to see. ``days``: back from now, 0 for all; ``detector``: None for all."""

    decisions: tuple[Decision, ...] = QUEUE
    done: Done = "open"
    detector: str | None = None
    days: int = 7


def filters_of(wanted: Wanted, session: Session, now: datetime) -> Filters:
    """The filters that ``wanted`` comes to. Who did not log in sees what this browser has inspected, and nothing else."""
    return Filters(
        artifact=wanted.detector,
        decisions=wanted.decisions,
        decided=DECIDED[wanted.done],
        since=now - timedelta(days=wanted.days) if wanted.days else None,
        session=own_only(session),
    )


def own_only(session: Session) -> str | None:
    """The session whose inspections alone may be seen; None for all of the station."""
    return session.token if session.proof == "nobody" else None


def answers_to(decision: Decision) -> tuple[tuple[Answer, str], ...]:
    """What can be answered to a verdict with one press, and the key of the words on the button."""
    if decision == "review":
        return ("pass", "review.is_good"), ("fail", "review.is_bad")
    return ("agree", "review.agree"), ("disagree", "review.disagree")


def title_of(inspection: Inspection) -> str:
    """What people know a part by: its number, where a line read one, and the photograph's name."""
    name = inspection.image_name
    return name if inspection.part in (None, "", Path(name).stem) else f"{inspection.part} · {name}"


@dataclass(frozen=True)
class Export:
    """A ZIP file to download. ``missing``: inspections whose photographs are not kept any more."""

    data: bytes
    images: int
    missing: int


def good_images(records: Records, filters: Filters) -> Export:
    """The photographs whose parts are good by a person's last word, to fit or calibrate with.

    Raises :class:`DataError` where there are none, :class:`SettingsError` where they are too many for one file.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, missing = _saved(records, _judged("pass", filters), Path(folder))
        return Export(_zipped(Path(folder)), images, missing)


def annotated_defects(records: Records, filters: Filters, predictor: Predictor, kind: str) -> Export:
    """The photographs whose parts are defective by a person's last word, with the regions that ``predictor`` finds on them.

    ``kind``: a format of :data:`andon.runtime.annotate.FORMATS`. Raises as :func:`good_images`.
    """
    with tempfile.TemporaryDirectory() as folder:
        photos, out = Path(folder, "photos"), Path(folder, "out")
        images, missing = _saved(records, _judged("fail", filters), photos)
        done = annotate(predictor, photos, out, AnnotateOptions(format=kind, whose="all", copy=True))
        return Export(_zipped(out), len(done.images), missing + images - len(done.images))


def _judged(verdict: Decision, filters: Filters) -> Filters:
    """``filters`` for what persons said to be ``verdict``, whatever the machine said."""
    return replace(filters, decisions=(), decided=None, verdicts=(verdict,))


def _saved(records: Records, filters: Filters, folder: Path) -> tuple[int, int]:
    """How many photographs were copied into ``folder``, and how many are not kept any more."""
    total = records.find(filters, size=1).total
    if not total:
        raise DataError("there are none: nobody has decided so on what is chosen here")
    if total > MOST_IMAGES:
        raise _too_much(f"{total:,} photographs")
    missing = records.save_images(_counted(records, records.each(filters)), folder)
    images = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    if not images:
        raise DataError("none of these photographs is kept any more")
    return images, len(missing)


def _counted(records: Records, inspections: Iterable[Inspection]) -> Iterator[Inspection]:
    """``inspections``, until their photographs are too large together."""
    left = MOST_BYTES
    for inspection in inspections:
        path = records.pictures.path(inspection.image_hash) if inspection.image_hash else None
        left -= path.stat().st_size if path is not None and path.exists() else 0
        if left < 0:
            raise _too_much(f"more than {MOST_BYTES // 10**6} MB")
        yield inspection


def _too_much(what: str) -> SettingsError:
    return SettingsError(
        f"these are {what}, too much for one download. Choose fewer days, or run: andon records export WHERE --images DIR"
    )


def _zipped(folder: Path) -> bytes:
    """All files in ``folder`` as one ZIP file, sorted by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return buffer.getvalue()
