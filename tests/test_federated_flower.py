"""The rounds over Flower's messages, on a grid in this process; keys; what is refused before Flower is started.

The simulation and the three processes on loopback themselves: benchmarks/federated_deployment.py.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from andon.errors import AndonError, DataError, SettingsError
from andon.federated import Contribution, Plan, Question, Reply, run
from andon.federated.flower_messages import OURS, question_content, read_question, read_reply, reply_content
from andon.federated.keys import make_keys

os.environ.update(OURS)
flwr_app = pytest.importorskip("flwr.app")

from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

from andon.federated import deployment  # noqa: E402
from andon.federated.deployment import join, require_files, serve, write_bundle  # noqa: E402
from andon.federated.flower_server import GridChannel  # noqa: E402

SIZE = (32, 64)
PLAN = Plan("padim", {"dimensions": 6}, SIZE, min_sites=2, timeout=5.0)


class DrawnSite:
    """A site that holds random numbers in place of photographs."""

    def __init__(self, name: str, images: int) -> None:
        self.name, self.images = name, images

    def answer(self, question: Question) -> Reply:
        if question.kind == "finish":
            told = {"site": self.name, "threshold": 1.0, "target_rate": 0.01, "promised_rate": 0.1,
                    "calibration_images": 5, "statement": "as told"}  # fmt: skip
            return Reply(self.name, images=5, plain=told)
        from andon.federated.sites import build_detector

        detector = build_detector(question.plan)
        detector.observe(
            torch.rand(self.images, 3, *SIZE, generator=torch.Generator().manual_seed(self.images))
        )
        return Reply(self.name, detector.statistics(), self.images)


class FakeGrid:
    """Flower's grid in this process: each node is a site, or what becomes of its messages."""

    def __init__(self, nodes: dict[int, Any]) -> None:
        self.nodes = nodes
        self.waiting: dict[str, Any] = {}
        self.gone: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.nodes if node not in self.gone]

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        made = []
        for message in messages:
            identity = f"message-{len(self.waiting)}"
            self.waiting[identity] = message
            made.append(identity)
        return made

    def pull_messages(self, identities: Iterable[str]) -> list[Any]:
        return [reply for identity in identities if (reply := self._reply(identity)) is not None]

    def _reply(self, identity: str) -> Any:
        message = self.waiting[identity]
        node = self.nodes[message.metadata.dst_node_id]
        if node == "silent":
            return None
        # Flower gives a killed node's error another sender: only the message that it replies to tells whose it is
        told = SimpleNamespace(reply_to_message_id=identity, src_node_id=1)
        if node == "killed":
            error = SimpleNamespace(code=5, reason="node unavailable")
            return SimpleNamespace(metadata=told, has_error=lambda: True, error=error)
        if node == "strange":
            return SimpleNamespace(metadata=told, has_error=lambda: False, content=flwr_app.RecordDict({}))
        content = reply_content(node.answer(read_question(message.content)))
        return SimpleNamespace(metadata=told, has_error=lambda: False, content=content)


@pytest.fixture(autouse=True)
def as_a_task() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def channel(nodes: dict[int, Any], folder: Path, **more: Any) -> GridChannel:
    return GridChannel(FakeGrid(nodes), more.pop("sites", len(nodes)), folder, **more)  # type: ignore[arg-type]


# --- messages ---------------------------------------------------------------------------------------------------------------


def test_a_question_travels_whole() -> None:
    asked = Question("train", PLAN, {"w": torch.arange(6.0).reshape(2, 3)}, {"phase": 0, "begin": 0.5}, 3)
    came = read_question(question_content(asked))
    assert (came.kind, came.plan, came.plain, came.number) == ("train", PLAN, {"phase": 0, "begin": 0.5}, 3)
    assert torch.equal(came.state["w"], asked.state["w"])


def test_a_reply_travels_whole_and_waits_in_a_file(tmp_path: Path) -> None:
    said = Reply("oslo", {"total": torch.rand(40, 3)}, 7, {"note": "x"}, "")
    came = read_reply(reply_content(said), tmp_path / "state", bytes_down=11)
    assert (came.site, came.images, came.plain, came.bytes_up, came.bytes_down) == (
        "oslo",
        7,
        {"note": "x"},
        480,
        11,
    )
    assert torch.equal(came.state["total"], said.state["total"])
    assert (tmp_path / "state").stat().st_size == 480


def test_a_message_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="the message makes no sense"):
        read_question(flwr_app.RecordDict({}))


# --- the grid ---------------------------------------------------------------------------------------------------------------


