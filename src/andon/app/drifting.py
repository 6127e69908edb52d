"""Drift of a line, from the scores that the records hold, or from the file of a monitor that saw the photographs, too."""

from __future__ import annotations

import math
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from andon.artifact import Artifact
from andon.records import Filters
from andon.runtime.monitor import MEASURES, Monitor, begin_monitor
from andon.runtime.monitor.events import advice, retell
from andon.runtime.monitor.tables import shown_level
from andon.runtime.words import Words, decimal, whole

if TYPE_CHECKING:
    from andon.records import Records


class RecordedDrift:
    """A monitor that is shown each recorded score of one artefact once, oldest first.

    Only scores: the records' photographs are not decoded again, so light, focus and position are watched by
    ``andon inspect --monitor`` and ``andon watch --monitor`` alone.
    """

    def __init__(self, artifact: Artifact, sha256: str) -> None:
        self.monitor = begin_monitor(artifact)
        self._sha256 = sha256
        self._last = 0  # number of the last inspection that was shown
        self._since: datetime | None = None
        self._lock = threading.Lock()

    def update(self, records: Records) -> Monitor:
        """The monitor after all that was recorded until now."""
        with self._lock:
            for inspection in records.each(Filters(artifact_hash=self._sha256, since=self._since)):
                if inspection.id <= self._last:
                    continue
                self._last, self._since = inspection.id, inspection.at
                if inspection.image_score is not None:
                    self.monitor.add_numbers(inspection.image_score, {}, inspection.image_name)
            return self.monitor


def findings(monitor: Monitor, words: Words) -> list[str]:
    """What has drifted, and what to look at: a sentence each."""
    return [
        words["drift.said"].format(
            message=retell(event, words).message, image=whole(words, event.image), advice=advice(event, words)
        )
        for event in monitor.standing()
    ]


def measures(monitor: Monitor, words: Words) -> list[dict[str, str]]:
    """A row for each measure that has seen something: usual and present level, and the p-value of "nothing has changed"."""
    p_values = monitor.p_values()
    return [
        {
            words["monitor.measure"]: words[f"measure.{name}"],
            words["monitor.usual"]: decimal(words, shown_level(name, watch.usual)),
            words["monitor.now"]: decimal(words, shown_level(name, watch.level)),
            words["monitor.p_value"]: decimal(words, f"{p_values[name]:.2g}"),
            words["monitor.since"]: whole(words, watch.chart.since(watch.upwards)) if watch.noticed else "",
        }
        for name, watch in monitor.watches.items()
        if watch.history.seen
    ]


def evidence(monitor: Monitor, words: Words) -> dict[str, Any]:
    """A Vega-Lite picture: how the evidence of each measure went, and the level at which drift is reported."""
    values = [
        {"image": row[0], "capital": row[1], "measure": words[f"measure.{name}"]}
        for name, watch in monitor.watches.items()
        for row in watch.history.rows
    ]
    capital = {"type": "quantitative", "title": words["drawing.evidence"]}
    lines = {
        "data": {"values": values},
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "image", "type": "quantitative", "title": words["drawing.image"]},
            "y": {"field": "capital", **capital},
            "color": {"field": "measure", "type": "nominal", "legend": {"orient": "top", "title": None}},
        },
    }
    level = math.log10(len(MEASURES) / monitor.false_alarm)
    rule = {
        "data": {"values": [{"level": level}]},
        "mark": {"type": "rule", "strokeDash": [6, 3], "color": "#b03a00"},
        "encoding": {"y": {"field": "level", **capital}},
    }
    return {"height": 240, "layer": [lines, rule]}
