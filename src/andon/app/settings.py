"""How the app was started; handed from ``andon app`` to the script that Streamlit runs as one text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import time
from pathlib import Path

from andon.errors import SettingsError

DATABASE = "station.db"  # in the folder of artefacts, where no other records are named


@dataclass(frozen=True)
class UploadLimits:
    """How much one browser may send. Raises :class:`SettingsError` where a limit makes no sense.

    Memory is bounded by them: ``at_once`` decoded photographs of ``pixels`` in the whole app, and in each browser
    ``images`` files of ``image_bytes`` while they are inspected, and reduced pictures of the last ``shown``.
    """

    image_bytes: int = 64 * 2**20  # of one file
    pixels: int = 50_000_000  # of one photograph
    images: int = 32  # at one time
    shown: int = 60  # whose pictures are kept
    at_once: int = 2  # inspected at the same time

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) >= 1:
                raise SettingsError(f"{each.name} must be at least 1, got {getattr(self, each.name)}")


@dataclass(frozen=True)
class AppSettings:
    """What ``andon app`` was asked for. ``records``: a file's name or an URL, as :func:`andon.records.open_records` takes it."""

    folder: Path  # of artefacts
    records: str
    pictures: Path | None = None  # where records keep pictures; None: beside the file
    limits: UploadLimits = field(default_factory=UploadLimits)
    threads: int | None = None  # of ONNX Runtime for one inspection
    language: str | None = None  # that browsers begin with; None: their own
    shifts: tuple[str, ...] = ("06:00", "14:00", "22:00")  # when they begin, by this computer's clock
    monitors: tuple[Path, ...] = ()  # states of lines' monitors to show
    benchmarks: tuple[Path, ...] = ()  # results of andon bench to show

    def __post_init__(self) -> None:
        shift_starts(self.shifts)

    def to_text(self) -> str:
        """JSON that :meth:`of_text` reads."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of_text(cls, text: str) -> AppSettings:
        """The settings that :meth:`to_text` wrote."""
        content = json.loads(text)
        content["folder"] = Path(content["folder"])
        content["pictures"] = None if content["pictures"] is None else Path(content["pictures"])
        content["limits"] = UploadLimits(**content["limits"])
        content["shifts"] = tuple(content["shifts"])
        for name in ("monitors", "benchmarks"):
            content[name] = tuple(map(Path, content[name]))
        return cls(**content)


def shift_starts(texts: tuple[str, ...]) -> tuple[time, ...]:
    """The times in ``texts``, sorted. Raises :class:`SettingsError`.

    >>> shift_starts(("14:00", "06:30"))
    (datetime.time(6, 30), datetime.time(14, 0))
    """
    try:
        starts = sorted(time.fromisoformat(text.strip()) for text in texts)
    except ValueError as error:
        raise SettingsError(f"shifts: expected times such as 06:00, got {', '.join(texts)}") from error
    if not starts or len(set(starts)) < len(starts) or any(start.tzinfo for start in starts):
        raise SettingsError(
            f"shifts: expected times such as 06:00, each once, got {', '.join(texts) or 'none'}"
        )
    return tuple(starts)