def test_rounds_over_the_grid(tmp_path: Path) -> None:
    outcome = run(channel({8: DrawnSite("turku", 6), 3: DrawnSite("bergen", 5)}, tmp_path), PLAN)
    assert [report.answered for report in outcome.reports] == [("bergen", "turku"), ("bergen", "turku")]
    assert float(outcome.state["count"]) == 11
    assert outcome.calibrations["turku"].statement == "as told"
    assert outcome.reports[0].bytes_up > 2 * 128 * 6 * 8
    assert list(tmp_path.iterdir()) == []  # nothing is left of what waited


@pytest.mark.parametrize(("trouble", "reason"), [
    ("silent", "no answer within 0.6 s"),
    ("killed", r"its process ended or could not answer \(Flower's code 5: node unavailable\)"),
    ("strange", "the message makes no sense"),
])  # fmt: skip
def test_the_round_goes_on_without_a_node_in_trouble(trouble: str, reason: str, tmp_path: Path) -> None:
    nodes = {1: DrawnSite("bergen", 5), 2: trouble, 3: DrawnSite("turku", 6)}
    replies = channel(nodes, tmp_path).ask(Question("observe", PLAN, number=1), 0.6)
    assert [reply.site for reply in replies] == ["bergen", "node 2", "turku"]
    assert re.search(reason, replies[1].error)


def test_a_site_that_left_is_named_and_may_come_back(tmp_path: Path) -> None:
    asking = channel({1: DrawnSite("bergen", 5), 2: DrawnSite("turku", 6)}, tmp_path)
    question = Question("observe", PLAN, number=1)
    asking.ask(question, 5.0)
    asking.grid.gone = {2}  # type: ignore[attr-defined]
    assert asking.ask(question, 5.0)[1] == Reply("turku", error="it is not connected")
    asking.grid.gone = set()  # type: ignore[attr-defined]
    assert asking.ask(question, 5.0)[1].images == 6


def test_a_site_is_called_after_its_key(tmp_path: Path) -> None:
    nodes = {1: DrawnSite("turku", 5), 2: DrawnSite("turku", 6)}
    asking = channel(nodes, tmp_path, names={1: "bergen", 2: "turku", 3: "oslo"})
    outcome = run(asking, PLAN)
    assert outcome.reports[0].answered == ("bergen", "turku")
    assert [(one.site, one.reason) for one in outcome.reports[0].refused] == [("oslo", "it is not connected")]
    assert {name: told.site for name, told in outcome.calibrations.items()} == {
        "bergen": "bergen",
        "turku": "turku",
    }


def test_the_first_question_waits_for_the_sites_but_not_for_ever(tmp_path: Path) -> None:
    asking = channel({1: DrawnSite("bergen", 5)}, tmp_path, sites=2)
    with pytest.raises(AndonError, match="1 sites gave an answer that counts, and 2 are needed"):
        run(asking, Plan("padim", {"dimensions": 6}, SIZE, min_sites=2, timeout=0.3))


@pytest.mark.parametrize(("trouble", "reason"), [
    ("silent", r"round 1: 1 of 2 simulated sites gave no answer within 0.3 s. A worker of Ray was lost"),
    ("killed", r"round 1: a simulated site was lost"),
])  # fmt: skip
def test_a_lost_simulated_worker_is_loud(trouble: str, reason: str, tmp_path: Path) -> None:
    merged: list[Contribution] = []
    with pytest.raises(AndonError, match=reason):
        run(channel({1: DrawnSite("bergen", 5), 2: trouble}, tmp_path, every=True),
            Plan("padim", {"dimensions": 6}, SIZE, timeout=0.3),
            aggregate=lambda found: merged.extend(found) or {})  # type: ignore[func-returns-value]  # fmt: skip
    assert merged == []


def test_a_simulated_site_that_never_came_is_loud(tmp_path: Path) -> None:
    asking = channel({1: DrawnSite("bergen", 5)}, tmp_path, sites=2, every=True)
    with pytest.raises(
        AndonError, match="1 of 2 simulated sites were there within 0.2 s; nothing was merged"
    ):
        asking.ask(Question("observe", PLAN, number=1), 0.2)


# --- keys, and what is refused before anything starts -----------------------------------------------------------------------


