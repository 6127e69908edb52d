"""Every error that the server answers, in one shape: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from andon.errors import did_you_mean
from andon.runtime.server.limits import Limits

UNEXPECTED = 500
_MB = 2**20


@dataclass(eq=False)
class Problem(Exception):
    """An answer other than the one asked for. ``code`` is for programs and never changes; the rest is for people."""

    status: int
    code: str
    expected: str
    came: str
    to_do: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self, request_id: str) -> dict[str, object]:
        """The answer's JSON."""
        return {
            "error": {
                "code": self.code,
                "expected": self.expected,
                "came": self.came,
                "to_do": self.to_do,
                "request_id": request_id,
            }
        }


def no_key() -> Problem:
    """The request has no key, or one that is not in the file."""
    return Problem(
        401,
        "key",
        "the header 'Authorization: Bearer KEY' with a key that this server knows",
        "no such key",
        "ask who runs this server for a key; it is made with: andon serve --new-key NAME --keys FILE",
        {"WWW-Authenticate": "Bearer"},
    )


def full(limits: Limits, retry_after: int) -> Problem:
    """The queue is full."""
    return Problem(
        503,
        "full",
        f"at most {limits.requests} requests at a time",
        "one more",
        f"send it again in {retry_after} s; andon serve --queue and --at-once allow for more",
        {"Retry-After": str(retry_after)},
    )


def too_large(limits: Limits) -> Problem:
    """The body has more bytes than are taken."""
    return Problem(
        413,
        "too_large",
        f"a request of at most {limits.request_bytes / _MB:.4g} MiB",
        "a larger one",
        "send fewer images at once, or compressed ones; andon serve --max-mb allows for more",
    )


def too_many_pixels(limits: Limits, size: tuple[int, int]) -> Problem:
    """The image is larger than is taken; ``size`` in rows and columns."""
    return Problem(
        413,
        "too_many_pixels",
        f"an image of at most {limits.pixels / 1e6:.4g} megapixels",
        f"{size[0]} x {size[1]} pixels, {size[0] * size[1] / 1e6:.4g} megapixels",
        "send a smaller image; andon serve --max-megapixels allows for more",
    )


def too_many_images(most: int) -> Problem:
    """More files than are taken."""
    return Problem(
        413,
        "too_many_images",
        "one image" if most == 1 else f"at most {most} images",
        "more files",
        "send one image to /v1/inspect, several to /v1/batch, and more than that in several batches; "
        "andon serve --max-images allows for more",
    )


def slow(limits: Limits) -> Problem:
    """The body did not arrive in time."""
    return Problem(
        408,
        "slow",
        f"the whole request within {limits.upload_seconds:g} s",
        "a part of it",
        "send it again, or a smaller image",
    )


def wrong_type(expected: str, came: str) -> Problem:
    """The body is of another content type than can be taken."""
    return Problem(
        415,
        "content_type",
        f"the content type {expected}",
        came or "none",
        "send the image's bytes with the header 'Content-Type: image/png' (or jpeg, ...), or a form with files",
    )


def bad_form(field_name: str, came: str) -> Problem:
    """A form without what is looked for in it."""
    return Problem(
        400,
        "form",
        f"a form (multipart/form-data) with an image file in its field '{field_name}'",
        came,
        f"for example: curl -F {field_name}=@new.png URL",
    )


def unreadable(reason: str) -> Problem:
    """The image cannot be read."""
    return Problem(
        422,
        "image",
        "a whole image file: PNG, JPEG, TIFF, BMP, WebP, GIF or PGM/PPM",
        reason,
        "send the whole file, as the camera wrote it; save images of other kinds as PNG first",
    )


def unknown_artefact(name: str | None, names: Sequence[str]) -> Problem:
    """There is no such artefact, or none was named where there are several."""
    known = f"one of the artefacts {', '.join(names)}"
    if name is None:
        return Problem(
            400, "artefact_missing", known, "none named", f"add to the address: ?artefact={names[0]}"
        )
    hint = did_you_mean(name, names) or " See: GET /v1/artefacts"
    return Problem(404, "artefact_unknown", known, repr(name), f"name one that is served.{hint}")


def bad_query(came: str) -> Problem:
    """A query parameter has a value that makes no sense."""
    return Problem(422, "query", "the parameters that /openapi.json describes", came, "correct the address")


def not_here(status: int, came: str, headers: Mapping[str, str]) -> Problem:
    """No such address, or not by this method."""
    code = {404: "address", 405: "method"}.get(status, "http")
    return Problem(
        status, code, "one of the addresses in /openapi.json", came, "correct the address", headers
    )


def failed(reason: str) -> Problem:
    """The server itself went wrong."""
    return Problem(
        UNEXPECTED,
        "failed",
        "an answer",
        reason,
        "tell who runs this server the request_id: its log says more",
    )
