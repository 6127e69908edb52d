"""Results into a station's records, each once. Needs the extra ``records``; ``postgres`` for PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from andon.records import ArtifactName, LineResult, Session, check_place, open_records
from andon.runtime.line.contract import ERROR, Result, Sink
from andon.runtime.line.moving import content_of
from andon.types import Region, Verdict

if TYPE_CHECKING:
    from andon.records import Records

MOST_BYTES = 32 * 2**20  # of pictures in one transaction, beyond the last one's


class RecordsSink(Sink):
    """Adds every verdict to the records at ``where``, as the programme ``who``; see :func:`andon.records.open_records`.

    Parts that could not be inspected have no verdict and are left out. Where a result has an overlay, that and the
    photograph are kept, too: ``folder`` is that of the results, ``moves`` where photographs are moved to by decision.
    """

    name = "records"

    def __init__(
        self, where: str, folder: Path, *, who: str, pictures: Path | None = None,
        moves: Mapping[str, Path] | None = None,
    ) -> None:  # fmt: skip
        self.where, self.folder, self.who, self.pictures = where, folder, who, pictures
        self.moves = dict(moves or {})
        self._opened: tuple[Records, Session] | None = None

    def open(self) -> None:
        """Begin; a file is opened now, so that a wrong one is said, a server when there is something for it."""
        check_place(self.where)
        if "://" not in self.where:
            self._session()

    def deliver(self, results: Sequence[Result]) -> None:
        """Record what is not recorded; see :meth:`Sink.deliver`."""
        entries = (self._entry(result) for result in results if result.content["decision"] != ERROR)
        for batch in _batches(entries):
            records, session = self._session()
            records.add_from_line(session, batch)

    def close(self) -> None:
        """Let go of the records."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def _session(self) -> tuple[Records, Session]:
        if self._opened is None:
            records = open_records(self.where, pictures=self.pictures)
            try:
                self._opened = records, records.unattended(self.who)
            finally:
                if self._opened is None:
                    records.close()
        return self._opened

    def _entry(self, result: Result) -> LineResult:
        content = result.content
        path = Path(content["path"])  # absolute where it is a file's
        image = overlay = None
        if content["overlay"]:
            with suppress(OSError):  # somebody has cleared it away
                overlay = (self.folder / content["overlay"]).read_bytes()
            if path.is_absolute():
                image = content_of(path, self.moves.get(content["decision"]), content["sha256"])
        return LineResult(
            line=content["line"],
            sequence=result.sequence,
            part=content["part"],
            at=datetime.fromisoformat(content["inspected"]),
            verdict=verdict_of(content),
            artifact=ArtifactName(Path(content["artifact"]).stem, content["artifact_sha256"]),
            image_name=content["name"],
            image_hash=content["sha256"] if path.is_absolute() else None,
            group=content.get("group", ""),
            image=image,
            overlay=overlay,
        )


def verdict_of(content: Mapping[str, Any]) -> Verdict:
    """The verdict that a result's document tells, without its map."""
    return Verdict(
        path=content["path"],
        decision=content["decision"],
        score=_number(content["score"]),
        image_score=_number(content["image_score"]),
        threshold=_number(content["threshold"]),
        regions=tuple(_region(entry) for entry in content["regions"]),
        sentence=content["sentence"],
        size=(content["height"], content["width"]),
        not_inspected=content["not_inspected"],
        milliseconds=content["milliseconds"],
        notes=tuple(content["notes"]),
    )


def _region(entry: Mapping[str, Any]) -> Region:
    top, left, bottom, right = entry["box"]
    row, column = entry["peak_position"]
    return Region(
        box=(top, left, bottom, right),
        area=entry["area"],
        area_fraction=entry["area_fraction"],
        peak=_number(entry["peak"]),
        peak_position=(row, column),
        elongation=entry.get("elongation", 1.0),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _batches(entries: Iterator[LineResult]) -> Iterator[list[LineResult]]:
    """``entries`` in lists whose pictures fit into memory together."""
    batch: list[LineResult] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.image or b"") + len(entry.overlay or b"")
        if size > MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
