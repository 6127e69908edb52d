"""The page *Calibrate*: thresholds and review bands weighed on scores, zones drawn, earlier ones brought back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from andon.app import calibrating
from andon.app.badges import SIGNS, plain
from andon.app.calibrating import Earlier, Scores, Wish
from andon.app.charts import spoken
from andon.app.promises import promise
from andon.app.saving import put_in_place, summary
from andon.app.score_chart import score_chart
from andon.app.shell import Desk
from andon.app.zones_tab import draw_zones_tab
from andon.artifact import Artifact
from andon.errors import AndonError
from andon.nuisance import Zone
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import Words, counted, decimal, percent, rated
from andon.types import Calibration, Decision

RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
REVIEW_RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
ESCAPES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10000.0)
REVIEWS = (None, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DEFECT_RATES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
DECISIONS: tuple[Decision, ...] = ("pass", "review", "fail")


def draw(desk: Desk) -> None:
    """The detector's threshold, its zones, its history."""
    words = desk.words
    if saved := st.session_state.pop("calibrate.saved", None):
        st.success(plain(saved))
    shelved = desk.choose()
    if shelved is None:
        return
    scores = _scores(shelved)
    threshold, zones, history = st.tabs(
        [words[f"calibrate.tab_{name}"] for name in ("threshold", "zones", "history")]
    )
    with threshold:
        _draw_threshold(desk, shelved, scores)
    with zones:
        draw_zones_tab(desk, shelved, lambda good, zones: _try_zones(desk, shelved, good, zones))
    with history:
        _draw_history(desk, shelved)


# The scores that this browser weighs


def _scores(shelved: Shelved) -> Scores:
    """Those measured on this page for this very file, or those that it keeps."""
    kept: tuple[str, Scores] | None = st.session_state.get("calibrate.scores")
    return kept[1] if kept and kept[0] == shelved.sha256 else calibrating.stored_scores(shelved.predictor)


def _keep(shelved: Shelved, scores: Scores | None) -> None:
    st.session_state["calibrate.scores"] = None if scores is None else (shelved.sha256, scores)


def _draw_measure(desk: Desk, shelved: Shelved, scores: Scores) -> None:
    words = desk.words
    with st.expander(
        words["calibrate.measure"], icon=":material/photo_library:", expanded=not scores.nominal
    ):
        st.caption(words["calibrate.measure_help"])
        left, right = st.columns(2)
        good = left.text_input(words["calibrate.good_folder"], key="calibrate.good")
        bad = right.text_input(words["calibrate.bad_folder"], key="calibrate.bad")
        asked = st.button(
            words["calibrate.measure_button"],
            key="calibrate.measure",
            disabled=not (good.strip() or bad.strip()),
        )
        if asked and _measure(desk, shelved, good, bad):
            st.rerun()


def _measure(desk: Desk, shelved: Shelved, good: str, bad: str, zones: Sequence[Zone] | None = None) -> bool:
    """Whether the photographs in both folders could be measured, with a bar meanwhile; their scores are kept."""
    words = desk.words
    bar = st.progress(0.0)

    def show(phase: str, done: int, total: int) -> None:
        bar.progress(done / total, words["calibrate.measuring"].format(done=done, total=total))

    try:
        with desk.station.busy:
            _keep(shelved, calibrating.measure(shelved.predictor, good, bad, zones, show))
    except AndonError as error:
        st.error(plain(str(error)))
        return False
    finally:
        bar.empty()
    return True


def _try_zones(desk: Desk, shelved: Shelved, good: str, zones: Sequence[Zone]) -> bool:
    """Measure with these zones; on the defects, too, whose folder was named on the other tab."""
    return _measure(desk, shelved, good, st.session_state.get("calibrate.bad", ""), zones)


