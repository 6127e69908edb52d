"""What can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from andon import __version__
from andon.runtime.server.answers import (
    ArtefactAnswer,
    ArtefactsAnswer,
    BatchAnswer,
    HealthAnswer,
    ReadyAnswer,
    ReloadAnswer,
    UnreadAnswer,
    VerdictAnswer,
    artefact_answer,
    artefacts_answer,
    batch_answer,
    reload_answer,
    unread_answer,
    verdict_answer,
)
from andon.runtime.server.bodies import Upload, one_upload, several_uploads
from andon.runtime.server.described import BATCH_BODY, IMAGE_BODY, errors
from andon.runtime.server.gate import FullError
from andon.runtime.server.inspecting import MOST_PATH, Inspected, Wishes, accepted_language, inspect_upload
from andon.runtime.server.problems import Problem, full
from andon.runtime.server.service import Here, Service, said
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import LANGUAGES, words_of

probes = APIRouter(tags=["probes"])
api = APIRouter()

Artefact = Annotated[
    str | None, Query(description="Which one inspects; may be left out where there is only one.")
]
Language = Annotated[
    str | None,
    Query(
        description=f"Of sentences and notes: {', '.join(LANGUAGES)}. Else by Accept-Language, else the artefact's own.",
        pattern=f"^({'|'.join(LANGUAGES)})$",
    ),
]
Heatmap = Annotated[bool, Query(description="Answer the photograph under its heatmap, too.")]
Group = Annotated[
    str | None,
    Query(
        description="That the image belongs to, such as 'lot=B12': decides by that group's threshold, where thresholds "
        "differ by group; GET /v1/artefacts lists them.",
        min_length=1,
        max_length=MOST_PATH,
    ),
]
Path = Annotated[
    str | None,
    Query(
        description="Where the image comes from, such as 'night/B12_007.png': names its group where none is given. "
        "Else the file's name does, where one is sent.",
        max_length=MOST_PATH,
    ),
]
Accepted = Annotated[str, Header(alias="Accept-Language", description="Counts where there is no language.")]


@api.post("/v1/inspect", tags=["inspection"], openapi_extra=IMAGE_BODY,
          responses=errors(400, 404, 408, 413, 415, 422, 503))  # fmt: skip
async def inspect(request: Request, response: Response, service: Here, artefact: Artefact = None,
                  language: Language = None, heatmap: Heatmap = False, group: Group = None, path: Path = None,
                  accepts: Accepted = "") -> VerdictAnswer:  # fmt: skip
    """The verdict on one image: the request's body, or the file in the field 'file' of a form."""
    wishes = Wishes(language or accepted_language(accepts), heatmap, group, path)
    with _admitted(service):
        shelved = service.artefact(artefact)
        upload = await one_upload(request, service.limits)
        found = await _inspected(service, shelved, upload, wishes)
    said(request).update(artefact=shelved.name, decision=found.verdict.decision)
    response.headers["Content-Language"] = _language(wishes, shelved)
    return _answer(found, shelved, upload, wishes, request)


@api.post("/v1/batch", tags=["inspection"], openapi_extra=BATCH_BODY,
          responses=errors(400, 404, 408, 413, 415, 422, 503))  # fmt: skip
async def batch(request: Request, response: Response, service: Here, artefact: Artefact = None,
                language: Language = None, heatmap: Heatmap = False, group: Group = None,
                accepts: Accepted = "") -> BatchAnswer:  # fmt: skip
    """The verdicts on several images, the files in the fields 'files' of a form, in their order, all by the same artefact.

    Where thresholds differ by group and none is given, each file's name says its group. An image that cannot be inspected has an error in the place of its verdict; the others are inspected all the same.
    """
    wishes = Wishes(language or accepted_language(accepts), heatmap, group)
    found: list[VerdictAnswer | UnreadAnswer] = []
    with _admitted(service):
        shelved = service.artefact(artefact)
        for upload in await several_uploads(request, service.limits, most=service.limits.batch_images):
            try:
                inspected = await _inspected(service, shelved, upload, wishes)
                found.append(_answer(inspected, shelved, upload, wishes, request))
            except Problem as problem:
                found.append(unread_answer(problem, request.state.request_id, upload.name))
    answer = batch_answer(request.state.request_id, found)
    said(request).update(artefact=shelved.name, counts=answer.counts)
    response.headers["Content-Language"] = _language(wishes, shelved)
    return answer


@api.get("/v1/artefacts", tags=["artefacts"])
async def artefacts(service: Here) -> ArtefactsAnswer:
    """The artefacts in use: method, threshold, what it promises, hash; and what is wrong with files that are not."""
    return artefacts_answer(service.shelf, service.backing.monitors)


@api.get("/v1/artefacts/{name}", tags=["artefacts"], responses=errors(404, 422))
async def one_artefact(service: Here, name: str) -> ArtefactAnswer:
    """One artefact in use."""
    shelved = service.artefact(name)
    return artefact_answer(
        shelved, service.backing.monitors.standing(shelved) if service.backing.monitors else ()
    )


@api.post("/v1/reload", tags=["artefacts"])
async def reload(service: Here) -> ReloadAnswer:
    """Look at the artefacts' files now. Also tries again those that were refused, and gives up those that are gone."""
    changes = await service.refresh(again=True)
    return reload_answer(service.shelf, service.backing.monitors, changes)


@api.get("/metrics", tags=["probes"], response_class=Response,
         responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}})  # fmt: skip
async def metrics(service: Here) -> Response:
    """Counts by artefact and decision, times, what is in flight, what waits, what was refused."""
    return Response(generate_latest(service.meters.registry), media_type=CONTENT_TYPE_LATEST)


@probes.get("/health")
async def health() -> HealthAnswer:
    """The process lives and answers."""
    return HealthAnswer(andon_version=__version__)


@probes.get("/ready", responses={503: {"model": ReadyAnswer, "description": "Not now."}})
async def ready(response: Response, service: Here) -> ReadyAnswer:
    """Images can be inspected: artefacts are open, and have answered their golden input as where they were fitted."""
    count = len(service.shelf)
    response.status_code = 200 if count else 503
    return ReadyAnswer(ready=count > 0, artefacts=count, problems=len(service.shelf.problems))


@contextmanager
def _admitted(service: Service) -> Iterator[None]:
    """A place for one request. Raises :class:`Problem` where there is none."""
    try:
        with service.gate.admitted():
            yield
    except FullError as error:
        raise full(service.limits, error.retry_after) from error


async def _inspected(service: Service, shelved: Shelved, upload: Upload, wishes: Wishes) -> Inspected:
    """``upload`` inspected once a thread is free, and counted. Raises :class:`Problem`."""
    try:
        found = await service.gate.run(
            lambda: inspect_upload(shelved, upload, wishes, service.limits, service.backing)
        )
    except Problem:
        service.meters.count(shelved.name, "unread")
        raise
    service.meters.count(shelved.name, found.verdict.decision, found.verdict.milliseconds)
    return found


def _answer(
    found: Inspected, shelved: Shelved, upload: Upload, wishes: Wishes, request: Request
) -> VerdictAnswer:
    words = words_of(_language(wishes, shelved))
    return verdict_answer(found, shelved, request.state.request_id, upload.name, words)


def _language(wishes: Wishes, shelved: Shelved) -> str:
    """The language that was answered in."""
    spoken: Any = wishes.language or shelved.predictor.words["language.code"]
    return str(spoken)