def test_keys_are_what_tls_and_flower_take(tmp_path: Path) -> None:
    import ssl

    folders = make_keys(tmp_path / "keys", ["oslo", "bergen"], ["127.0.0.1", "andon.example.com"])
    server, oslo, bergen = folders
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / "server.pem", server / "server.key")
    assert (oslo / "ca.crt").read_bytes() == (server / "ca.crt").read_bytes()
    assert (server / "oslo.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert (oslo / "site.key").read_bytes() != (bergen / "site.key").read_bytes()
    for secret in (server / "server.key", oslo / "site.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(SettingsError, match="is not empty"):
        make_keys(tmp_path / "keys", ["oslo"], ["127.0.0.1"])


@pytest.mark.parametrize(("host", "other_authority", "accepted"), [
    ("localhost", False, True), ("elsewhere.example", False, False), ("localhost", True, False)])  # fmt: skip
def test_a_site_trusts_its_own_server_alone(
    host: str, other_authority: bool, accepted: bool, tmp_path: Path
) -> None:
    import ssl

    server, oslo = make_keys(tmp_path / "keys", ["oslo"], ["localhost"])
    if other_authority:
        oslo = make_keys(tmp_path / "others", ["oslo"], ["localhost"])[1]
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(server / "server.pem", server / "server.key")
    ours = ssl.create_default_context(cafile=str(oslo / "ca.crt"))
    assert shaken(ours, theirs, host) is accepted


def shaken(client: Any, server: Any, host: str) -> bool:
    """Whether the client's handshake with the server succeeds, in memory."""
    import ssl

    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)]
    done = [False, False]
    for turn in range(8):
        try:
            ends[turn % 2].do_handshake()
            done[turn % 2] = True
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return all(done)


@pytest.mark.parametrize("sites", [["server"], ["a b"], ["../x"], ["oslo", "oslo"], []])
def test_names_that_cannot_be_are_refused(sites: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        make_keys(tmp_path / "keys", sites, ["localhost"])


def test_nothing_starts_without_tls(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ca.crt is missing: .* nothing is started"):
        join(tmp_path, tmp_path, "127.0.0.1:1", tmp_path / "site.json", until=tmp_path / "x.andon")
    with pytest.raises(DataError, match=r"ca.crt is missing"):
        serve(tmp_path, tmp_path, "127.0.0.1", 1, tmp_path / "job", tmp_path / "outcome", say=print)
    (tmp_path / "ca.crt").touch()
    with pytest.raises(DataError, match=r"site.key is missing"):
        require_files(tmp_path, "ca.crt", "site.key")


def test_a_key_is_registered_when_the_server_is_up(tmp_path: Path) -> None:
    """Flower says that its server cannot be reached yet with exit status 0."""
    said = [
        f'{{"success": false, "error-message": "{deployment.NOT_YET}."}}',
        '{"success": true, "node-id": "7"}',
    ]
    alive = SimpleNamespace(poll=lambda: None)
    found = deployment._until(alive, lambda: SimpleNamespace(returncode=0, stdout=said.pop(0)), tmp_path)
    assert deployment._node(found) == 7
    with pytest.raises(AndonError, match="did not register a site's key"):
        deployment._node('{"success": false, "error-message": "no such file"}')


def test_the_bundle_is_an_app_that_calls_andon(tmp_path: Path) -> None:
    import tomllib

    app = write_bundle(tmp_path)
    told = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert told["components"] == {"serverapp": "andonapp.server:app", "clientapp": "andonapp.client:app"}
    assert "andon.federated.flower_client" in (app / "andonapp" / "client.py").read_text()


# --- the command line ---------------------------------------------------------------------------------------------------------


def test_simulate_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import andon.federated as federated
    from andon.cli.federate import command

    monkeypatch.setattr(
        federated, "sites_of_folders", lambda folders, outputs: [_with_output(f, outputs) for f in folders]
    )
    monkeypatch.setattr(federated, "InProcess", lambda sites: channel(dict(enumerate(sites)), tmp_path))
    done = CliRunner().invoke(command, ["simulate", "oslo", "bergen", "-o", str(tmp_path / "fitted"), "--no-ray", "--method",
                                        "padim", "--size", "32x64", "--set", "dimensions=6"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "round 1 (observe): 2 sites" in done.output
    assert "oslo: threshold 1; as told" in done.output
    assert (tmp_path / "fitted" / "federation.json").is_file()


def _with_output(folder: Path, outputs: Path) -> DrawnSite:
    site = DrawnSite(folder.name, 5 + len(folder.name))
    site.output = outputs / f"{folder.name}.andon"  # type: ignore[attr-defined]
    return site


def test_the_site_refuses_a_folder_without_images(tmp_path: Path) -> None:
    from andon.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["federate", "site", str(tmp_path), "-o", str(tmp_path / "a.andon"), "--keys", str(tmp_path)])
    assert stop.value.code == 2
