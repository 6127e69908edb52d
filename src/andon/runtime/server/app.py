"""The application: routes, errors in one shape, and what lives as long as the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from andon import __version__
from andon.runtime.server.backing import Backing
from andon.runtime.server.described import errors, put_examples
from andon.runtime.server.gate import Gate
from andon.runtime.server.keys import KeyFile
from andon.runtime.server.limits import Limits
from andon.runtime.server.meters import Meters
from andon.runtime.server.problems import Problem, bad_query, failed, not_here
from andon.runtime.server.routes import api, probes
from andon.runtime.server.service import Service, require_key, said
from andon.runtime.server.shelf import Shelf
from andon.runtime.server.watching import GONE, Watching

DESCRIPTION = "Say pass, review or fail of photographs of parts, where, and why. See docs/rest.md."


class _Application(FastAPI):
    """FastAPI, with the recorded answers among the examples of its schema."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            put_examples(super().openapi())
        return super().openapi()


def make_app(
    shelf: Shelf, *, limits: Limits | None = None, keys: KeyFile | None = None, check_every: float = 2.0,
    backing: Backing | None = None,
) -> FastAPI:  # fmt: skip
    """The application that answers with what is on ``shelf``.

    ``keys``: who may ask; None: anyone. ``backing``: what takes note of the inspections.
    ``check_every``: seconds between two looks at the files; 0: only when asked to.
    """
    limits = limits or Limits()
    gate = Gate(limits.at_once, limits.requests)
    backing = backing or Backing()
    service = Service(shelf, limits, keys, gate, Meters(shelf, gate, backing.monitors), backing)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(service.watch(check_every)) if check_every > 0 else None
        yield
        if watch is not None:
            watch.cancel()
        gate.close()

    app = _Application(
        title="Andon",
        version=__version__,
        description=DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )  # (its pages of documentation would load scripts from the internet)
    app.state.service = service
    app.include_router(probes)
    if keys is None:
        app.include_router(api, responses=errors(500))
    else:
        app.include_router(api, dependencies=[Depends(require_key)], responses=errors(401, 500))
    app.exception_handler(Problem)(_answer_problem)
    app.exception_handler(RequestValidationError)(_answer_bad_query)
    app.exception_handler(HTTPException)(_answer_not_here)
    app.exception_handler(ClientDisconnect)(_answer_nobody)
    app.exception_handler(Exception)(_answer_failure)
    return app


def watched(app: FastAPI) -> Watching:
    """``app`` with ids, log and meters around each request."""
    service: Service = app.state.service
    return Watching(app, meters=service.meters, drain_bytes=service.limits.request_bytes)


async def _answer_problem(request: Request, error: Problem) -> JSONResponse:
    return _told(request, error)


def _told(request: Request, problem: Problem) -> JSONResponse:
    said(request)["code"] = problem.code
    service: Service = request.app.state.service
    service.meters.refused.labels(problem.code).inc()
    return JSONResponse(problem.content(request.state.request_id), problem.status, dict(problem.headers))


async def _answer_bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
    return _told(request, bad_query("; ".join(map(_mistake, error.errors()))))


def _mistake(entry: Mapping[str, Any]) -> str:
    """One line on what is wrong with a parameter."""
    place = ".".join(map(str, entry["loc"][1:]))
    return f"{place}: {entry.get('input')!r:.100} ({entry['msg']})"


async def _answer_not_here(request: Request, error: HTTPException) -> JSONResponse:
    came = f"{request.method} {request.url.path:.200}"
    return _told(request, not_here(error.status_code, came, error.headers or {}))


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    """What nobody expected: the log has the error, the client its name."""
    return _told(request, failed(f"an error of the server ({type(error).__name__})"))
