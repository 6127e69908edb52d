"""The page *Review*: what failed or is for review, with pictures; agree or disagree; and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import streamlit as st

from andon.app.badges import plain, short, tag
from andon.app.reviewing import (
    CARDS,
    DAYS,
    DECIDED,
    QUEUE,
    Export,
    Wanted,
    annotated_defects,
    answers_to,
    filters_of,
    good_images,
    own_only,
    title_of,
)
from andon.app.shell import Desk
from andon.errors import AndonError
from andon.records import Filters, Inspection
from andon.runtime.annotate import FORMATS
from andon.runtime.words import decimal, whole
from andon.types import Decision

_ALL = ""
_PAGE = "review.page"
_DECISIONS: tuple[Decision, ...] = ("fail", "review", "pass")


def draw(desk: Desk) -> None:
    """Draw the page."""
    if own_only(desk.session):
        st.info(desk.words["review.own_only"])
    wanted, with_heatmap = _draw_filters(desk)
    filters = filters_of(wanted, desk.session, datetime.now(UTC))
    _draw_queue(desk, filters, with_heatmap)
    _draw_exports(desk, filters)


def _draw_filters(desk: Desk) -> tuple[Wanted, bool]:
    words = desk.words
    said, done, detector, days = st.columns([10, 5, 4, 5], vertical_alignment="bottom")
    decisions = said.multiselect(
        words["review.decisions"], _DECISIONS, list(QUEUE), format_func=lambda each: short(each, words)
    )
    which = done.selectbox(
        words["review.done"], list(DECIDED), format_func=lambda each: words[f"review.done_{each}"]
    )
    names = sorted({one.name for one in desk.station.records.artifacts()})
    name = detector.selectbox(
        words["app.detector"], [_ALL, *names], format_func=lambda each: each or words["review.all"]
    )
    back = days.selectbox(
        words["review.days"], DAYS, 1, format_func=lambda each: words[f"review.days_{each}"]
    )
    with_heatmap = st.toggle(words["review.heatmap"], True)
    return Wanted(tuple(decisions), which, name or None, back), with_heatmap


def _draw_queue(desk: Desk, filters: Filters, with_heatmap: bool) -> None:
    """A page of cards, the newest first."""
    words = desk.words
    page = desk.station.records.find(filters, page=st.session_state.get(_PAGE, 0), size=CARDS)
    if page.number >= page.pages:  # fewer than there were
        st.session_state[_PAGE] = page.pages - 1
        st.rerun()
    st.markdown(words["review.found"].format(total=whole(words, page.total)))
    for first in range(0, len(page.rows), 3):
        for column, inspection in zip(st.columns(3), page.rows[first : first + 3]):
            with column.container(border=True):
                _draw_card(desk, inspection, with_heatmap)
    if page.pages > 1:
        before, here, after = st.columns([1, 2, 1])
        here.markdown(words["review.page"].format(number=page.number + 1, pages=page.pages))
        if before.button(words["review.newer"], disabled=page.number == 0):
            _turn(page.number - 1)
        if after.button(words["review.older"], disabled=page.number + 1 == page.pages):
            _turn(page.number + 1)


def _turn(page: int) -> None:
    st.session_state[_PAGE] = page
    st.rerun()


def _draw_card(desk: Desk, inspection: Inspection, with_heatmap: bool) -> None:
    words, records = desk.words, desk.station.records
    chosen = (inspection.overlay_hash, inspection.image_hash)
    first, second = chosen if with_heatmap else reversed(chosen)
    data = records.picture(first) or records.picture(second)
    if data is None:
        st.info(words["review.no_picture"])
    else:
        _draw_picture(desk, data)
    st.html(tag(inspection.decision, words))
    score = "–" if inspection.score is None else decimal(words, f"{inspection.score:.3f}")
    st.markdown(f"**{plain(title_of(inspection))}** · {score}  \n{plain(inspection.sentence)}")
    told = [
        desk.clock(inspection.at),
        *map(plain, (inspection.artifact.name, inspection.who, inspection.group)),
    ]
    st.caption(" · ".join(filter(None, told)))
    if inspection.decided is not None:
        said = inspection.decided
        st.success(f"{plain(said.who)}: {short(said.verdict, words)} {plain(said.note)}")
    _draw_answers(desk, inspection)


def _draw_picture(desk: Desk, data: bytes) -> None:
    """A picture of the records; a format that browsers do not know is said, not drawn."""
    try:
        st.image(data, width="stretch")
    except OSError:  # Pillow's, of a file that was not written by Andon
        st.info(desk.words["review.no_picture"])


def _draw_answers(desk: Desk, inspection: Inspection) -> None:
    """Two buttons and a note."""
    with st.form(f"review.{inspection.id}", border=False, clear_on_submit=True):
        note = st.text_input(
            desk.words["inspect.note"],
            max_chars=500,
            placeholder=desk.words["inspect.note"],
            label_visibility="collapsed",
        )
        for column, (answer, key) in zip(st.columns(2), answers_to(inspection.decision)):
            if column.form_submit_button(desk.words[key], width="stretch"):
                desk.station.records.decide(desk.session, inspection.id, answer, note)
                st.rerun()


def _draw_exports(desk: Desk, filters: Filters) -> None:
    """What persons decided, to take away: as photographs, as annotations, as a table."""
    words = desk.words
    st.subheader(words["review.export"])
    st.caption(words["review.export_lead"])
    good, bad = st.columns(2)
    with good.container(border=True):
        st.markdown(words["review.good_text"])
        _draw_export(desk, "good", lambda: good_images(desk.station.records, filters))
    with bad.container(border=True):
        st.markdown(words["review.bad_text"])
        names = [one.name for one in desk.station.artifacts()]
        name = st.selectbox(words["review.by"], names)
        kind = st.selectbox(
            words["review.format"], list(FORMATS), format_func=lambda each: FORMATS[each].title
        )
        if name is not None:
            _draw_export(desk, "annotations", lambda: _annotated(desk, filters, name, kind))


def _annotated(desk: Desk, filters: Filters, name: str, kind: str) -> Export:
    """The annotations by the detector ``name``, one run of its network at a time."""
    shelved = desk.station.artifact(name)
    if shelved is None:
        raise AndonError(desk.words["review.gone"].format(name=name))
    with desk.station.busy:
        return annotated_defects(desk.station.records, filters, shelved.predictor, kind)


def _draw_export(desk: Desk, name: str, make: Callable[[], Export]) -> None:
    """A button that makes a file, and then one that saves it."""
    words, key = desk.words, f"review.export.{name}"
    if st.button(words["review.make"], key=f"{key}.make"):
        with st.spinner(words["review.making"]):
            try:
                st.session_state[key] = make()
            except AndonError as error:
                st.session_state.pop(key, None)
                st.warning(plain(str(error)))
    made = cast("Export | None", st.session_state.get(key))
    if made is not None:
        st.caption(words["review.made"].format(images=made.images, missing=made.missing))
        st.download_button(
            words["review.save"], made.data, f"andon-{name}.zip", "application/zip", key=f"{key}.save",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
