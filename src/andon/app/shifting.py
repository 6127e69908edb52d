"""What the records say of the shifts: rates with their intervals, latencies, and a picture of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from andon.metrics import Rate, rate
from andon.records import Tally
from andon.runtime.words import Words, decimal, percent, whole

DAYS = (1, 2, 7, 30)
Clock = Callable[[datetime], str]


@dataclass(frozen=True)
class Rates:
    """Shares, each with its 95 % interval (Wilson); the last two None where no person decided anything."""

    failed: Rate  # of the parts that were inspected
    review: Rate
    false_alarms: Rate | None  # failed, and a person said pass; of the parts that a person decided
    escapes: Rate | None  # passed, and a person said fail; of these, too


def rates_of(tally: Tally) -> Rates | None:
    """The rates of ``tally``; None where nothing was inspected."""
    if not tally.inspected:
        return None
    failed, review = (rate(count, tally.inspected) for count in (tally.failed, tally.review))
    if not tally.decided:
        return Rates(failed, review, None, None)
    false_alarms, escapes = (rate(count, tally.decided) for count in (tally.false_alarms, tally.escapes))
    return Rates(failed, review, false_alarms, escapes)


def with_interval(found: Rate, words: Words) -> str:
    """A rate as people read it: share, and the ends of its interval.

    >>> from andon.runtime.words import words_of
    >>> with_interval(rate(6, 100), words_of("en"))
    '6.0 % (2.8 % – 12.5 %)'
    """
    return f"{percent(words, found.value)} ({percent(words, found.low)} – {percent(words, found.high)})"


def since(days: int, until: datetime) -> datetime:
    """The begin of the last ``days`` days."""
    return until - timedelta(days=days)


def latency(tally: Tally, percentile: int, words: Words) -> str:
    """A percentile of the milliseconds from decode to verdict."""
    found = tally.milliseconds.get(percentile)
    if found is None:
        return "–"
    return decimal(words, f"{found:.3g}") if found < 999.5 else whole(words, round(found))


def as_rows(tallies: Sequence[Tally], clock: Clock, words: Words) -> list[dict[str, str]]:
    """A row for each shift in which something was inspected, the newest first, under headings in ``words``' language."""
    names = ("shift", "inspected", "failed", "review", "false_alarms", "escapes", "decided", "latencies")
    head = {name: words[f"monitoring.{name}"] for name in names}
    rows = []
    for tally in reversed(tallies):
        found = rates_of(tally)
        if found is None:
            continue
        rows.append({
            head["shift"]: _span(tally, clock),
            head["inspected"]: whole(words, tally.inspected),
            head["failed"]: with_interval(found.failed, words),
            head["review"]: with_interval(found.review, words),
            head["false_alarms"]: whole(words, tally.false_alarms),
            head["escapes"]: whole(words, tally.escapes),
            head["decided"]: whole(words, tally.decided),
            head["latencies"]: " / ".join(latency(tally, each, words) for each in (50, 95, 99)),
        })  # fmt: skip
    return rows


def _span(tally: Tally, clock: Clock) -> str:
    """Begin and end of a shift; of the end the hour alone, since no shift is longer than a day."""
    return f"{clock(tally.since)} – {clock(tally.until).split(' ')[-1]}"


def chart(tallies: Sequence[Tally], clock: Clock, words: Words) -> dict[str, Any]:
    """A Vega-Lite picture: the share that failed in each shift, with its interval."""
    values = [
        {"shift": clock(tally.since), "share": found.failed.value, "low": found.failed.low, "high": found.failed.high,
         "parts": tally.inspected}
        for tally in tallies
        if (found := rates_of(tally)) is not None
    ]  # fmt: skip
    shift = {
        "field": "shift",
        "type": "ordinal",
        "title": words["monitoring.shift"],
        "axis": {"labelAngle": -30},
    }
    share = {"type": "quantitative", "title": words["monitoring.failed"], "axis": {"format": ".1%"}}
    return {
        "height": 240,
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "size": 3, "color": "#8aa0b4"},
             "encoding": {"x": shift, "y": {"field": "low", **share}, "y2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 90, "color": "#b03a00"},
             "encoding": {"x": shift, "y": {"field": "share", **share},
                          "tooltip": [{"field": "shift"}, {"field": "parts"}, {"field": "share", "format": ".2%"}]}},
        ],
    }  # fmt: skip
