"""Streamlit's own English words on its widgets, said in the page's language: it has no setting for them."""

from __future__ import annotations

from andon.runtime.words import Words

_UPLOAD = '[data-testid="stFileUploaderDropzone"]'
_LIMITS = '[data-testid="stFileUploaderDropzoneInstructions"]'
_TAKE = '[data-testid="stCameraInput"] [data-testid="stCameraInputButton"]'
_HINT = '[data-testid="InputInstructions"]'  # "Press Enter to apply", on fields that have a button


def style(words: Words, megabytes: int) -> str:
    """HTML that sets the words on upload and camera buttons, and what may be uploaded: files of so many MiB."""
    return "<style>" + "".join(
        (
            f"{_UPLOAD} button p{{display:none}}",
            f"{_UPLOAD} button [data-testid=stMarkdownContainer]::after{{content:{_text(words['upload.button'])}}}",
            f"{_LIMITS} > *{{display:none}}",
            f"{_LIMITS}::after{{content:{_text(words['upload.limit'].format(size=megabytes))};font-size:.875rem;opacity:.7}}",
            f"{_TAKE}{{font-size:0}}",
            f"{_TAKE}::after{{content:{_text(words['upload.take'])};font-size:1rem}}",
            f"{_HINT}{{display:none}}",
        )
    ) + "</style>"  # fmt: skip


def _text(text: str) -> str:
    """``text`` as a string of CSS.

    >>> print(_text('say "x"'))
    "say \\22 x\\22 "
    """
    safe = "".join(f"\\{ord(c):x} " if c in '"\\<>' else c for c in text)
    return f'"{safe}"'
