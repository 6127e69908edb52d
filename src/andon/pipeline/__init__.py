"""The main job in one call each: fit, recalibrate, evaluate, report."""

from andon.pipeline.evaluating import evaluate, evaluate_maps, has_known_answers
from andon.pipeline.fitting import FitOptions, fit, partial_path, raw_scores
from andon.pipeline.recalibrating import Criterion, Recalibration, recalibrate
from andon.pipeline.reporting import write_evaluation_report, write_verdict_report

__all__ = [
    "Criterion",
    "FitOptions",
    "Recalibration",
    "evaluate",
    "evaluate_maps",
    "fit",
    "has_known_answers",
    "partial_path",
    "raw_scores",
    "recalibrate",
    "write_evaluation_report",
    "write_verdict_report",
]
