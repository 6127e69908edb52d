"""The page *Compare*: several detectors on the same photograph, and the tables of ``andon bench``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import streamlit as st

from andon.app import comparing
from andon.app.badges import plain, short
from andon.app.comparing import Answer
from andon.app.shell import Desk
from andon.app.teach_page import draw_answer
from andon.app.uploads import ENDINGS, accepted
from andon.bench.report import GridReport
from andon.bench.writers import to_csv
from andon.errors import AndonError
from andon.runtime.words import Words, decimal

MOST = 6  # detectors at a time
A_ROW = 3  # pictures beside each other


def draw(desk: Desk) -> None:
    """Heatmaps side by side, and the benchmark."""
    photo, bench = st.tabs([desk.words["compare.tab_photo"], desk.words["compare.tab_bench"]])
    with photo:
        _draw_photo(desk)
    with bench:
        _draw_bench(desk)


def _draw_photo(desk: Desk) -> None:
    words = desk.words
    shelved = {one.name: one for one in desk.station.artifacts()}
    if not shelved:
        st.info(words["compare.none"])
        return
    names = st.multiselect(
        words["compare.detectors"],
        list(shelved),
        list(shelved)[:A_ROW],
        max_selections=MOST,
        key="compare.detectors",
    )
    sent = st.file_uploader(words["compare.photo"], ENDINGS, key="compare.photo")
    if sent is None or not names:
        return
    taken, refused = accepted([sent], desk.station.settings.limits, words)
    for failure in refused:
        st.error(f"{plain(failure.path)}: {plain(failure.reason)}")
    if not taken:
        return
    opacity = st.slider(words["compare.opacity"], 0, 100, 55, key="compare.opacity", format="%d %%") / 100
    found = [_answer(desk, name, shelved[name].sha256, taken[0].name, taken[0].data) for name in names]
    _draw_pictures(words, found, opacity)
    st.caption(words["compare.own_scale"])
    _draw_table(words, found)


def _answer(desk: Desk, name: str, sha256: str, file: str, data: bytes) -> Answer:
    """What a detector says of the photograph, worked out once for this browser and this photograph."""
    photo = hashlib.sha256(data).hexdigest()
    kept = st.session_state.setdefault("compare.answers", {})
    if kept.get("of") != (photo, desk.language):
        kept.clear()
        kept["of"] = (photo, desk.language)
    if (name, sha256) not in kept:
        shelved = desk.station.artifact(name)
        if shelved is None:  # it went in this moment
            st.rerun()
        with desk.station.busy:
            kept[name, sha256] = comparing.answer(name, desk.predictor(shelved), data, file)
    answer: Answer = kept[name, sha256]
    return answer


def _draw_pictures(words: Words, found: list[Answer], opacity: float) -> None:
    """The photograph as it is, then each detector's heatmap."""
    original = next((one.pictures.photo for one in found if one.pictures is not None), None)
    places = [*([None] if original is not None else []), *found]
    for start in range(0, len(places), A_ROW):
        for one, column in zip(places[start : start + A_ROW], st.columns(A_ROW), strict=False):
            with column:
                if one is not None:
                    draw_answer(words, one, opacity)
                elif original is not None:
                    st.markdown(words["compare.photograph"])
                    st.image(original, width="stretch")


def _draw_table(words: Words, found: list[Answer]) -> None:
    rows = [
        {
            words["compare.column_detector"]: one.name,
            words["compare.column_verdict"]: short(one.verdict.decision, words),
            words["compare.column_score"]: decimal(words, f"{one.verdict.score:.3f}"),
            words["compare.column_regions"]: len(one.verdict.regions),
            words["compare.column_milliseconds"]: round(one.verdict.milliseconds),
            words["compare.column_sentence"]: one.verdict.sentence,
        }
        for one in found
        if one.verdict is not None
    ]
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch")


def _draw_bench(desk: Desk) -> None:
    words = desk.words
    given = desk.station.settings.benchmarks
    text = st.text_input(words["compare.bench"], ", ".join(map(str, given)), key="compare.bench").strip()
    if not text:
        st.info(
            words["compare.bench_none"].format(command="`andon bench run folder --data PHOTOS --out bench`")
        )
        return
    paths = [Path(name.strip()).expanduser() for name in text.split(",") if name.strip()]
    try:
        found = _reports(comparing.stamps(paths))
    except AndonError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    for report in found:
        _draw_report(words, report)


@st.cache_data(max_entries=4, show_spinner=True)
def _reports(stamps: tuple[tuple[str, int, int], ...]) -> list[GridReport]:
    """The reports on these files; read anew when one of them changes."""
    return comparing.reports([Path(name) for name, _, _ in stamps])


def _draw_report(words: Words, report: GridReport) -> None:
    account = report.account
    st.subheader(plain(report.title))
    st.caption(words["compare.account"].format(done=account.done, cells=account.cells, failed=account.failed))
    for number, part in enumerate(report.parts):
        st.markdown(f"**{plain(part.question)}**")
        st.markdown("  \n".join(plain(sentence) for sentence in part.answer))
        for place, table in enumerate(part.tables):
            with st.expander(plain(table.title), expanded=number == 0 and place == 0):
                st.markdown(comparing.table_text(table), unsafe_allow_html=True)
                st.download_button(
                    words["compare.csv"], to_csv(table), f"{report.name}-{table.name}.csv", "text/csv",
                    key=f"compare.csv.{report.name}.{number}.{place}",
                )  # fmt: skip
    if report.cautions:
        with st.expander(words["compare.caution"]):
            st.markdown("\n".join(f"- {plain(caution)}" for caution in report.cautions))
