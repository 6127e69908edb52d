"""The frame around every page: who it is, in which language, which page. See :mod:`andon.app` for what a page is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from importlib import import_module
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from andon.app.badges import plain
from andon.app.settings import AppSettings
from andon.app.station import Station
from andon.app.styling import style
from andon.app.words import words_of
from andon.errors import AccessError, AndonError
from andon.records import Role, Session
from andon.runtime.predictor import Predictor
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import DEFAULT, LANGUAGES, Words, language_of

_SESSION, _LANGUAGE, _PAGE, _DETECTOR = "app.session", "app.language", "app.page", "app.detector"


@dataclass(frozen=True)
class Page:
    """One page. ``key`` is its name in addresses (``?page=teach``) and the section of its words; ``module`` draws it."""

    key: str
    module: str
    icon: str
    roles: tuple[Role, ...] = ("operator", "engineer")


PAGES = (
    Page("inspect", "andon.app.inspect_page", ":material/search:"),
    Page("review", "andon.app.review_page", ":material/rule:"),
    Page("monitoring", "andon.app.monitor_page", ":material/monitoring:"),
    Page("teach", "andon.app.teach_page", ":material/school:", ("engineer",)),
    Page("calibrate", "andon.app.calibrate_page", ":material/tune:", ("engineer",)),
    Page("compare", "andon.app.compare_page", ":material/compare:", ("engineer",)),
)


@dataclass(frozen=True)
class Desk:
    """What one browser works with while a page is drawn."""

    station: Station
    session: Session
    words: Words
    language: str

    def choose(self) -> Shelved | None:
        """The detector chosen, on this page or another one; None, and a line that says so, where there is none."""
        shelved = {one.name: one for one in self.station.artifacts()}
        for name, problem in self.station.problems().items():
            st.warning(plain(f"{name}: {problem}" if name else problem))
        if not shelved:
            return None
        names, before = list(shelved), st.session_state.get(f"{_DETECTOR}.kept")
        at = names.index(before) if before in names else 0
        name = st.selectbox(self.words["app.detector"], names, at, key=_DETECTOR)
        st.session_state[f"{_DETECTOR}.kept"] = name
        return shelved[name]

    def clock(self, moment: datetime) -> str:
        """``moment`` by the clock on this browser's wall, to the minute."""
        return f"{moment.astimezone(_zone(st.context.timezone)):%Y-%m-%d %H:%M}"

    def predictor(self, shelved: Shelved) -> Predictor:
        """That of ``shelved``, speaking this browser's language."""
        return shelved.predictor.speaking(self.language)


def run(settings: AppSettings) -> None:
    """Draw the app for one browser; called anew at everything that it does."""
    words = words_of(_language(settings))
    st.set_page_config(page_title=words["app.title"], page_icon=":material/verified:", layout="wide")
    st.html(style(words, max(1, settings.limits.image_bytes // 2**20)))
    try:
        station = _station(settings)
        session = _session(station, words)
        if session is None:
            _draw_login(station, words)
            return
        desk = Desk(station, session, words, words["language.code"])
        _draw_page(_choose_page(desk), desk)
    except AndonError as error:
        st.error(plain(str(error)), icon=":material/error:")


@st.cache_resource(show_spinner=False)
def _station(settings: AppSettings) -> Station:
    return Station(settings)


def _language(settings: AppSettings) -> str:
    """The language chosen in this browser; before that the app's, the browser's own, or English."""
    chosen = st.session_state.get(f"{_LANGUAGE}.kept") or settings.language
    return chosen or language_of(st.context.locale or "") or DEFAULT


def _zone(name: str | None) -> tzinfo | None:
    """The time zone ``name``; None, which is this computer's, where it is not known here."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _session(station: Station, words: Words) -> Session | None:
    """Who is at this browser; None where somebody must log in (again)."""
    session: Session | None = st.session_state.get(_SESSION)
    if session is None and not station.records.has_users():
        session = st.session_state[_SESSION] = station.records.anonymous()
    if session is None:
        return None
    try:
        station.records.check(session)
    except AccessError:
        forget_all()
        st.warning(words["login.ended"])
        return None
    return session


def forget_all() -> None:
    """Forget everything of this browser but its language: the next one to log in finds nothing of it."""
    for key in [key for key in st.session_state if not str(key).startswith(_LANGUAGE)]:
        del st.session_state[key]


def _draw_login(station: Station, words: Words) -> None:
    _draw_language(words)
    _, middle, _ = st.columns([1, 2, 1])
    with middle, st.form("login"):
        st.subheader(words["login.title"])
        name = st.text_input(words["login.name"])
        password = st.text_input(words["login.password"], type="password")
        asked = st.form_submit_button(words["login.button"], type="primary")
    if not asked:
        return
    try:
        st.session_state[_SESSION] = station.records.login(name, password)
    except AccessError as error:
        middle.error(plain(str(error)))
        return
    st.rerun()


def _draw_language(words: Words) -> None:
    """The choice of a language at the top of the sidebar, each by its own name."""
    codes = list(LANGUAGES)
    chosen = st.sidebar.selectbox(
        words["app.language"], codes, codes.index(words["language.code"]), key=_LANGUAGE,
        format_func=lambda code: words_of(code)["language.name"],
    )  # fmt: skip
    if chosen != words["language.code"]:
        st.session_state[f"{_LANGUAGE}.kept"] = chosen
        st.rerun()


def _choose_page(desk: Desk) -> Page:
    """The page chosen in the sidebar; at first that of the address, or the first one that this person may open."""
    pages = {page.key: page for page in PAGES if desk.session.role in page.roles}
    asked = st.query_params.get("page", "")
    keys = list(pages)
    with st.sidebar:
        key = st.radio(
            desk.words["app.pages"], keys, keys.index(asked) if asked in keys else 0, key=_PAGE,
            format_func=lambda each: f"{pages[each].icon} {desk.words[f'{each}.title']}", label_visibility="collapsed",
        )  # fmt: skip
    st.query_params["page"] = key
    _draw_language(desk.words)
    _draw_account(desk)
    return pages[key]


def _draw_account(desk: Desk) -> None:
    words, session = desk.words, desk.session
    with st.sidebar:
        if session.proof == "nobody":
            st.caption(words["login.nobody"])
            return
        st.caption(words["login.who"].format(who=plain(session.who), role=words[f"role.{session.role}"]))
        with st.popover(words["login.change"], icon=":material/key:"):
            _draw_password(desk)
        if st.button(words["login.logout"], icon=":material/logout:"):
            desk.station.records.logout(session)
            forget_all()
            st.rerun()


def _draw_password(desk: Desk) -> None:
    words = desk.words
    with st.form("password", clear_on_submit=True, border=False):
        current = st.text_input(words["login.current"], type="password")
        new = st.text_input(words["login.new"], type="password")
        again = st.text_input(words["login.again"], type="password")
        asked = st.form_submit_button(words["login.change"])
    if asked and new != again:
        st.error(words["login.differ"])
    elif asked:
        try:
            desk.station.records.set_password(desk.session, desk.session.who, new, current)
        except AndonError as error:
            st.error(plain(str(error)))
        else:  # a new password ends the sessions of before, this one too
            forget_all()
            st.rerun()


def _draw_page(page: Page, desk: Desk) -> None:
    st.title(desk.words[f"{page.key}.title"])
    st.caption(desk.words[f"{page.key}.lead"])
    import_module(page.module).draw(desk)
