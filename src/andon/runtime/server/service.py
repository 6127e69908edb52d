"""What a running server consists of, and how a request reaches it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from andon.errors import SettingsError
from andon.runtime.memory import give_back_freed
from andon.runtime.server.backing import Backing
from andon.runtime.server.gate import Gate
from andon.runtime.server.keys import KeyFile
from andon.runtime.server.limits import Limits
from andon.runtime.server.meters import Meters
from andon.runtime.server.problems import no_key, unknown_artefact
from andon.runtime.server.shelf import Change, Shelf, Shelved

LOG = logging.getLogger("andon.serve")


@dataclass
class Service:
    """The parts of one server."""

    shelf: Shelf
    limits: Limits
    keys: KeyFile | None
    gate: Gate
    meters: Meters
    backing: Backing

    def artefact(self, name: str | None) -> Shelved:
        """The artefact ``name``, or the only one. Raises :class:`Problem`."""
        names = self.shelf.names
        if name is None and len(names) == 1:
            name = names[0]
        found = self.shelf.get(name) if name is not None else None
        if found is None:
            raise unknown_artefact(name, names)
        return found

    async def refresh(self, *, again: bool = False) -> list[Change]:
        """Look at the artefacts' files and at the keys, without holding up anyone; see :meth:`Shelf.refresh`."""
        changes = await asyncio.to_thread(self.shelf.refresh, again=again)
        if self.backing.monitors is not None and changes:
            await asyncio.to_thread(self.backing.monitors.follow, list(self.shelf))
        self.meters.changed(changes)
        if any(change.kind in ("swapped", "removed") for change in changes):
            await asyncio.to_thread(give_back_freed)
        for change in changes:
            level = logging.INFO if change.kind in ("added", "swapped") else logging.WARNING
            LOG.log(level, "artefact %s: %s", change.kind, change.message)
        if self.keys is not None:
            try:
                self.keys.refresh()
            except SettingsError as error:
                LOG.warning("the keys of before stay in use: %s", error)
        return changes

    async def watch(self, seconds: float) -> None:
        """Look at the files every ``seconds``, for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except Exception:
                LOG.exception("the artefacts' files could not be looked at; trying again")


def service_of(request: Request) -> Service:
    """The service that a request has come to."""
    service: Service = request.app.state.service
    return service


def said(request: Request) -> dict[str, Any]:
    """What the log is to say of a request, besides the usual."""
    found: dict[str, Any] = request.scope["state"].setdefault("said", {})
    return found


Here = Annotated[Service, Depends(service_of)]
_bearer = HTTPBearer(auto_error=False, description="Made with: andon serve --new-key NAME --keys FILE")


def require_key(
    request: Request,
    service: Here,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse a request without a key that is known. Raises :class:`Problem`."""
    owner = service.keys.owner(credentials.credentials) if service.keys and credentials else None
    if owner is None:
        raise no_key()
    said(request)["key"] = owner
