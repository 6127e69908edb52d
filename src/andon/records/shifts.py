"""Counts, rates and latencies, over shifts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, func

from andon.errors import SettingsError
from andon.records.entries import Filters, Shifts, Tally
from andon.records.queries import chosen, counting, last_verdict, with_last_word
from andon.records.schema import INSPECTIONS

PERCENTILES = (50, 95, 99)
MOST_SHIFTS = 1000


def tally(connection: Connection, filters: Filters) -> Tally:
    """What ``filters`` choose, counted. Times that they leave open are those of the first and the last inspection."""
    table = INSPECTIONS.c
    query = with_last_word(
        table.decision, last_verdict(), func.count(), func.min(table.at), func.max(table.at)
    )
    grouped = query.where(chosen(filters)).group_by(table.decision, last_verdict())
    rows = [tuple(row) for row in connection.execute(grouped)]

    def count(decision: str | None = None, verdict: str | None = None) -> int:
        return sum(row[2] for row in rows if decision in (None, row[0]) and verdict in (None, row[1]))

    now = datetime.now(UTC)
    return Tally(
        since=filters.since or min((datetime.fromisoformat(row[3]) for row in rows), default=now),
        until=filters.until or max((datetime.fromisoformat(row[4]) for row in rows), default=now),
        passed=count("pass"),
        review=count("review"),
        failed=count("fail"),
        decided=sum(row[2] for row in rows if row[1] is not None),
        false_alarms=count("fail", "pass"),
        escapes=count("pass", "fail"),
        milliseconds=_percentiles(connection, filters, count()),
    )


def _percentiles(connection: Connection, filters: Filters, count: int) -> dict[int, float]:
    """The smallest latency that so many per cent of the inspections do not pass (nearest rank)."""
    if not count:
        return {}
    latency = INSPECTIONS.c.milliseconds
    query = counting(filters, latency).order_by(latency)
    ranks = {p: -(-p * count // 100) - 1 for p in PERCENTILES}
    return {p: float(connection.execute(query.limit(1).offset(rank)).scalar_one()) for p, rank in ranks.items()}  # fmt: skip


def per_shift(
    connection: Connection, since: datetime, until: datetime, plan: Shifts, filters: Filters
) -> list[Tally]:
    """A tally for each shift that overlaps the time from ``since`` to ``until``, oldest first."""
    return [
        tally(connection, replace(filters, since=begin, until=end))
        for begin, end in shift_times(plan, since, until)
    ]


def shift_times(plan: Shifts, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Begin and end (UTC) of the shifts that overlap ``since`` to ``until``; a shift lasts until the next one begins.

    On the days when the clock is changed a shift is an hour shorter or longer, as it is for those who work.
    """
    if not plan.starts or len(set(plan.starts)) < len(plan.starts):
        raise SettingsError(
            f"expected times at which shifts begin, each once; got {[str(t) for t in plan.starts]}"
        )
    if since.tzinfo is None or until.tzinfo is None or until <= since:
        raise SettingsError(f"expected two aware times, the later one last; got {since} and {until}")
    if (until - since).days * len(plan.starts) > MOST_SHIFTS:
        raise SettingsError(f"{(until - since).days} days are more than {MOST_SHIFTS} shifts: ask for fewer")
    zone = _zone(plan.zone)
    first, days = since.astimezone(zone).date() - timedelta(days=1), (until - since).days + 4
    dates = [first + timedelta(days=day) for day in range(days)]
    begins = sorted(_utc(day, start, zone) for day in dates for start in plan.starts)
    return [(begin, end) for begin, end in pairwise(begins) if begin < until and end > since]


def _utc(day: date, start: time, zone: tzinfo | None) -> datetime:
    return datetime.combine(day, start, tzinfo=zone).astimezone(UTC)  # without a zone: this computer's


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"there is no time zone {name!r} here; expected a name such as Europe/Berlin") from error  # fmt: skip
