"""Reports of a predictor's work, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from andon.pipeline.evaluating import Judged
from andon.report import write_report
from andon.runtime.picture import overlay_of
from andon.runtime.predictor import Predictor
from andon.runtime.words import DEFAULT
from andon.types import Evaluation, Failure, Verdict


def write_judged_report(
    predictor: Predictor, judged: Judged, output: Path, *, title: str | None = None
) -> Path:
    """The path of the report on an evaluation: figures, curves, worst false alarms and closest escapes."""
    return _write(predictor, judged.answers, output, title, judged.evaluation)


def write_verdict_report(
    predictor: Predictor,
    images: Sequence[Path],
    output: Path,
    *,
    title: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Verdict | Failure]:
    """The answers on images whose truth is not known, after a report on them: counts, scores, what failed and why."""
    answers = _without_maps(predictor, images, progress)
    _write(predictor, answers, output, title, None)
    return answers


def _without_maps(
    predictor: Predictor, images: Sequence[Path], progress: Callable[[str, int, int], None] | None
) -> list[Verdict | Failure]:
    answers: list[Verdict | Failure] = []
    for done, answer in enumerate(predictor.inspect_many(images), 1):
        answers.append(replace(answer, anomaly_map=None) if isinstance(answer, Verdict) else answer)
        if progress:
            progress("inspect", done, len(images))
    return answers


def _write(predictor: Predictor, answers: Sequence[Verdict | Failure], output: Path, title: str | None,
           found: Evaluation | None) -> Path:  # fmt: skip
    data = predictor.manifest.get("data", {})
    name = data.get("category") or data.get("source") or "part"
    return write_report(
        output,
        title=title or f"Inspection report: {name}",
        manifest=predictor.manifest,
        calibration=predictor.calibration,
        verdicts=[answer for answer in answers if isinstance(answer, Verdict)],
        failures=[(answer.path, answer.reason) for answer in answers if isinstance(answer, Failure)],
        evaluation=found,
        picture=lambda path: overlay_of(predictor, path),
        words=predictor.words if predictor.words["language.code"] != DEFAULT else None,
    )
