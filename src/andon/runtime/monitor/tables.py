"""A monitor as a text table, and as plain data."""

from __future__ import annotations

import math
from typing import Any

from andon.metrics import Rate, rate
from andon.runtime.monitor.charts import RUN_LENGTH, cusum_limit, ewma_limit
from andon.runtime.monitor.events import ENGLISH, LOGARITHMIC, advice, retell
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.watch import Counted, Ranked
from andon.runtime.words import Words, decimal, rated, whole


def measures_table(monitor: Monitor, words: Words = ENGLISH) -> list[str]:
    """A line for each measure: usual and present level, charts, and the p-value of "nothing has changed".

    A chart beyond its limit is marked with a star: on its own that is a hint, not an alarm. The last line is the share of
    high scores over all parts, with its interval.
    """
    usual, now, p_value, since = (words[f"monitor.{name}"] for name in ("usual", "now", "p_value", "since"))
    head = (
        f"{words['monitor.measure']:<28}{usual:>10}{now:>10}{'EWMA':>8} {'CUSUM':>8}   {p_value:<9} {since}"
    )
    p_values = monitor.p_values()
    rows = [_row(name, watch, p_values[name], words) for name, watch in monitor.watches.items()]
    foot = words["monitor.limits"].format(
        ewma=decimal(words, f"{ewma_limit():.2f}"),
        cusum=decimal(words, f"{cusum_limit():.1f}"),
        parts=whole(words, RUN_LENGTH),
    )
    return [head, *rows, foot, *_high_line(monitor, words)]


def _high_scores(monitor: Monitor) -> Rate | None:
    """The share of parts that scored high since the monitor began; None where that is not watched, or nothing was seen."""
    watch = monitor.watches.get("rejects")
    if not isinstance(watch, Counted) or not watch.history.seen:
        return None
    return rate(watch.happened, watch.history.seen)


def _high_line(monitor: Monitor, words: Words) -> list[str]:
    found = _high_scores(monitor)
    return [] if found is None else [rated(words, "monitor.high", found.events, found.total)]


def _row(name: str, watch: Ranked | Counted, p_value: float, words: Words) -> str:
    usual, now = (decimal(words, shown_level(name, value)) for value in (watch.usual, watch.level))
    since = whole(words, watch.chart.since(watch.upwards)) if watch.noticed else ""
    charts = f"{_starred(watch.chart.ewma, ewma_limit())} {_starred(watch.chart.cusum, cusum_limit(), 1)}"
    if isinstance(watch, Counted):
        usual, charts = f"≤ {usual}", f"{'':>8} {'':>9}"
    title, charts, p = words[f"measure.{name}"], decimal(words, charts), decimal(words, f"{p_value:<9.2g}")
    return f"{title:<28}{usual:>10}{now:>10}{charts:>18}  {p} {since}".rstrip()


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


def summary_of(monitor: Monitor, words: Words = ENGLISH) -> dict[str, Any]:
    """What was noticed and every measure's state, for strict JSON; its sentences in the language of ``words``."""
    p_values = monitor.p_values()
    high = _high_scores(monitor)
    return {
        "images": monitor.images,
        "statement": monitor.statement_in(words),
        "high_scores": None if high is None else high._asdict(),
        "events": [
            {**retell(event, words).to_dict(), "advice": advice(event, words)} for event in monitor.standing()
        ],
        "measures": {
            name: {"usual": watch.usual, "now": watch.level, "ewma": watch.chart.ewma, "cusum": watch.chart.cusum,
                   "capital": watch.bets.capital, "p_value": p_values[name]}
            for name, watch in monitor.watches.items()
        },
    }  # fmt: skip
