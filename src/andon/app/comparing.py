"""Several detectors on one photograph, and the tables of ``andon bench``. Nothing is recorded. No Streamlit, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from andon.app.inspecting import Pictures, Pixels, overlaid, pictures_of
from andon.bench.joined import join_results, result_files
from andon.bench.page import titled
from andon.bench.report import GridReport, report_of
from andon.bench.writers import Table, to_markdown
from andon.errors import AndonError, DataError
from andon.image import Source
from andon.runtime.predictor import Measurement, Predictor
from andon.types import Calibration, Verdict


@dataclass(frozen=True, eq=False)
class Answer:
    """What one detector says of a photograph: ``verdict`` and ``pictures``, or the ``reason`` why it cannot."""

    name: str
    calibration: Calibration
    verdict: Verdict | None = None
    pictures: Pictures | None = None
    reason: str = ""

    def heatmap(self, opacity: float) -> Pixels | None:
        """The photograph under its heatmap (H, W, 3), boxes around the regions found; None where there is no answer.

        Colours are on the detector's own scale: raw maps of different detectors cannot be compared.
        """
        return None if self.pictures is None else overlaid(self.pictures, self.calibration, opacity)


def answer(name: str, predictor: Predictor, source: Source, path: str) -> Answer:
    """What ``predictor`` says of ``source``, which comes from ``path``. One that cannot answer says why."""
    seen: list[Measurement] = []
    try:
        verdict = predictor.inspect(source, watch=seen.append, path=path)
        return Answer(name, predictor.calibration, verdict, pictures_of(predictor, seen[0], verdict))
    except AndonError as error:
        return Answer(name, predictor.calibration, reason=str(error))


def reports(paths: Sequence[Path]) -> list[GridReport]:
    """What ``andon bench`` found, one report a grid. ``paths``: files of results, or folders of them.

    Raises :class:`DataError` for files that hold no results.
    """
    return [report_of(results) for results in join_results(result_files(paths))]


def stamps(paths: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What tells whether results have changed since: (file, time of its change in ns, bytes). Raises as :func:`reports`."""
    try:
        found = [(path, path.stat()) for path in result_files(paths)]
    except OSError as error:
        raise DataError(
            f"the results cannot be read ({error}): give a file that andon bench run has written"
        ) from error
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


def table_text(table: Table) -> str:
    """The table in Markdown without its title; words in it are harmless, its own marks are ``<u>`` and ``<sup>``."""
    return to_markdown(titled(table)).partition("\n")[2].strip()
