"""The handshake with a PLC as OPC UA variables and events, served with asyncua, the extra ``opcua``.

asyncua's licence is the LGPL-3: it is used as a library, unchanged, and only where this extra is installed.

Below ``Objects/Andon``, in the namespace ``urn:andon:line``: the variables of :data:`VARIABLES`, node identifiers
``s=Andon.Trigger`` and so on. ``Trigger``, ``PartWanted`` and ``Acknowledge`` are written by the PLC; a value of another
type is refused (BadTypeMismatch). Each result is an event (``AndonResult``) of that object, too.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line.plc import FAULTS, Handshake, Server, Shown
from andon.runtime.line.serving import START_S, STOP_S, LoopThread, require_free

NAMESPACE = "urn:andon:line"
ROOT = "Andon"
SEVERITIES = {0: 1, 1: 100, 2: 500, 3: 700, 4: 700}  # of events, by decision
# name -> OPC UA type; the first three are written by the PLC, the others read
VARIABLES = {
    "Trigger": "UInt16", "PartWanted": "String", "Acknowledge": "UInt32",
    "Heartbeat": "UInt16", "State": "UInt16", "Busy": "Boolean", "LastTrigger": "UInt16", "Fault": "UInt16",
    "FaultText": "String", "Waiting": "UInt32", "Sequence": "UInt32", "Decision": "UInt16", "Score": "Double",
    "ResultTrigger": "UInt16", "Inspected": "DateTime", "Part": "String", "Sentence": "String", "Valid": "Boolean",
}  # fmt: skip
WRITTEN = ("Trigger", "PartWanted", "Acknowledge")
OF_EVENT = ("Sequence", "Decision", "Score", "ResultTrigger", "Part", "Sentence")


def values_of(shown: Shown) -> dict[str, Any]:
    """Variable's name -> value of all that is shown."""
    return {
        "Heartbeat": shown.heartbeat, "State": shown.state, "Busy": shown.busy, "LastTrigger": shown.last_trigger,
        "Fault": shown.fault, "FaultText": FAULTS[shown.fault], "Waiting": shown.waiting, "Sequence": shown.sequence,
        "Decision": shown.decision, "Score": shown.score, "ResultTrigger": shown.trigger,
        "Inspected": datetime.fromtimestamp(shown.inspected, UTC), "Part": shown.part, "Sentence": shown.sentence,
        "Valid": shown.valid,
    }  # fmt: skip


