"""How images arrive: as a request's body, or as the files of a form. Bounded in bytes, in files and in time; in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from andon.runtime.server.limits import Limits
from andon.runtime.server.problems import bad_form, slow, too_large, too_many_images, wrong_type

FORM = "multipart/form-data"
RAW = "application/octet-stream"
IMAGES = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp", "image/gif")
MOST_FIELDS = 16  # of a form, besides its files


@dataclass(frozen=True)
class Upload:
    """One image file as it came."""

    name: str | None
    data: bytes


async def one_upload(request: Request, limits: Limits) -> Upload:
    """The image in a request: its body, or the only file of its form. Raises :class:`Problem`."""
    kind = _kind(request)
    if kind == FORM:
        uploads = await several_uploads(request, limits, most=1, field="file")
        return uploads[0]
    if kind != RAW and not kind.startswith("image/"):
        raise wrong_type(f"image/..., {RAW} or {FORM}", kind)
    return Upload(None, b"".join([chunk async for chunk in _bounded(request, limits)]))


async def several_uploads(
    request: Request, limits: Limits, *, most: int, field: str = "files"
) -> list[Upload]:
    """The files in the fields ``field`` of a form, in its order; at least one. Raises :class:`Problem`."""
    if _kind(request) != FORM:
        raise wrong_type(FORM, _kind(request))
    parser = MultiPartParser(
        request.headers, _bounded(request, limits), max_files=most + 1, max_fields=MOST_FIELDS
    )
    parser.spool_max_size = limits.request_bytes + 1  # photographs are not for the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_many_images(most) from error
        raise bad_form(field, error.message) from error
    try:
        files = [value for value in form.getlist(field) if isinstance(value, UploadFile)]
        if not files:
            fields = ", ".join(sorted(set(form))) or "none"
            raise bad_form(field, f"no file there; the form's fields: {fields:.200}")
        if len(files) > most:
            raise too_many_images(most)
        return [Upload(file.filename or None, await file.read()) for file in files]
    finally:
        await form.close()


def _kind(request: Request) -> str:
    return request.headers.get("content-type", RAW).partition(";")[0].strip().lower()


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body's chunks, until they are too many or come too slowly."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.request_bytes:
        raise too_large(limits)
    left = limits.request_bytes
    end = asyncio.get_running_loop().time() + limits.upload_seconds
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise slow(limits) from error
        if chunk is None:
            return
        left -= len(chunk)
        if left < 0:
            raise too_large(limits)
        yield chunk
