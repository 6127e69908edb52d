"""The tab *Zones* of the page *Calibrate*: boxes dragged over a photograph, or given by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from andon.app import zoning
from andon.app.badges import plain
from andon.app.shell import Desk
from andon.app.zoning import SELECTION, Box, Pixels
from andon.data import list_images
from andon.errors import AndonError
from andon.image import decode
from andon.nuisance import Zone
from andon.nuisance.zones import TREATMENTS, Treatment
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import Words, percent

RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_ROWS, _COLUMNS = "zones.rows", "zones.columns"  # of the box, in per cent, top to bottom and left to right
_MIDDLE = (40.0, 60.0)


def draw_zones_tab(desk: Desk, shelved: Shelved, measure: Callable[[str, Sequence[Zone]], bool]) -> None:
    """Zones to draw, a list of those there are, and a button that hands the good photographs and the zones to ``measure``."""
    words = desk.words
    st.caption(words["zones.lead"])
    folder = st.text_input(words["zones.photo_folder"], key="zones.folder").strip()
    pixels = _photo(folder, desk.station.settings.limits.pixels)
    if pixels is None:
        st.info(words["zones.no_photo"])
        return
    key = f"zones.drawn.{shelved.sha256}"
    zones: tuple[Zone, ...] = st.session_state.setdefault(key, zoning.zones_since(shelved.predictor))
    fitted = zoning.zones_of_fit(shelved.predictor)
    left, right = st.columns([3, 2], gap="large")
    with right:
        treatment, rate, name, added = _draw_form(words, zones)
    if added is not None:
        size = (pixels.shape[0], pixels.shape[1])
        st.session_state[key] = zoning.with_box((*fitted, *zones), name, added, treatment, rate, size)[
            len(fitted) :
        ]
        st.rerun()
    with left:
        _draw_canvas(words, pixels, (*fitted, *zones))
    with right:
        _draw_list(words, key, fitted, zones)
        if zones == zoning.zones_since(shelved.predictor):
            st.caption(words["zones.unchanged"])
            return
        asked = st.button(words["zones.try"], key="zones.try", type="primary", icon=":material/science:")
        if asked and measure(folder, zones):
            st.session_state["calibrate.saved"] = words["zones.tried"]
            st.rerun()


@st.cache_data(max_entries=4, show_spinner=False)
def _first_photo(path: str, changed: int, most_pixels: int) -> Pixels:
    return decode(path, max_pixels=most_pixels).pixels


def _photo(folder: str, most_pixels: int) -> Pixels | None:
    """The first photograph of the folder (H, W, 3); None, and a line that says why, where there is none."""
    if not folder:
        return None
    try:
        first = list_images(Path(folder).expanduser())[0]
        return _first_photo(str(first), first.stat().st_mtime_ns, most_pixels)
    except AndonError as error:
        st.error(plain(str(error)))
        return None


def _draw_canvas(words: Words, pixels: Pixels, zones: Sequence[Zone]) -> None:
    key = "zones.canvas"
    shown = zoning.picture(pixels, zones, _box(), zoning.free_name(zones, words["zones.stem"]))
    chart = zoning.canvas(shown)
    take = partial(_take_box, key)
    st.vega_lite_chart(chart, key=key, width="content", theme=None, on_select=take, selection_mode=SELECTION)


def _take_box(key: str) -> None:
    """Put the box that was dragged into the sliders."""
    box = zoning.dragged(st.session_state[key].get("selection"))
    if box is not None:
        top, left, bottom, right = (round(200 * edge) / 2 for edge in box)  # steps of half a per cent
        st.session_state[_ROWS], st.session_state[_COLUMNS] = (top, bottom), (left, right)


def _box() -> Box | None:
    """The box of the sliders, in fractions; None where it is empty."""
    top, bottom = st.session_state.get(_ROWS, _MIDDLE)
    left, right = st.session_state.get(_COLUMNS, _MIDDLE)
    return (top / 100, left / 100, bottom / 100, right / 100) if top < bottom and left < right else None


def _draw_form(words: Words, zones: Sequence[Zone]) -> tuple[Treatment, float | None, str, Box | None]:
    """What is to be done in the box, its name, and the box where it was asked for just now."""
    for axis in (_ROWS, _COLUMNS):
        st.session_state.setdefault(axis, _MIDDLE)
    st.slider(words["zones.rows"], 0.0, 100.0, step=0.5, key=_ROWS)
    st.slider(words["zones.columns"], 0.0, 100.0, step=0.5, key=_COLUMNS)
    suggested = zoning.free_name(zones, words["zones.stem"])
    name = st.text_input(words["zones.name"], suggested, key=f"zones.name.{suggested}")
    chosen = st.radio(
        words["zones.treatment"],
        TREATMENTS,
        key="zones.treatment",
        format_func=lambda each: words[f"zones.{each}"],
    )
    treatment: Treatment = "looser" if chosen == "looser" else "ignore"
    rate = None
    if treatment == "looser":
        rate = st.select_slider(
            words["zones.rate"],
            RATES,
            0.001,
            key="zones.rate",
            format_func=lambda share: percent(words, share),
        )
    asked = st.button(words["zones.add"], key="zones.add", icon=":material/add_box:", disabled=_box() is None)
    return treatment, rate, name, _box() if asked else None


def _draw_list(words: Words, key: str, fitted: Sequence[Zone], zones: Sequence[Zone]) -> None:
    """The zones there are, each with a button that removes it, but for those of the fit."""
    if not (fitted or zones):
        st.caption(words["zones.none"])
    for zone in fitted:
        st.markdown(words["zones.of_fit"].format(name=plain(zone.name), place=zoning.described(zone)))
    for number, zone in enumerate(zones):
        text, button = st.columns([3, 1])
        place, treatment = zoning.described(zone), words[f"zones.{zone.treatment}"]
        text.markdown(words["zones.listed"].format(name=plain(zone.name), place=place, treatment=treatment))
        if button.button(words["zones.remove"], key=f"zones.remove.{number}.{zone.name}"):
            st.session_state[key] = (*zones[:number], *zones[number + 1 :])
            st.rerun()
