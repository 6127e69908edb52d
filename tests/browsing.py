"""What the tests of the app share: a folder with a detector made without fitting, and the app as one browser sees it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from andon.app.settings import AppSettings
from andon.runtime.predictor import Predictor
from lines import difference_detector, png, striped

PASSWORD = "correct horse"
File = tuple[str, bytes]  # a photograph's name and bytes


def detectors(folder: Path) -> Path:
    """``folder`` with the detector ``part`` in it."""
    (folder / "part.andon").write_bytes(_detector())
    return folder


@cache
def _detector() -> bytes:
    """The detector's file, made once a process."""
    with tempfile.TemporaryDirectory() as folder:
        return difference_detector(Path(folder, "part.andon")).read_bytes()


def settings_of(folder: Path, **changes: Any) -> AppSettings:
    """Settings of an app over ``folder``, its records beside the detectors."""
    return AppSettings(folder=folder, records=str(folder / "station.db"), **{"language": "en", **changes})


def good(seed: int = 50) -> File:
    """A photograph of a good part."""
    return f"good_{seed}.png", png(striped(seed))


def bad(seed: int = 50) -> File:
    """A photograph of a part with a bright spot."""
    pixels = striped(seed)
    pixels[20:34, 40:54] = 250
    return f"bad_{seed}.png", png(pixels)


def borderline(folder: Path) -> File:
    """A photograph that passes at the detector's own rate and fails at 50 %: the 17th of its 20 calibration scores."""
    predictor = Predictor.open(folder / "part.andon", threads=1)
    return sorted(
        (good(seed) for seed in range(20, 40)), key=lambda file: predictor.measure(file[1]).image_score
    )[16]


def _script(settings, page):  # type: ignore[no-untyped-def]  # runs by its text alone, without this module's names
    import streamlit as st

    from andon.app.shell import run

    if "page" not in st.query_params:
        st.query_params["page"] = page
    run(settings)


def browser(settings: AppSettings, page: str = "inspect") -> AppTest:
    """A browser that has opened ``page``."""
    return rerun(
        AppTest.from_function(_script, default_timeout=60, kwargs={"settings": settings, "page": page})
    )


def rerun(at: AppTest) -> AppTest:
    """``at`` after another run. Fails where the script ended in an error that nobody expected."""
    at.run()
    assert not at.exception, at.exception
    return at


def open_page(at: AppTest, page: str) -> AppTest:
    """``at`` on another page."""
    at.sidebar.radio[0].set_value(page)
    return rerun(at)


def send(at: AppTest, *files: File) -> AppTest:
    """``at`` after these files were dropped on the page *Inspect*."""
    at.file_uploader[0].set_value([(name, data, "image/png") for name, data in files])
    return rerun(at)


def press(at: AppTest, label: str) -> AppTest:
    """``at`` after the button ``label``."""
    next(button for button in at.button if button.label == label).click()
    return rerun(at)


def written(at: AppTest) -> str:
    """What is written on the page, as one text."""
    parts: list[str] = []
    for kind in (
        at.title,
        at.subheader,
        at.markdown,
        at.caption,
        at.info,
        at.warning,
        at.error,
        at.success,
        at.html,
        at.metric,
    ):
        for each in kind:
            parts += [str(getattr(each, name, "")).replace("\\", "") for name in ("label", "value", "body")]
    return "\n".join(parts)