def _draw_scores_line(words: Words, shelved: Shelved, scores: Scores) -> None:
    """On what is weighed, and what of it could not be."""
    good = counted(words, "calibrate.good", len(scores.nominal))
    if not scores.measured:
        st.caption(words["calibrate.stored"].format(images=good))
        return
    bad = counted(words, "calibrate.bad", len(scores.anomalous))
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.caption(words["calibrate.measured"].format(good=good, bad=bad))
    if right.button(words["calibrate.forget"], key="calibrate.forget"):
        _keep(shelved, None)
        st.rerun()
    if not scores.same_zones(shelved.predictor):
        plan = scores.base.zone_plan
        names = ", ".join(zone.name for zone in plan.zones) if plan is not None else ""
        text = (
            words["calibrate.with_zones"].format(zones=plain(names))
            if names
            else words["calibrate.without_zones"]
        )
        st.info(text)
    if scores.left_out:
        st.caption(words["calibrate.left_out"].format(count=scores.left_out))
    if scores.skipped:
        with st.expander(words["calibrate.skipped"]):
            st.markdown("\n".join(f"- {plain(name)}: {plain(reason)}" for name, reason in scores.skipped))


# The threshold


def _draw_threshold(desk: Desk, shelved: Shelved, scores: Scores) -> None:
    words, now = desk.words, shelved.predictor.calibration
    if now.groups:
        st.info(words["calibrate.groups"].format(count=len(now.groups)))
        return
    _draw_measure(desk, shelved, scores)
    _draw_scores_line(words, shelved, scores)
    wish = _choose_wish(words, now)
    try:
        new = calibrating.proposed(scores, wish)
    except AndonError as error:
        st.info(
            words["calibrate.costs_need"]
            if wish.rule == "cost" and not scores.anomalous
            else plain(str(error))
        )
        return
    labels = {
        name: words[f"calibrate.chart_{name}"]
        for name in ("good", "bad", "new", "review", "now", "score", "images")
    }
    beside = now if scores.same_zones(shelved.predictor) else None  # else its threshold is of other scores
    drawing = score_chart(scores.nominal, scores.anomalous, new, beside, labels)
    st.vega_lite_chart(spoken(drawing, words), key="calibrate.chart")
    _draw_effect(words, scores, wish, new, beside)
    _draw_save(desk, shelved, scores, new)


def _choose_wish(words: Words, now: Calibration) -> Wish:
    """What the sliders say."""

    def share(value: float) -> str:
        return percent(words, value)

    rules = ("rate", "cost")
    rule = st.radio(
        words["calibrate.rule"], rules, key="calibrate.rule", horizontal=True,
        format_func=lambda rule: words[f"calibrate.rule_{rule}"],
    )  # fmt: skip
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    if rule == "rate":
        rates = tuple(sorted({*RATES, now.target_rate}))
        rate = left.select_slider(
            words["calibrate.rate"],
            rates,
            now.target_rate,
            key=f"calibrate.rate.{now.target_rate}",
            format_func=share,
        )
        review = middle.select_slider(
            words["calibrate.review"], REVIEW_RATES, 0.05, key="calibrate.review", format_func=share
        )
        return Wish("rate", rate, review)
    escape = left.select_slider(
        words["calibrate.escape"],
        ESCAPES,
        100.0,
        key="calibrate.escape",
        format_func=lambda cost: decimal(words, f"{cost:g}"),
    )
    look = middle.select_slider(
        words["calibrate.review_cost"], REVIEWS, 0.2, key="calibrate.review_cost",
        format_func=lambda cost: words["calibrate.no_review"] if cost is None else decimal(words, f"{cost:g}"),
    )  # fmt: skip
    defects = right.select_slider(
        words["calibrate.defect_rate"], DEFECT_RATES, 0.01, key="calibrate.defect_rate", format_func=share
    )
    return Wish("cost", cost_escape=escape, cost_review=look, defect_rate=defects)


def _draw_effect(words: Words, scores: Scores, wish: Wish, new: Calibration, now: Calibration | None) -> None:
    """A table of what would become of the photographs, as it is and as it would be; the costs; the promise."""
    st.markdown(f"**{words['calibrate.effect']}**")
    ways = {words["calibrate.now"]: now, words["calibrate.new"]: new}
    counts = {way: calibrating.outcomes(one, scores) for way, one in ways.items() if one is not None}
    rows = []
    for kind in counts[words["calibrate.new"]]:
        for decision in DECISIONS:
            said = f"{SIGNS[decision]} {words[f'decision.{decision}']}"
            name = words["calibrate.row"].format(kind=words[f"calibrate.{kind}"], decision=said)
            cells = {way: _share(words, found[kind], decision) for way, found in counts.items()}
            rows.append({words["calibrate.kind"]: name, **cells})
    st.dataframe(rows, hide_index=True, width="stretch")
    st.caption(words["calibrate.interval"])
    if wish.rule == "cost":
        costs = {name: _cost(words, one, scores, wish) for name, one in (("now", now), ("new", new))}
        st.markdown(words["calibrate.cost_line"].format(**costs))
    st.markdown(words["calibrate.statement"].format(promise=plain(promise(new.statement, words))))


