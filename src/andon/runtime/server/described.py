"""What /openapi.json shows besides the schema: request bodies, and examples of answers and errors that are true."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from andon.runtime.server.answers import ErrorAnswer
from andon.runtime.server.bodies import FORM, IMAGES, RAW
from andon.runtime.server.limits import Limits
from andon.runtime.server.problems import (
    Problem,
    bad_form,
    bad_query,
    failed,
    full,
    no_key,
    slow,
    too_large,
    too_many_images,
    too_many_pixels,
    unknown_artefact,
    unreadable,
    wrong_type,
)

_FILE = {"type": "string", "format": "binary"}
_IMAGE = {"schema": {**_FILE, "description": "The image file as it is."}}
RECORDED = {  # route -> the name of its answer in examples.json
    "/v1/inspect": "verdict",
    "/v1/batch": "batch",
    "/v1/artefacts": "artefacts",
    "/v1/artefacts/{name}": "artefact",
    "/v1/reload": "reload",
    "/health": "health",
    "/ready": "ready",
}
EXAMPLE_ID = "5f0c8a1e7d3b4c2f9a6e1b0d8c7f5a42"


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}


IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {FORM: _form("file", _FILE), RAW: _IMAGE, **dict.fromkeys(IMAGES, _IMAGE)},
    }
}
BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {FORM: _form("files", {"type": "array", "items": _FILE, "minItems": 1})},
    }
}


def _examples() -> list[Problem]:
    """One of each error that a route answers on purpose, as this server says it."""
    limits, names = Limits(), ["clip", "hose"]
    return [
        no_key(), bad_form("file", "no file there; the form's fields: photo"), unknown_artefact(None, names),
        unknown_artefact("clop", names), slow(limits), too_large(limits), too_many_pixels(limits, (12000, 9000)),
        too_many_images(1), wrong_type(f"image/..., {RAW} or {FORM}", "application/json"),
        unreadable("cannot read these 20 bytes: they are no image of a kind that is read here"),
        bad_query("language: 'it'"), full(limits, 2), failed("an error of the server (KeyError)"),
    ]  # fmt: skip


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of these statuses, with their examples."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        examples = [problem for problem in _examples() if problem.status == status]
        found[status] = {
            "model": ErrorAnswer,
            "description": "; ".join(f"`{problem.code}`" for problem in examples),
            "content": {
                "application/json": {
                    "examples": {problem.code: {"value": problem.content(EXAMPLE_ID)} for problem in examples}
                }
            },
        }
        if status == 503:
            found[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
            }
    return found


@cache
def recorded() -> dict[str, Any]:
    """Answers of a real server, by name, as it gave them."""
    text = files("andon.runtime.server").joinpath("examples.json").read_text(encoding="utf-8")
    answers: dict[str, Any] = json.loads(text)
    return answers


def put_examples(schema: dict[str, Any]) -> None:
    """Add the recorded answers to ``schema``, which is changed. (Said with the routes, they would lose their nulls.)"""
    for path, name in RECORDED.items():
        for operation in schema["paths"][path].values():
            operation["responses"]["200"]["content"]["application/json"]["example"] = recorded()[name]
