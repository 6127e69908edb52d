"""The page *Monitor*: how the line is doing, per shift, and whether it drifts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from andon.app import drifting, shifting
from andon.app.badges import plain
from andon.app.charts import spoken
from andon.app.drifting import RecordedDrift
from andon.app.settings import AppSettings, shift_starts
from andon.app.shell import Desk
from andon.errors import AndonError
from andon.metrics import Rate
from andon.records import Filters, Shifts, Tally
from andon.runtime.monitor import Monitor, read_monitor
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import percent, whole

_ALL = ""


def draw(desk: Desk) -> None:
    """Draw the page."""
    words, settings = desk.words, desk.station.settings
    which, back = st.columns(2)
    names = sorted({one.name for one in desk.station.records.artifacts()})
    name = which.selectbox(
        words["app.detector"], [_ALL, *names], format_func=lambda each: each or words["review.all"]
    )
    days = back.selectbox(
        words["review.days"], shifting.DAYS, 2, format_func=lambda each: words[f"monitoring.days_{each}"]
    )
    now = datetime.now(UTC)
    filters = Filters(artifact=name or None, since=shifting.since(days, now))
    whole_time = desk.station.records.tally(filters)
    _draw_figures(desk, whole_time)
    if whole_time.inspected:
        plan = Shifts(shift_starts(settings.shifts))
        _draw_shifts(desk, desk.station.records.shifts(shifting.since(days, now), now, plan, filters))
    _draw_drift(desk, name)


def _draw_figures(desk: Desk, tally: Tally) -> None:
    """The figures of the whole time."""
    words, found = desk.words, shifting.rates_of(tally)
    if found is None:
        st.info(words["monitoring.nothing"])
        return
    first, second = st.columns(4), st.columns(4)
    first[0].metric(words["monitoring.inspected"], whole(words, tally.inspected))
    _draw_rate(desk, first[1], "failed", found.failed)
    _draw_rate(desk, first[2], "review", found.review)
    first[3].metric(words["monitoring.latency"], f"{shifting.latency(tally, 50, words)} ms")
    first[3].caption(", ".join(f"p{each} {shifting.latency(tally, each, words)} ms" for each in (95, 99)))
    second[0].metric(words["monitoring.decided"], whole(words, tally.decided))
    _draw_rate(desk, second[1], "false_alarms", found.false_alarms)
    _draw_rate(desk, second[2], "escapes", found.escapes)
    st.caption(words["monitoring.intervals"])


def _draw_rate(desk: Desk, column: DeltaGenerator, key: str, found: Rate | None) -> None:
    """A share with its counts and its interval; a dash where it is the share of nothing."""
    words = desk.words
    if found is None:
        column.metric(words[f"monitoring.{key}"], "–")
        return
    column.metric(words[f"monitoring.{key}"], percent(words, found.value))
    interval = " – ".join(percent(words, end) for end in (found.low, found.high))
    counts = {"count": whole(words, found.events), "total": whole(words, found.total)}
    column.caption(words["monitoring.of"].format(interval=interval, **counts))


def _draw_shifts(desk: Desk, tallies: list[Tally]) -> None:
    st.subheader(desk.words["monitoring.shifts"])
    drawing = shifting.chart(tallies, desk.clock, desk.words)
    st.vega_lite_chart(spec=spoken(drawing, desk.words), width="stretch")
    st.dataframe(shifting.as_rows(tallies, desk.clock, desk.words), hide_index=True, width="stretch")


def _draw_drift(desk: Desk, name: str) -> None:
    """Drift by the recorded scores of the detectors that are in use, and by the monitors' files."""
    words = desk.words
    st.subheader(words["monitoring.drift"])
    for shelved in desk.station.artifacts():
        if name not in (_ALL, shelved.name):
            continue
        monitor = _recorded(desk.station.settings, shelved.sha256, shelved).update(desk.station.records)
        if monitor.images:
            _draw_monitor(desk, words["monitoring.by_scores"].format(name=plain(shelved.name)), monitor)
    for path in desk.station.settings.monitors:
        _draw_state(desk, path)


@st.cache_resource(show_spinner=False, max_entries=32)
def _recorded(settings: AppSettings, sha256: str, _shelved: Shelved) -> RecordedDrift:
    """What has been shown to the monitor of one artefact of this app; kept between runs and browsers."""
    return RecordedDrift(_shelved.predictor.artifact, sha256)


def _draw_state(desk: Desk, path: Path) -> None:
    try:
        monitor = read_monitor(path)
    except AndonError as error:
        st.error(plain(str(error)))
        return
    _draw_monitor(desk, desk.words["monitoring.by_file"].format(name=plain(path.name)), monitor)


def _draw_monitor(desk: Desk, title: str, monitor: Monitor) -> None:
    words = desk.words
    with st.container(border=True):
        st.markdown(f"**{title}** · {words['monitoring.seen'].format(images=whole(words, monitor.images))}")
        found = drifting.findings(monitor, words)
        for sentence in found:
            st.warning(plain(sentence), icon=":material/trending_up:")
        if not found:
            st.success(words["monitoring.no_drift"], icon=":material/check_circle:")
        st.caption(monitor.statement_in(words))
        with st.expander(words["monitoring.measures"]):
            st.dataframe(drifting.measures(monitor, words), hide_index=True, width="stretch")
            st.vega_lite_chart(spec=spoken(drifting.evidence(monitor, words), words), width="stretch")
