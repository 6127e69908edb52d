"""The main job in one call each: fit, recalibrate, judge, report."""

from andon.pipeline.annotating import Annotated, AnnotateOptions, annotate
from andon.pipeline.evaluating import Judged, evaluate_maps, has_known_answers, judge
from andon.pipeline.fitting import fit, partial_path, unfinished
from andon.pipeline.options import FitOptions
from andon.pipeline.recalibrating import Recalibration, recalibrate
from andon.pipeline.reporting import write_judged_report, write_verdict_report
from andon.pipeline.rules import Criterion
from andon.pipeline.scoring import raw_scores
from andon.pipeline.surveying import report_on_data

__all__ = [
    "AnnotateOptions",
    "Annotated",
    "Criterion",
    "FitOptions",
    "Judged",
    "Recalibration",
    "annotate",
    "evaluate_maps",
    "fit",
    "has_known_answers",
    "judge",
    "partial_path",
    "raw_scores",
    "recalibrate",
    "report_on_data",
    "unfinished",
    "write_judged_report",
    "write_verdict_report",
]
