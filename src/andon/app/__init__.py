"""The operators' page: ``andon app FOLDER``. Streamlit draws; what is drawn is worked out in modules without Streamlit.

A page is a line of :data:`andon.app.shell.PAGES` and a module with one function::

    # teach_page.py: may import streamlit at its top, is imported only when somebody opens the page
    def draw(desk: Desk) -> None: ...

``desk`` (:class:`andon.app.shell.Desk`) is what this browser works with:

- ``desk.words`` the texts in its language: those of :mod:`andon.runtime.words` and of this package together. Those of
  a page are in ``words/<language>/<page>.toml``, in sections that no other file has; ``[<page>]`` has ``title``, which is
  the page's name in the menu, and ``lead``, one sentence below it. ``desk.language`` is the code ("en", "de", "fr").
- ``desk.session`` who is there (:class:`andon.records.Session`): ``.who``, ``.role``; given to whatever writes records.
- ``desk.station`` what all browsers share (:class:`andon.app.station.Station`): ``.settings`` (the folder, the limits),
  ``.records`` (:class:`andon.records.Records`), ``.artifacts()`` the artefacts in the folder, newest versions,
  ``.problems()`` those that cannot be used, ``.busy`` to be held while a network runs.
- ``desk.choose()`` draws the choice of a detector, the same one on every page, and returns it (a
  :class:`~andon.runtime.server.shelf.Shelved`: ``name``, ``path``, ``predictor``, ``sha256``), or says that there is none;
  ``desk.predictor(shelved)`` speaks the browser's language; ``artifact_name(shelved)`` is its name for records.

The shell draws the page's title and lead, asks who it is, checks the role on every run, and shows an
:class:`~andon.errors.AndonError` that a page lets through as one line. What a browser keeps for itself is in
``st.session_state`` under keys that begin with the page's name, such as ``"teach.folder"``; images go nowhere else.

``settings`` how the app was started, ``station`` what browsers share, ``shell`` pages, login and language, ``main`` the script
that Streamlit runs; ``badges`` a verdict for the eye. Beneath *Inspect*: ``uploads`` the limits, ``inspecting`` one photograph, ``trial`` another
threshold, ``journal`` the session; beneath *Review* ``reviewing``; beneath *Monitor* ``shifting`` and ``drifting``;
beneath *Teach* ``teaching``, whose fits have a process of their own (``teach_worker``), and ``taught``; beneath *Calibrate*
``calibrating``, ``score_chart``, ``zoning`` and ``saving``, by which alone these pages change an artefact; beneath *Compare*
``comparing``. No torch. Needs the extra ``app``.
"""

from __future__ import annotations

from pathlib import Path


def main_script() -> Path:
    """The script that Streamlit runs; it takes the settings as its only argument."""
    return Path(__file__).with_name("main.py")
