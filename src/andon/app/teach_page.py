"""The page *Teach*: good photographs in, a detector out, by a process that outlives the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import streamlit as st

from andon.app import taught, teaching
from andon.app.badges import plain, tag
from andon.app.charts import spoken
from andon.app.comparing import Answer, answer
from andon.app.promises import promise
from andon.app.score_chart import score_chart
from andon.app.shell import Desk
from andon.app.teaching import Fit, Method, Order, Progress
from andon.app.uploads import ENDINGS, accepted, counted_refusals
from andon.errors import AndonError
from andon.runtime.predictor import Predictor
from andon.runtime.words import Words, counted, decimal, percent

MINUTES = (1.0, 5.0, 15.0, 30.0, 60.0, 240.0, None)
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
SIZES = (None, (128, 128), (256, 256), (384, 384), (512, 512))
EVERY = 1.5  # seconds between two looks at a fit that runs
FIRST = 6  # photographs shown of a new detector
_OPACITY = 0.55


def draw(desk: Desk) -> None:
    """Fits that were begun, and below them a new one."""
    if packages := teaching.missing_packages():
        command = 'pip install "andon[fit]"'
        st.warning(desk.words["teach.missing"].format(package=packages[0], command=command))
        return
    folder = desk.station.settings.folder
    if saved := st.session_state.pop("teach.saved", None):
        st.success(desk.words["teach.saved"].format(name=plain(saved)))
    begun = teaching.fits(folder)
    if begun:
        st.subheader(desk.words["teach.jobs"])
    for fit in begun:
        with st.container(border=True):
            try:
                _draw_fit(desk, fit)
            except (AndonError, OSError) as error:  # the others are drawn all the same
                st.error(plain(str(error)))
    with st.expander(desk.words["teach.new"], expanded=not begun, icon=":material/add:"):
        _draw_order(desk, folder)


# A new one


def _draw_order(desk: Desk, folder: Path) -> None:
    words = desk.words
    left, right = st.columns(2, gap="large")
    with left:
        name = st.text_input(words["teach.name"], key="teach.name", help=words["teach.name_help"]).strip()
        source = _choose_source(desk, folder, name)
    with right:
        method = _choose_method(words)
        minutes = _choose_minutes(words, method)
        rate = st.select_slider(
            words["teach.rate"],
            RATES,
            0.01,
            key="teach.rate",
            format_func=lambda share: percent(words, share),
        )
        size = st.selectbox(
            words["teach.size"], SIZES, key="teach.size",
            format_func=lambda size: f"{size[0]} x {size[1]}" if size else words["teach.size_auto"],
        )  # fmt: skip
    if st.button(words["teach.start"], key="teach.start", type="primary", disabled=not (name and source)):
        rows, columns = size or (None, None)
        teaching.start(folder, Order(name, source, method.name, minutes, rate, rows, columns))
        st.rerun()


def _choose_source(desk: Desk, folder: Path, name: str) -> str:
    """The folder of good photographs; "" as long as there is none."""
    words = desk.words
    ways = ("folder", "upload")
    way = st.radio(
        words["teach.from"], ways, key="teach.from", horizontal=True,
        format_func=lambda way: words[f"teach.from_{way}"],
    )  # fmt: skip
    if way == "folder":
        source = st.text_input(words["teach.folder"], key="teach.folder").strip()
    else:
        source = _upload(desk, folder, name)
    if not source:
        return ""
    try:
        found = teaching.check_source(source)
    except AndonError as error:
        st.error(plain(str(error)))
        return ""
    st.caption(words["teach.found"].format(images=counted(words, "teach.images", found)))
    return source


def _upload(desk: Desk, folder: Path, name: str) -> str:
    """The folder that holds what was uploaded for the detector ``name``; "" where there is nothing."""
    words, limits = desk.words, desk.station.settings.limits
    with st.form("teach.uploads", clear_on_submit=True, border=False):
        sent = st.file_uploader(
            words["teach.upload"], ENDINGS, accept_multiple_files=True, key="teach.upload", disabled=not name
        )
        asked = st.form_submit_button(words["teach.add"], disabled=not name)
    if not name:
        return ""
    fit = teaching.fit_of(folder, name)
    if asked:
        pairs = ((file.name, file.getvalue()) for file in sent)
        _, refused = taught.keep_photos(fit, pairs, pixels=limits.pixels, largest=limits.image_bytes)
        for refused_name, reason in refused[:5]:
            st.warning(words["teach.refused"].format(name=plain(refused_name), reason=plain(reason)))
        if len(refused) > 5:
            st.warning(words["teach.more_refused"].format(more=len(refused) - 5))
    return str(fit.photos) if fit.photos.is_dir() else ""


def _choose_method(words: Words) -> Method:
    methods = {method.name: method for method in teaching.METHODS}
    name = st.selectbox(
        words["teach.method"], methods, key="teach.method", help=words["teach.method_help"],
        format_func=lambda name: words["teach.choice"].format(
            method=words[f"teach_method.{name}"], about=words[f"teach_about.{name}"]
        ),
    )  # fmt: skip
    if cost := teaching.costs().get(name):
        shown = {"megabytes": f"{cost['artifact_mb']:.0f}", "milliseconds": f"{cost['p50_ms']:.0f}"}
        st.caption(words["teach.cost"].format(**shown))
    return methods[name]


def _choose_minutes(words: Words, method: Method) -> float | None:
    """The time for training; None where it is not limited, or the method does not train."""
    if not method.trains:
        st.caption(words["teach.no_budget"])
        return None

    def shown(minutes: float | None) -> str:
        return words["teach.minutes"].format(minutes=f"{minutes:g}") if minutes else words["teach.unlimited"]

    minutes: float | None = st.select_slider(
        words["teach.budget"], MINUTES, 15.0, key="teach.minutes", format_func=shown
    )
    return minutes


# One that was begun


def _draw_fit(desk: Desk, fit: Fit) -> None:
    progress = fit.progress()
    if progress.state in ("running", "stopping"):
        _watch(desk, fit)
        return
    _draw_head(desk.words, fit, progress)
    if progress.state == "done":
        _draw_result(desk, fit)
    else:
        _draw_stopped(desk.words, fit, progress)


def _draw_head(words: Words, fit: Fit, progress: Progress) -> None:
    st.markdown(f"**{plain(fit.name)}** · {words[f'teach_state.{progress.state}']}")
    order = fit.order()
    method = words[f"teach_method.{order.method}"]
    st.caption(words["teach.source"].format(method=method, source=plain(order.source)))


@st.fragment(run_every=EVERY)
def _watch(desk: Desk, fit: Fit) -> None:
    """How far a fit is, drawn anew every moment until it ends."""
    words, progress = desk.words, fit.progress()
    if progress.state not in ("running", "stopping"):
        st.rerun()
    _draw_head(words, fit, progress)
    st.progress(progress.share, text=_phase_text(words, progress))
    st.caption(words["teach.stopping" if progress.state == "stopping" else "teach.survives"])
    stopping = progress.state == "stopping"
    if st.button(
        words["teach.stop"], key=f"teach.stop.{fit.name}", disabled=stopping, icon=":material/stop:"
    ):
        teaching.stop(fit)
        st.rerun(scope="fragment")


def _phase_text(words: Words, progress: Progress) -> str:
    """What is done now, how much of it, the loss, and for how long.

    The phase of an engine that has no words of its own is named as it names itself.
    """
    key = f"teach_phase.{progress.phase.replace(' ', '_')}"
    parts = [words.get(key, progress.phase)]
    if progress.total:
        parts.append(f"{progress.done} / {progress.total}")
    if progress.loss is not None:
        parts.append(words["teach.loss"].format(loss=decimal(words, f"{progress.loss:.4g}")))
    parts.append(words["teach.seconds"].format(seconds=f"{progress.seconds:.0f}"))
    return " · ".join(part for part in parts if part)


def _draw_stopped(words: Words, fit: Fit, progress: Progress) -> None:
    if progress.message:
        st.error(plain(progress.message))
    first, second, third, _ = st.columns([1, 1, 1, 3])
    if fit.can_go_on and first.button(words["teach.go_on"], key=f"teach.go_on.{fit.name}", type="primary"):
        teaching.go_on(fit)
        st.rerun()
    if second.button(words["teach.again"], key=f"teach.again.{fit.name}"):
        teaching.start(fit.folder.parent.parent, fit.order())
        st.rerun()
    _offer_discard(words, fit, third)


def _offer_discard(words: Words, fit: Fit, place: Any) -> None:
    key = f"teach.discard.{fit.name}"
    if place.button(
        words["teach.discard"], key=key, help=words["teach.discard_help"], icon=":material/delete:"
    ):
        teaching.discard(fit)
        st.rerun()


# Its result


def _draw_result(desk: Desk, fit: Fit) -> None:
    words = desk.words
    predictor = _opened(str(fit.result), fit.result.stat().st_mtime_ns).speaking(desk.language)
    manifest, calibration = predictor.manifest, predictor.calibration
    st.success(words["teach.results"])
    st.markdown(words["teach.statement"].format(promise=plain(promise(calibration.statement, words))))
    st.caption(
        words["teach.good_images"].format(
            train=manifest["data"]["train"], calibration=manifest["data"]["calibration"]
        )
    )
    for note in manifest["fit"].get("notes", []):
        st.info(plain(note))
    if skipped := manifest["data"]["skipped"]:
        with st.expander(words["teach.skipped"]):
            st.markdown("\n".join(f"- {plain(name)}: {plain(reason)}" for name, reason in skipped))
    _draw_scores(words, predictor)
    _draw_first(desk, fit, predictor)
    _draw_trial(desk, fit, predictor)
    _draw_save(desk, fit, predictor)


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(path: str, changed: int) -> Predictor:
    """The predictor in ``path``, which was ``changed`` (ns) last."""
    return Predictor.open(path)


def _draw_scores(words: Words, predictor: Predictor) -> None:
    calibration = predictor.calibration
    labels = {
        name: words[f"calibrate.chart_{name}"]
        for name in ("good", "bad", "new", "review", "now", "score", "images")
    }
    labels["new"] = words["calibrate.threshold"]
    if chart := score_chart(calibration.nominal_scores, (), calibration, calibration, labels):
        st.vega_lite_chart(spoken(chart, words), key="teach.chart")


def _draw_first(desk: Desk, fit: Fit, predictor: Predictor) -> None:
    words = desk.words
    st.markdown(f"**{words['teach.first']}**")
    kept = f"teach.first.{fit.name}.{fit.result.stat().st_mtime_ns}.{desk.language}"
    if kept not in st.session_state:
        with desk.station.busy:
            st.session_state[kept] = [
                answer(path.name, predictor, path, str(path)) for path in taught.first_results(fit, FIRST)
            ]
    found: list[Answer] = st.session_state[kept]
    if not found:
        st.caption(words["teach.first_none"])
    draw_answers(words, found)


def _draw_trial(desk: Desk, fit: Fit, predictor: Predictor) -> None:
    words = desk.words
    sent = st.file_uploader(
        words["teach.try"], ENDINGS, accept_multiple_files=True, key=f"teach.trial.{fit.name}"
    )
    taken, refused = accepted(sent, desk.station.settings.limits, words)
    shown, more = counted_refusals(refused)
    for failure in shown:
        st.warning(words["teach.refused"].format(name=plain(failure.path), reason=plain(failure.reason)))
    if more:
        st.warning(words["teach.more_refused"].format(more=more))
    found = []
    for upload in taken[:FIRST]:
        with desk.station.busy:
            found.append(answer(upload.name, predictor, upload.data, upload.name))
    draw_answers(words, found)


def draw_answers(words: Words, found: list[Answer], a_row: int = 3) -> None:
    """Heatmaps beside each other, each with its verdict, its score and the note."""
    for start in range(0, len(found), a_row):
        for one, column in zip(found[start : start + a_row], st.columns(a_row), strict=False):
            with column:
                draw_answer(words, one, _OPACITY)


def draw_answer(words: Words, one: Answer, opacity: float) -> None:
    """One heatmap with its name, its verdict, its score and the note."""
    st.markdown(plain(one.name))
    if one.verdict is None:
        st.warning(plain(one.reason))
        return
    picture = one.heatmap(opacity)
    if picture is not None:
        st.image(picture, width="stretch")
    score = "" if math.isnan(one.verdict.threshold) else decimal(words, f"{one.verdict.score:.3f}")
    st.html(
        f"<div style='display:flex;gap:1rem;align-items:center'>{tag(one.verdict.decision, words)}<span>{score}</span></div>"
    )
    st.caption(plain(one.verdict.sentence))


def _draw_save(desk: Desk, fit: Fit, predictor: Predictor) -> None:
    words, folder = desk.words, desk.station.settings.folder
    order = fit.order()
    images = counted(words, "teach.images", int(predictor.manifest["data"]["train"]))
    reason = words["teach.why_text"].format(images=images, source=order.source)
    why = st.text_input(words["teach.why"], reason, key=f"teach.why.{fit.name}")
    there = (folder / f"{fit.name}.andon").exists()
    replacing = there and st.checkbox(
        words["teach.replace"].format(name=f"{plain(fit.name)}.andon"), key=f"teach.replace.{fit.name}"
    )
    left, right, _ = st.columns([2, 1, 2])
    ready = bool(why.strip()) and (replacing or not there)
    if left.button(
        words["teach.save"],
        key=f"teach.save.{fit.name}",
        type="primary",
        disabled=not ready,
        icon=":material/save:",
    ):
        path = taught.save(fit, folder, desk.station.records, desk.session, why, replacing=replacing)
        desk.station.look_again()
        st.session_state["teach.saved"] = path.stem
        st.rerun()
    _offer_discard(words, fit, right)
