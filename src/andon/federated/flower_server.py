"""The rounds over Flower: its grid as the channel to the sites, the ServerApp of a deployment, and the simulation.

Replies are taken one at a time, put into files and let go, so that memory does not grow with the sites.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from andon.errors import AndonError, DataError
from andon.federated.flower_client import answered
from andon.federated.flower_messages import ACTION, JOB, QUERY, question_content, read_reply
from andon.federated.rounds import run
from andon.federated.sites import Site, good_images
from andon.federated.telling import described, outcome_path, plan_from, rounds_path, write_outcome
from andon.federated.types import Outcome, Plan, Question, Reply, Report
from andon.federated.wire import pack

WATCH_SECONDS = 1.0  # between two looks at what has arrived


class GridChannel:
    """The channel over ``grid``. The first question waits for ``sites`` of them to connect, as long as for an answer again.

    ``every``: an answer that does not come is an error of the machine, not of a site; raise (simulation).
    ``folder``: where states wait as files. ``names``: of the nodes by their keys; without, they are called as they say.
    """

    def __init__(self, grid: Grid, sites: int, folder: Path, *, every: bool = False,
                 names: Mapping[int, str] | None = None) -> None:  # fmt: skip
        self.grid, self.sites, self.folder, self.every = grid, sites, folder, every
        self.invited, self.names = names, dict(names or {})
        self.begun = False

    def ask(self, question: Question, timeout: float) -> list[Reply]:
        """The replies, sorted by site; of nodes that never answered, the number is the name."""
        nodes = self._connected(0.0 if self.begun else timeout)
        self.begun = True
        if self.every and len(nodes) < self.sites:
            raise AndonError(
                f"{len(nodes)} of {self.sites} simulated sites were there within {timeout:g} s; nothing was merged"
            )
        until = time.monotonic() + timeout
        down = pack(question.state).size
        content = question_content(question)
        sent: dict[str, int] = {}
        for node in nodes:
            message = Message(content, node, QUERY, ttl=max(timeout, 1.0), group_id=str(question.number))
            sent |= {identity: node for identity in self.grid.push_messages([message])}
        del content
        replies = [self._silent(node, "it is not connected") for node in self.names if node not in nodes]
        replies += self._collect(sent, until, question.number, down, timeout)
        return sorted(replies, key=lambda reply: reply.site)

    def _connected(self, patience: float) -> list[int]:
        """The nodes that are there, once they are enough or ``patience`` seconds are over."""
        until = time.monotonic() + patience
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= self.sites or time.monotonic() >= until:
                return nodes
            time.sleep(min(WATCH_SECONDS, max(0.0, until - time.monotonic())))

    def _collect(
        self, sent: dict[str, int], until: float, number: int, down: int, timeout: float
    ) -> list[Reply]:
        replies: list[Reply] = []
        waiting = dict(sent)
        while waiting and time.monotonic() < until:
            for identity in list(waiting):
                for message in self.grid.pull_messages([identity]):
                    node = waiting.pop(message.metadata.reply_to_message_id, None)
                    if node is not None:
                        replies.append(self._read(message, node, number, down))
            if waiting:
                time.sleep(min(WATCH_SECONDS, max(0.0, until - time.monotonic())))
        if waiting and self.every:
            raise AndonError(
                f"round {number}: {len(waiting)} of {len(sent)} simulated sites gave no answer within {timeout:g} s. A worker of "
                "Ray was lost (out of memory?) and is never replaced: nothing was merged. Simulate fewer sites at once."
            )
        return replies + [self._silent(node, f"no answer within {timeout:g} s") for node in waiting.values()]

    def _read(self, message: Message, node: int, number: int, down: int) -> Reply:
        if message.has_error():
            reason = f"its process ended or could not answer (Flower's code {message.error.code}: {message.error.reason})"
            if self.every:
                raise AndonError(f"round {number}: a simulated site was lost: {reason}. Nothing was merged.")
            return self._silent(node, reason)
        file = self.folder / f"{number}-{node}.state"
        try:
            reply = read_reply(message.content, file, down)
        except DataError as error:
            return self._silent(node, str(error))
        finally:
            with suppress(OSError):  # what is mapped stays there until it is let go
                file.unlink(missing_ok=True)
        if self.invited is not None:  # a key cannot be borrowed, a name can
            return replace(reply, site=self.names.get(node, f"node {node}"))
        self.names[node] = reply.site
        return reply

    def _silent(self, node: int, reason: str) -> Reply:
        return Reply(self.names.get(node, f"node {node}"), error=reason)


# --- deployment -----------------------------------------------------------------------------------------------------------


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job that this run's settings name."""
    path = Path(str(context.run_config[JOB]))
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        plan = plan_from(told["plan"])
        with tempfile.TemporaryDirectory(prefix="andon-rounds-") as folder:
            names = {int(node): name for node, name in told["names"].items()}
            channel = GridChannel(grid, int(told["sites"]), Path(folder), names=names)
            outcome = run(
                channel,
                plan,
                checkpoint=rounds_path(path),
                resume=bool(told["resume"]),
                on_round=_log,
                check=good_images(Path(told["good"]), plan) if told.get("good") else (),
            )
        write_outcome(outcome_path(path), described(outcome))
    except AndonError as error:
        write_outcome(outcome_path(path), {"error": str(error)})
    except Exception:
        write_outcome(outcome_path(path), {"error": traceback.format_exc()})
        raise


