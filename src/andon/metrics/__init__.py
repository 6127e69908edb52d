"""Metrics as pure functions on arrays: one paper, one file.

Every image metric takes raw ``image_scores`` (N,) and ``is_anomalous`` (N,) bool; every pixel metric takes
anomaly maps (H, W) with masks or defect channels of the same size. What is not defined raises
:class:`andon.errors.MetricError`.
"""

from __future__ import annotations

from andon.metrics.bootstrap import bootstrap_intervals
from andon.metrics.pixel import pixel_auroc, pixel_average_precision
from andon.metrics.precision import average_precision
from andon.metrics.pro import ProAccumulator, aupro
from andon.metrics.rates import Rate, fnr_at, fpr_at, rate, wilson
from andon.metrics.roc import BestF1, RocCurve, auroc, f1_max, roc_curve, tpr_at_tnr
from andon.metrics.spro import SproAccumulator, SproCurve, auspro

__all__ = [
    "BestF1",
    "ProAccumulator",
    "Rate",
    "RocCurve",
    "SproAccumulator",
    "SproCurve",
    "aupro",
    "auroc",
    "auspro",
    "average_precision",
    "bootstrap_intervals",
    "f1_max",
    "fnr_at",
    "fpr_at",
    "pixel_auroc",
    "pixel_average_precision",
    "rate",
    "roc_curve",
    "tpr_at_tnr",
    "wilson",
]