class OpcUaServer(Server):
    """Serves at ``opc.tcp://HOST:PORT/PATH``, without encryption and to everybody who can reach the port."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = require_endpoint(endpoint)
        self._loop: LoopThread | None = None
        self._server: Any = None
        self._nodes: dict[str, Any] = {}
        self._events: Any = None
        self._last: dict[str, Any] = {}
        self._order: asyncio.Lock
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshake: Handshake

    def start(self, handshake: Handshake) -> None:
        """See :meth:`Server.start`."""
        try:
            import asyncua  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("asyncua", extra="opcua", purpose="--opcua") from error
        self._handshake = handshake
        logging.getLogger("asyncua").setLevel(
            logging.CRITICAL
        )  # what a PLC writes wrongly is told to the PLC
        try:
            parts = urlsplit(self.endpoint)
            require_free(
                str(parts.hostname), int(parts.port or 0)
            )  # asyncua finds out late, and leaves threads behind
            self._loop = LoopThread("andon-opcua")
            self._loop.call(self._begin(), START_S)
        except (OSError, OverflowError, TimeoutError) as error:
            self.stop()
            raise SettingsError(
                f"cannot serve OPC UA at {self.endpoint}: {error or 'it took too long'}. Is the port free, and is the host "
                "this computer?"
            ) from error

    def show(self, shown: Shown) -> None:
        """See :meth:`Server.show`."""
        if self._loop is not None:
            self._loop.soon(self._publish_soon, shown)

    def stop(self) -> None:
        """See :meth:`Server.stop`."""
        if self._loop is None:
            return
        if self._server is not None:
            self._loop.call(self._server.stop(), STOP_S)
        self._loop.stop()
        self._loop = self._server = None

    async def _begin(self) -> None:
        import asyncua

        ua: Any = asyncua.ua  # (its own types ask for its own integers and texts, and take plain ones)
        server: Any = asyncua.Server()
        await server.init()
        server.allow_remote_admin(False)  # else whoever calls himself admin may write everything
        server.set_endpoint(self.endpoint)
        server.set_server_name(ROOT)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await server.register_namespace(NAMESPACE)
        root = await server.nodes.objects.add_object(ua.NodeId(ROOT, space), ROOT)
        first = values_of(Shown()) | {"Trigger": 0, "PartWanted": "", "Acknowledge": 0}
        for name, kind in VARIABLES.items():
            node = await root.add_variable(
                ua.NodeId(f"{ROOT}.{name}", space), name, first[name], ua.VariantType[kind]
            )
            self._nodes[name] = node
        kinds = [(name, ua.VariantType[VARIABLES[name]]) for name in OF_EVENT]
        kind_of_event = await server.create_custom_event_type(
            space, "AndonResult", ua.ObjectIds.BaseEventType, kinds
        )
        self._events = await server.get_event_generator(kind_of_event, root)
        for name in WRITTEN:
            await self._nodes[name].set_writable()
            server.iserver.aspace.add_datachange_callback(
                self._nodes[name].nodeid, ua.AttributeIds.Value, self._written(name)
            )
        self._last, self._order = first, asyncio.Lock()
        await server.start()
        self._server = server

    def _written(self, name: str) -> Any:
        """What is called each time the PLC writes ``name``."""

        async def take_in(handle: int, value: Any) -> None:
            content = None if value.Value is None else value.Value.Value
            if content is None:  # a null: nothing is asked
                return
            if name == "Trigger":
                wanted = await self._nodes["PartWanted"].read_value()
                self._handshake.ask(content, str(wanted or "").strip())
            elif name == "Acknowledge":
                self._handshake.acknowledge(content)

        return take_in

    def _publish_soon(self, shown: Shown) -> None:
        if self._server is not None:
            task = asyncio.get_running_loop().create_task(self._publish(shown))
            self._tasks.add(task)  # (the loop itself keeps no hold of it)
            task.add_done_callback(self._tasks.discard)

    async def _publish(self, shown: Shown) -> None:
        """Write what has changed, one change after the other; ``Valid`` rises after the result and falls before it."""
        from asyncua import ua

        async with self._order:  # first come, first served
            values = values_of(shown)
            changed = [name for name, value in values.items() if value != self._last[name]]
            if "Valid" in changed and not shown.valid:
                changed.sort(key=lambda name: name != "Valid")
            for name in changed:
                variant = ua.Variant(values[name], ua.VariantType[VARIABLES[name]])
                await self._server.write_attribute_value(self._nodes[name].nodeid, ua.DataValue(variant))
            self._last |= values
            if "Sequence" in changed or ("Valid" in changed and shown.valid):
                await self._announce(values, SEVERITIES[shown.decision])

    async def _announce(self, values: dict[str, Any], severity: int) -> None:
        for name in OF_EVENT:
            setattr(self._events.event, name, values[name])
        self._events.event.Severity = severity
        await self._events.trigger(message=f"{values['Part']}: {values['Sentence']}")


def require_endpoint(text: str) -> str:
    """``text``, if OPC UA can be served there. Raises :class:`SettingsError`.

    >>> require_endpoint("opc.tcp://0.0.0.0:4840/andon")
    'opc.tcp://0.0.0.0:4840/andon'
    """
    try:
        parts = urlsplit(text)
        sound = parts.scheme == "opc.tcp" and parts.hostname and parts.port and parts.username is None
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(
            f"--opcua takes the address to serve at, such as opc.tcp://0.0.0.0:4840/andon; got {text!r}"
        )
    return text
