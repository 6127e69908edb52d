"""Times as the records write them: text, ISO 8601, UTC, always with microseconds, so that text sorts as time does."""

from __future__ import annotations

from datetime import UTC, datetime

from andon.errors import SettingsError


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """``moment``, an aware time, as text.

    >>> stamp(datetime(2026, 3, 1, 6, tzinfo=UTC))
    '2026-03-01T06:00:00.000000Z'
    """
    if moment.tzinfo is None:
        raise SettingsError(f"{moment} has no time zone; expected an aware time, such as datetime.now(UTC)")
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def moment(text: str) -> datetime:
    """The time that :func:`stamp` wrote.

    >>> moment("2026-03-01T06:00:00.000000Z").hour
    6
    """
    return datetime.fromisoformat(text)