def _log(report: Report) -> None:
    told = "andon: round %d (%s): %d sites, %d not counted, %.1f s"
    counts = (len(report.answered), len(report.refused), report.seconds)
    logging.getLogger("flwr").info(told, report.number, report.phase or report.kind, *counts)


# --- simulation -----------------------------------------------------------------------------------------------------------


def simulate(sites: Sequence[Site], plan: Plan, *, cpus: int | None = None, client: ClientApp | None = None,
             **how: Any) -> Outcome:  # fmt: skip
    """What :func:`andon.federated.rounds.run` makes of ``sites``, each in a process of its own under Flower's simulation.

    ``cpus``: processes at once (None: as many as Ray finds processors); ``how``: further keywords of ``run``. ``client``:
    in place of the app that answers for ``sites``. Raises what ``run`` raises, and :class:`AndonError` where a worker is lost.
    """
    from flwr.simulation import run_simulation

    ordered = sorted(sites, key=lambda site: site.name)
    made: list[Outcome | BaseException] = []
    server = ServerApp()

    @server.main()
    def rounds(grid: Grid, context: Context) -> None:
        with tempfile.TemporaryDirectory(prefix="andon-rounds-") as folder:
            made.append(
                _caught(lambda: run(GridChannel(grid, len(ordered), Path(folder), every=True), plan, **how))
            )

    init: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0}
    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(server, client or _client(ordered), len(ordered),
                   backend_config={"init_args": init | ({"num_cpus": cpus} if cpus else {}),
                                   "client_resources": resources})  # fmt: skip
    if not made:
        raise AndonError("the simulation ended without an answer; Ray may not have started. Try again when this machine is "
                         "less busy.")  # fmt: skip
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


def _caught(work: Callable[[], Outcome]) -> Outcome | BaseException:
    """What ``work`` gives or raises: Flower's thread would print it, and end the process its own way."""
    try:
        return work()
    except (AndonError, OSError, RuntimeError, ValueError) as error:
        return error


def _client(sites: Sequence[Site]) -> ClientApp:
    """The app of all simulated sites: which one it is, the number of its partition says."""
    client = ClientApp()

    @client.query(ACTION)
    def ask(message: Message, context: Context) -> Message:
        return answered(message, sites[int(str(context.node_config["partition-id"]))])

    return client
