"""How much one server takes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from andon.errors import SettingsError


@dataclass(frozen=True)
class Limits:
    """How much one server takes, of what. Raises :class:`SettingsError` where a limit makes no sense.

    Memory is bounded by them: at most ``at_once + queue`` requests of ``request_bytes`` are held at a time, and
    ``at_once`` decoded photographs of ``pixels``.
    """

    request_bytes: int = 64 * 2**20  # of one request's body: one image, or all images of a batch
    pixels: int = 50_000_000  # of one image
    batch_images: int = 32
    at_once: int = 2  # images inspected at the same time
    queue: int = 16  # requests that wait; more are refused with 503
    upload_seconds: float = 30.0  # for one request's body to arrive
    stop_seconds: int = 30  # for what is in flight to be finished after SIGTERM

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "queue" else 1
            if not value >= least:
                raise SettingsError(f"{field.name} must be at least {least}, got {value}")

    @property
    def requests(self) -> int:
        """Requests that are held at a time."""
        return self.at_once + self.queue
