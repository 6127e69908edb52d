"""The page *Inspect*: photographs in, verdicts out, and the person's word beside the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import streamlit as st

from andon.app.badges import banner, plain, short
from andon.app.charts import spoken
from andon.app.inspecting import Shot, inspect_upload, overlaid, worst
from andon.app.journal import Journal, as_csv, as_table
from andon.app.shell import Desk
from andon.app.trial import at_rate, chart, effect_text, rates
from andon.app.uploads import ENDINGS, Sent, Upload, accepted, counted_refusals
from andon.errors import AndonError
from andon.records import Answer
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import decimal, percent, retold
from andon.types import Decision, Failure

_JOURNAL, _TURN, _CHOSEN, _REFUSED = "inspect.journal", "inspect.turn", "inspect.chosen", "inspect.refused"
_WAITING, _BEGUN, _RATE = "inspect.waiting", "inspect.begun", "inspect.rate."
Waiting = list[tuple[Shelved, Upload]]  # files that were sent, and the detector that was chosen then
_DECISIONS: tuple[Decision, ...] = ("pass", "review", "fail")


def draw(desk: Desk) -> None:
    """Draw the page."""
    shelved = desk.choose()
    if shelved is None:
        return
    journal = _journal(desk)
    waiting: Waiting = st.session_state.setdefault(_WAITING, [])
    if not waiting and not _take_in(desk, shelved, journal, waiting):
        _draw_results(desk, journal)
        return
    _inspect(desk, journal, waiting)
    st.rerun()


def _take_in(desk: Desk, shelved: Shelved, journal: Journal, waiting: Waiting) -> bool:
    """Whether something was sent; what may be inspected waits then, and the rest is reported."""
    sent = _draw_intake(desk)
    if not sent:
        return False
    uploads, refused = accepted(sent, desk.station.settings.limits, desk.words)
    waiting.extend((shelved, upload) for upload in uploads)
    st.session_state[_REFUSED], st.session_state[_BEGUN] = refused, journal.count
    for failure in refused:
        journal.add(failure)
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1  # an empty widget: nothing is taken in twice
    return True


def _inspect(desk: Desk, journal: Journal, waiting: Waiting) -> None:
    """Inspect what waits, one after another.

    Streamlit ends a run at its next call when somebody presses something meanwhile: what is done by then is in the
    journal and no longer waits, and the next run goes on with the rest.
    """
    refused: list[Failure] = st.session_state[_REFUSED]
    with st.status(desk.words["inspect.working"]) as status:
        while waiting:
            shelved, upload = waiting[0]
            name, number = plain(upload.name), journal.count + 1
            status.update(label=desk.words["inspect.progress"].format(left=len(waiting), name=name))
            entry: Shot | Failure
            try:  # from here on nothing of Streamlit, until it is in the journal and waits no longer
                predictor = desk.predictor(shelved)
                entry = inspect_upload(desk.station, desk.session, shelved, predictor, upload, number)
            except AndonError as error:
                entry = Failure(upload.name, str(error))
                refused.append(entry)
            journal.add(entry)
            del waiting[0]
    batch = [shot for shot in journal.shots if shot.number > st.session_state[_BEGUN]]
    if batch:
        st.session_state[_CHOSEN] = worst(batch).number


def _draw_results(desk: Desk, journal: Journal) -> None:
    """What was inspected: one photograph in full, and all as a table."""
    _draw_refused(desk)
    if journal.shots:
        shot = _choose_shot(desk, journal)
        _draw_shot(desk, shot)
        _draw_decision(desk, journal, shot)
        _draw_journal(desk, journal)


def _journal(desk: Desk) -> Journal:
    if _JOURNAL not in st.session_state:
        st.session_state[_JOURNAL] = Journal(desk.station.settings.limits.shown)
    return cast(Journal, st.session_state[_JOURNAL])


def _draw_intake(desk: Desk) -> Sequence[Sent]:
    """Where photographs come in: files, or the camera."""
    words, limits, turn = desk.words, desk.station.settings.limits, st.session_state.get(_TURN, 0)
    files, camera = st.tabs([words["inspect.files"], words["inspect.camera"]])
    with files:
        size = max(1, limits.image_bytes // 2**20)
        sent = st.file_uploader(
            words["inspect.upload"].format(most=limits.images), ENDINGS, accept_multiple_files=True,
            key=f"inspect.files.{turn}", max_upload_size=size,
        )  # fmt: skip
    with camera:
        if not st.toggle(words["inspect.camera_on"], key="inspect.camera_on"):
            return sent or ()
        taken = st.camera_input(
            words["inspect.take"], key=f"inspect.camera.{turn}", label_visibility="collapsed"
        )
    return [*(sent or ()), *([taken] if taken is not None else [])]


def _draw_refused(desk: Desk) -> None:
    shown, more = counted_refusals(st.session_state.get(_REFUSED, []))
    for failure in shown:
        st.error(f"**{plain(failure.path)}** — {plain(failure.reason)}", icon=":material/broken_image:")
    if more:
        st.error(desk.words["inspect.more_refused"].format(more=more))


def _choose_shot(desk: Desk, journal: Journal) -> Shot:
    """The shot that is shown: the oddest of those sent last, until another is chosen."""
    by_number = {shot.number: shot for shot in journal.shots}
    numbers = list(by_number)
    if st.session_state.get(_CHOSEN) not in by_number:
        st.session_state[_CHOSEN] = numbers[0]

    def label(number: int) -> str:
        shot = by_number[number]
        return f"{number} · {shot.name} · {short(shot.decision(_rate_of(shot.detector.name)), desk.words)}"

    if len(numbers) == 1:
        return by_number[numbers[0]]
    at = numbers.index(st.session_state[_CHOSEN])
    chosen = st.selectbox(desk.words["inspect.shown"], numbers, at, format_func=label)
    st.session_state[_CHOSEN] = chosen
    return by_number[chosen]


def _rate_of(detector: str) -> float | None:
    """The rate that is tried on a detector; None for its own."""
    return cast("float | None", st.session_state.get(f"{_RATE}{detector}"))


def _draw_shot(desk: Desk, shot: Shot) -> None:
    """The verdict, the pictures and the sliders of one shot."""
    place = st.container()
    _draw_pictures(desk, shot)
    rate = _draw_slider(desk, shot)
    with place:
        _draw_verdict(desk, shot, rate)


def _draw_verdict(desk: Desk, shot: Shot, rate: float | None) -> None:
    words = desk.words
    score = words["inspect.score"].format(score=decimal(words, f"{shot.verdict.score:.3f}"))
    st.html(banner(shot.decision(rate), words, score, shot.sentence(words, rate)))
    if shot.decision(rate) != shot.verdict.decision:
        st.info(words["inspect.moved"].format(own=short(shot.verdict.decision, words)))
    for note in shot.verdict.notes:
        st.caption(plain(retold(note, words)))
    if shot.unrecorded:
        st.error(words["inspect.unrecorded"].format(reason=plain(shot.unrecorded)))


def _draw_pictures(desk: Desk, shot: Shot) -> None:
    """Photograph, good part and heatmap, with the slider of its opacity below."""
    words, pictures = desk.words, shot.pictures
    if pictures is None:
        st.info(words["inspect.no_pictures"])
        return
    photo, expected, heat = st.columns(3)
    photo.image(pictures.photo, words["picture.odd"], width="stretch", output_format="JPEG")
    if pictures.expected is None:
        expected.info(words["picture.none"])
    else:
        expected.image(pictures.expected, words[pictures.kind], width="stretch", output_format="JPEG")
    room = heat.empty()
    opacity = heat.slider(words["inspect.opacity"], 0, 100, 55, 5, format="%d %%", key="inspect.opacity")
    heatmap = overlaid(pictures, shot.calibration, opacity / 100)
    room.image(heatmap, words["inspect.heatmap"], width="stretch", output_format="JPEG")


def _draw_slider(desk: Desk, shot: Shot) -> float | None:
    """The slider of the false-alarm rate, and what it does to the calibration set; the rate, None without a threshold."""
    words, possible = desk.words, rates(shot.calibration)
    if not possible:
        st.info(words["inspect.no_threshold"])
        return None
    kept = f"{_RATE}{shot.detector.name}"
    own = shot.calibration.target_rate
    before = st.session_state.get(kept, own)
    rate = st.select_slider(
        words["inspect.rate"].format(own=percent(words, own)), possible, before if before in possible else own,
        format_func=lambda each: percent(words, each), help=words["inspect.rate_help"], key=f"{kept}.slider",
    )  # fmt: skip
    st.session_state[kept] = rate
    tried = at_rate(shot.calibration, rate)
    text, picture = st.columns([2, 3])
    text.markdown(effect_text(tried, words))
    picture.vega_lite_chart(
        spec=spoken(chart(tried, shot.verdict.image_score, words), words), width="stretch"
    )
    return cast(float, rate)


def _draw_decision(desk: Desk, journal: Journal, shot: Shot) -> None:
    """The person's own decision, which has the last word."""
    words = desk.words
    if shot.decided is not None:
        said = words["inspect.said"].format(who=shot.decided.who, decision=short(shot.decided.verdict, words))
        st.success(f"{said} {plain(shot.decided.note)}")
    if shot.record is None:
        return
    with st.form(f"inspect.decision.{shot.number}", clear_on_submit=True):
        answer = st.radio(
            words["inspect.decision"],
            _DECISIONS,
            None,
            horizontal=True,
            format_func=lambda each: short(each, words),
        )
        note = st.text_input(words["inspect.note"], max_chars=500)
        asked = st.form_submit_button(words["inspect.record"], type="primary")
    if asked and answer is None:
        st.warning(words["inspect.choose_first"])
    elif asked and answer is not None:
        journal.decide(
            shot.number, desk.station.records.decide(desk.session, shot.record, cast(Answer, answer), note)
        )
        st.rerun()


def _draw_journal(desk: Desk, journal: Journal) -> None:
    """All of this session as a table, and as a file."""
    words = desk.words
    st.subheader(words["inspect.session"])
    st.dataframe(as_table(journal.shots, _rate_of, words), hide_index=True, width="stretch")
    save, clear = st.columns(2)
    save.download_button(
        words["inspect.csv"], as_csv(journal.entries, _rate_of), "andon.csv", "text/csv", icon=":material/download:",
        type="primary", on_click="ignore",
    )  # fmt: skip
    if clear.button(words["inspect.clear"], icon=":material/delete:"):
        for key in [key for key in map(str, st.session_state) if key.startswith("inspect.") and key != _TURN]:
            del st.session_state[key]
        st.rerun()
    st.caption(words["inspect.trial_only"])
