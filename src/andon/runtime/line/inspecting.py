"""From a part to what is said of it: the verdict, the part's number, codes, drift, and the picture with its heatmap."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, Literal

from PIL import Image

from andon.calibrate import group_of
from andon.errors import AndonError
from andon.path_pattern import PathPattern
from andon.report.rows import verdict_rows
from andon.runtime.line.codes import read_codes, require_reader
from andon.runtime.line.contract import ERROR, Part
from andon.runtime.monitor import DriftEvent, Follower
from andon.runtime.monitor.events import retell
from andon.runtime.monitor.following import SAVE_EVERY
from andon.runtime.picture import overlay_of
from andon.runtime.predictor import Measurement, Predictor
from andon.types import Failure, Verdict

Overlays = Literal["never", "not-passed", "always"]
PART = "part"  # the name in a pattern that is the part's number
NO_FIT = "the file's name does not fit the pattern {!r}"
NO_CODE = "no code could be read"
SEVERAL_CODES = "several codes were read, so none of them names the part"


@dataclass(frozen=True)
class Inspection:
    """What was found of a part: its decision, the JSON document of it, and the overlay as PNG where there is one."""

    decision: str
    document: Mapping[str, Any]
    overlay: bytes | None = field(default=None, repr=False)

    @property
    def is_unreadable(self) -> bool:
        """Whether there is no verdict."""
        return self.decision == ERROR


class Inspector:
    """Inspects parts with one artefact; with a ``follower``, for drift, too.

    pattern: of the files' names; its ``{part}`` is the part's number, all its names go into the document. codes: read
    printed codes, and take the only one found for the part's number. Raises :class:`MissingExtraError` where codes are
    asked for and ZXing-C++ is not there.
    """

    def __init__(
        self, predictor: Predictor, *, pattern: PathPattern | None = None, codes: bool = False,
        overlays: Overlays = "never", follower: Follower | None = None,
    ) -> None:  # fmt: skip
        if codes:
            require_reader()
        self.predictor, self.pattern, self.codes = predictor, pattern, codes
        self.overlays, self.follower = overlays, follower
        self._unsaved = 0

    def inspect(self, part: Part) -> Inspection:
        """What is said of ``part``; never raises for an image that is broken, whatever it is."""
        drift: list[DriftEvent] = []
        codes: list[str] = []

        def watch(measured: Measurement) -> None:
            if self.codes:
                codes.extend(read_codes(measured.photo.pixels))
            if self.follower is not None:
                monitor = self.follower.monitor
                drift.extend(monitor.add(measured.image_score, measured.photo.pixels, part.name))

        answer = self._answer(part, watch)
        overlay = None
        if isinstance(answer, Verdict) and self._wants_overlay(answer):
            overlay = self._overlay(part, answer)
        row = verdict_rows([answer])[0]
        decision = str(row["decision"] or ERROR)
        found = self._identity(part, codes, readable=isinstance(answer, Verdict))
        row |= {
            "decision": decision,
            "regions": _regions(answer, row),
            "notes": [*answer_notes(answer), *found.pop("notes")],
        }
        group = group_of(self.predictor.calibration, part.path or part.name) or ""
        return Inspection(decision, {**found, "group": group, **row, "drift": self._told(drift)}, overlay)

    def _answer(self, part: Part, watch: Callable[[Measurement], None]) -> Verdict | Failure:
        """The verdict; whatever one photograph leads to, it is a failure of that one, and the line goes on."""
        name = part.path or part.name
        if part.problem:
            return Failure(name, part.problem)
        try:
            return self.predictor.inspect(part.image, watch=watch, path=name)
        except AndonError as error:
            return Failure(name, str(error))
        except MemoryError:
            return Failure(name, "there is not enough memory for it")
        except Exception as error:  # noqa: BLE001  (a fault that one photograph meets must not end the line)
            return Failure(name, f"a fault in the program: {type(error).__name__}: {error}")

    def standing_drift(self) -> tuple[str, ...]:
        """What the monitor has noticed so far, in words."""
        return tuple(self._told(self.follower.monitor.standing() if self.follower is not None else ()))

    def _told(self, events: Sequence[DriftEvent]) -> list[str]:
        return [retell(event, self.predictor.words).message for event in events]

    def stored(self) -> str:
        """Told that a result is stored; writes the monitor's file now and then. The reason where that fails, or ""."""
        self._unsaved += 1
        if self.follower is None or self._unsaved < SAVE_EVERY:
            return ""
        self._unsaved = 0
        try:
            self.follower.save()
        except AndonError as error:
            return str(error)
        return ""

    def _wants_overlay(self, verdict: Verdict) -> bool:
        return self.overlays == "always" or (self.overlays == "not-passed" and verdict.decision != "pass")

    def _overlay(self, part: Part, verdict: Verdict) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(overlay_of(self.predictor, part.image, verdict)[1]).save(buffer, "PNG")
        return buffer.getvalue()

    def _identity(self, part: Part, codes: list[str], *, readable: bool) -> dict[str, Any]:
        """The part's number and where it is from: a code before the name's pattern before the name itself."""
        fields = dict(part.fields)
        notes: list[str] = []
        if self.pattern is not None:
            fits = self.pattern.fields_of(part.path or part.name)
            fields |= fits or {}
            notes += [NO_FIT.format(self.pattern.text)] if fits is None else []
        if self.codes and readable and len(codes) != 1:
            notes.append(SEVERAL_CODES if codes else NO_CODE)
        number = codes[0] if len(codes) == 1 else fields.get(PART, PurePath(part.name).stem)
        return {"part": number, "fields": fields, "codes": codes, "name": part.name, "notes": notes}


def _regions(answer: Verdict | Failure, row: Mapping[str, Any]) -> list[dict[str, object]]:
    """The regions of ``row``, each with its elongation: who reads the document back needs all of it."""
    found = answer.regions if isinstance(answer, Verdict) else ()
    return [
        {**entry, "elongation": round(region.elongation, 3)} for entry, region in zip(row["regions"], found)
    ]


def answer_notes(answer: Verdict | Failure) -> tuple[str, ...]:
    """The notes of a verdict."""
    return answer.notes if isinstance(answer, Verdict) else ()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def iso(seconds: float) -> str:
    """A time in Unix seconds as ISO 8601, local with its offset from UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")
