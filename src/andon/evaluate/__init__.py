"""Scores of photographs whose answer is known -> figures with intervals of confidence. No torch.

The caller brings ``score``, so the same code judges a fitted detector, an artefact on the line, or maps that
another tool wrote (:func:`score_maps`).
"""

from __future__ import annotations

from andon.evaluate.maps import read_map, score_maps
from andon.evaluate.run import Channels, Score, evaluate
from andon.evaluate.tables import format_table, metric_rows, metrics_csv, score_rows, scores_csv, to_json

__all__ = [
    "Channels",
    "Score",
    "evaluate",
    "format_table",
    "metric_rows",
    "metrics_csv",
    "read_map",
    "score_maps",
    "score_rows",
    "scores_csv",
    "to_json",
]