def _cost(words: Words, calibration: Calibration | None, scores: Scores, wish: Wish) -> str:
    """What a part is expected to cost, where that is known."""
    cost = None if calibration is None else calibrating.cost_of(calibration, scores, wish)
    return "–" if cost is None else decimal(words, f"{cost.total:.4g}")


def _share(words: Words, counts: dict[Decision, int], decision: Decision) -> str:
    return rated(words, "calibrate.share", counts[decision], sum(counts.values()))


def _draw_save(desk: Desk, shelved: Shelved, scores: Scores, new: Calibration) -> None:
    words, now = desk.words, shelved.predictor.artifact
    artifact, kind = calibrating.changed(now, scores, new)
    if artifact.manifest["calibration"] == now.manifest["calibration"] and kind == "threshold":
        st.caption(words["calibrate.same"])
        return
    why = st.text_input(words["calibrate.why"], key="calibrate.why")
    if st.button(
        words["calibrate.save"],
        key="calibrate.save",
        type="primary",
        disabled=not why.strip(),
        icon=":material/save:",
    ):
        _save(desk, shelved, artifact, kind, why, words["calibrate.saved"])


def _save(
    desk: Desk, shelved: Shelved, artifact: Artifact, kind: Literal["threshold", "zones"], why: str, said: str
) -> None:
    """Put the artefact in place, written down, and begin anew with it."""
    before = summary(shelved.predictor.manifest)
    put_in_place(
        shelved.path, artifact, desk.station.records, desk.session, kind, before, shelved.sha256, why
    )
    desk.station.look_again()
    _keep(shelved, None)
    for key in ("calibrate.why", "calibrate.back_why"):
        st.session_state.pop(key, None)
    st.session_state["calibrate.saved"] = said.format(name=shelved.name)
    st.rerun()


# The history


def _draw_history(desk: Desk, shelved: Shelved) -> None:
    words = desk.words
    found = calibrating.earlier(shelved.predictor.manifest, desk.station.records.changes(shelved.name))
    st.dataframe([_row(words, entry) for entry in found], hide_index=True, width="stretch")
    entries = {entry.number: entry for entry in found if entry.number is not None}
    if not entries:
        st.caption(words["history.only"])
        return
    number = st.selectbox(
        words["history.choose"], entries, key=f"history.choose.{shelved.sha256}",
        format_func=lambda number: words["history.entry"].format(
            threshold=_number(words, entries[number]), when=_when(words, entries[number])
        ),
    )  # fmt: skip
    entry = entries[number]
    if entry.zones != found[0].zones:
        st.info(
            words["history.zones_back"].format(zones=plain(", ".join(entry.zones)))
            if entry.zones
            else words["history.no_zones"]
        )
    why = st.text_input(words["calibrate.why"], key="calibrate.back_why")
    if st.button(
        words["history.button"], key="history.button", disabled=not why.strip(), icon=":material/undo:"
    ):
        artifact = calibrating.gone_back(shelved.predictor.artifact, number)
        same = entry.zones == found[0].zones
        _save(desk, shelved, artifact, "threshold" if same else "zones", why, words["history.saved"])


def _row(words: Words, entry: Earlier) -> dict[str, str]:
    change = entry.change
    unknown = words["history.unknown"]
    return {
        words["history.when"]: _when(words, entry),
        words["history.who"]: change.who if change else unknown,
        words["history.threshold"]: _number(words, entry),
        words["history.statement"]: promise(entry.calibration.statement, words),
        words["history.zones"]: ", ".join(entry.zones) or unknown,
        words["history.why"]: change.why if change else unknown,
    }


def _when(words: Words, entry: Earlier) -> str:
    """When it was set, by this computer's clock, where the records know; whether it is in use."""
    said = f"{entry.change.at.astimezone():%Y-%m-%d %H:%M}" if entry.change else words["history.unknown"]
    return f"{said} ({words['history.current']})" if entry.number is None else said


def _number(words: Words, entry: Earlier) -> str:
    return decimal(words, f"{entry.calibration.threshold:.6g}")
