"""A monitor as a text table, and as plain data."""

from __future__ import annotations

import math
from typing import Any

from andon.runtime.monitor.charts import RUN_LENGTH, cusum_limit, ewma_limit
from andon.runtime.monitor.events import LOGARITHMIC, MEASURES
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.watch import Counted, Ranked


def measures_table(monitor: Monitor) -> list[str]:
    """A line for each measure: usual and present level, charts, and the p-value of "nothing has changed".

    A chart beyond its limit is marked with a star: on its own that is a hint, not an alarm.
    """
    head = f"{'measure':<23}{'usual':>10}{'now':>10}{'EWMA':>8} {'CUSUM':>8}   {'p-value':<9} since"
    p_values = monitor.p_values()
    rows = [_row(name, watch, p_values[name]) for name, watch in monitor.watches.items()]
    foot = (f"* beyond ±{ewma_limit():.2f} (EWMA) or ±{cusum_limit():.1f} (CUSUM): without drift once in {RUN_LENGTH:,} parts "
            "for each chart, on average")  # fmt: skip
    return [head, *rows, foot]


def _row(name: str, watch: Ranked | Counted, p_value: float) -> str:
    usual, now = (shown_level(name, value) for value in (watch.usual, watch.level))
    since = f"{watch.chart.since(watch.upwards):,}" if watch.noticed else ""
    charts = f"{_starred(watch.chart.ewma, ewma_limit())} {_starred(watch.chart.cusum, cusum_limit(), 1)}"
    if isinstance(watch, Counted):
        usual, charts = f"≤ {usual}", f"{'':>8} {'':>9}"
    return f"{MEASURES[name]:<23}{usual:>10}{now:>10}{charts:>18}  {p_value:<9.2g} {since}".rstrip()


def _starred(value: float, limit: float, digits: int = 2) -> str:
    return f"{value:>7.{digits}f}{'*' if abs(value) > limit else ' '}"


def shown_level(name: str, value: float) -> str:
    """A level as people read it: brightness, contrast and sharpness not as logarithms, shares in per cent.

    >>> shown_level("brightness", math.log(120)), shown_level("right", 0.02), shown_level("scores", 12.3456)
    ('120', '+2.0 %', '12.35')
    """
    if name in LOGARITHMIC:
        return f"{math.exp(value):.3g}"
    if name == "rejects":
        return f"{value:.1%}".replace("%", " %")
    return f"{value:.4g}" if name == "scores" else f"{100 * value:+.1f} %"


def summary_of(monitor: Monitor) -> dict[str, Any]:
    """What was noticed and every measure's state, for strict JSON."""
    p_values = monitor.p_values()
    return {
        "images": monitor.images,
        "statement": monitor.statement,
        "events": [event.to_dict() for event in monitor.standing()],
        "measures": {
            name: {"usual": watch.usual, "now": watch.level, "ewma": watch.chart.ewma, "cusum": watch.chart.cusum,
                   "capital": watch.bets.capital, "p_value": p_values[name]}
            for name, watch in monitor.watches.items()
        },
    }  # fmt: skip
