"""What happens to a line on its way: kill -9 in the middle, a broker that is away for a minute, a disk that is full.

    python benchmarks/line_faults.py [--rate 4] [--away 60] [--full 30]

Drawn photographs come into a folder all the time. ``andon watch`` runs as a process of its own, its results, store and records
on a disk of its own (a tmpfs, in a mount name space: Linux), its messages going to a broker (Mosquitto, or amqtt where it is not installed) by way of a
proxy that can be closed. It is killed and started again; the proxy is closed for ``--away`` seconds; the disk is filled to the last byte for
``--full`` seconds. At the end every photograph must have one result, one line in the log, one row in the records, whose audit
trail fits, and its message, in order. Writes benchmarks/results/line_faults.md and .json.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from line_load import Watch, documents, processor, recorded, results_in

RESULTS = Path(__file__).resolve().parent / "results"
INSIDE = "ANDON_LINE_FAULTS_INSIDE"  # set in the mount name space
DISK_MB = 64
CALM_S = 15.0  # before, between and after the faults
PATIENCE_S = 180.0  # for the last results
TOPIC = "line3"
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Proxy:
    """Passes connections on to the broker's port; closed, it cuts them all and refuses new ones."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self.open()

    def open(self) -> None:
        """Take connections."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Cut all connections."""
        for each in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of a broker in a process of its own."""
    port, settings = free_port(), folder / "broker.yaml"
    if MOSQUITTO:
        program = MOSQUITTO
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    else:
        program = str(Path(sys.executable).with_name("amqtt"))
        settings.write_text(f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
                            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n")  # fmt: skip
    with open(folder / "broker.log", "w") as log:
        process = subprocess.Popen([program, "-c", settings], stdout=log, stderr=log)
    try:
        until(lambda: _answers(port), 60)
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def until(condition: Any, seconds: float) -> bool:
    """Whether ``condition`` has come within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Listener:
    """Keeps the numbers of the results that the broker passes on, and the last status."""

    def __init__(self, port: int) -> None:
        self.numbers: list[int] = []
        self.status: dict[str, Any] = {}
        ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe(f"{TOPIC}/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda client, data, message: self._hear(
            message.topic, json.loads(message.payload)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if not ready.wait(30):
            raise SystemExit("the broker does not answer")

    def _hear(self, topic: str, content: dict[str, Any]) -> None:
        if topic == f"{TOPIC}/result":
            self.numbers.append(content["sequence"])
        else:
            self.status = content


@dataclass
class Camera:
    """Renames photographs into ``folder``, ``rate`` a second, until it is stopped."""

    folder: Path
    photos: list[bytes]
    rate: float
    count: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write until told to stop."""
        while not self.stop.wait(1 / self.rate):
            hidden = self.folder / f".{self.count:06}.png"
            hidden.write_bytes(self.photos[self.count % len(self.photos)])
            hidden.rename(self.folder / f"{self.count:06}.png")
            self.count += 1


@dataclass
class Line:
    """The line under test, and what can be done to it."""

    watch: Watch
    proxy: Proxy
    camera: Camera
    listener: Listener
    out: Path
    told: list[dict[str, Any]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """What the line says of itself; nothing where the file cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.out / "status.json").read_text())
            return found
        return {}

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Tell what was seen while the block ran: the state, and how many parts waited at most."""
        end, states, most = threading.Event(), set(), [0, 0]

        def look() -> None:
            while not end.wait(0.2):
                written, heard = self.status(), self.listener.status
                for status in (written, heard):  # a full disk has no room for the file
                    states.add(f"{status.get('state', '?')} {status.get('reason', '')[:60]}".strip())
                most[0] = max(most[0], self.camera.count - results_in(self.out))
                most[1] = max(most[1], written.get("outbox", {}).get("mqtt", 0))

        thread, start = threading.Thread(target=look), time.monotonic()
        thread.start()
        yield
        seconds = time.monotonic() - start
        end.set()
        thread.join()
        self.told.append({"fault": name, "seconds": seconds, "states": sorted(states), "parts_waiting_most": most[0],
                          "messages_waiting_most": most[1]})  # fmt: skip

    def run(self, away: float, full: float) -> None:
        """All faults, one after another, with some calm between them."""
        time.sleep(CALM_S)
        with self.fault("kill -9, and a new start"):
            self.watch.end(signal.SIGKILL)
            self.watch.start()
            time.sleep(CALM_S)
        with self.fault("broker away"):
            self.proxy.close()
            time.sleep(away)
            self.proxy.open()
        time.sleep(CALM_S)
        with self.fault("disk full"):
            filler = self.out / "filler"
            fill(filler)
            time.sleep(full / 2)
            self.watch.end(signal.SIGKILL)  # and killed while it is full
            self.watch.start()
            time.sleep(full / 2)
            filler.unlink()
        time.sleep(CALM_S)


def fill(path: Path) -> None:
    """Write to ``path`` until its disk has no room for another byte."""
    with open(path, "wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def figures(line: Line) -> dict[str, Any]:
    """What came out in the end."""
    found = documents(line.out)
    numbers = [document["sequence"] for document, _ in found]
    names = [document["name"] for document, _ in found]
    logged = [int(row.split(",")[0]) for path in sorted((line.out / "log").glob("*.csv")) for row in path.read_text().splitlines()[1:]]  # fmt: skip
    heard = list(dict.fromkeys(line.listener.numbers))
    return {
        "photographs": line.camera.count,
        "results": len(found),
        "lost": line.camera.count - len(set(names)),
        "twice": len(names) - len(set(names)),
        "numbers_without_gap": numbers == list(range(1, len(numbers) + 1)),
        "in_order": names == sorted(names),
        "log_is_the_same": logged == numbers,
        "messages_are_the_same": heard == numbers,
        "messages_again": len(line.listener.numbers) - len(heard),
        **recorded(line.out / "station.db", found),
        "faults": line.told,
    }


GOOD = ("numbers_without_gap", "in_order", "log_is_the_same", "messages_are_the_same", "records_are_the_same", "records_fit")  # fmt: skip


def page(found: dict[str, Any], options: argparse.Namespace, command: str) -> str:
    """The figures as Markdown."""
    faults = [f"| {one['fault']} | {one['seconds']:.0f} s | {'; '.join(one['states'])} | {one['parts_waiting_most']} | "
              f"{one['messages_waiting_most']} |" for one in found["faults"]]  # fmt: skip
    return "\n".join([
        "# Faults on the line", "", f"`{command}`", "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores of {processor()}, Python {platform.python_version()}. "
        f"{options.rate:g} photographs a second; the broker is {'Mosquitto' if MOSQUITTO else 'amqtt'}.", "",
        "| fault | for | the line said | parts waiting, most | messages waiting, most |", "|---|---|---|---|---|", *faults, "",
        "| photographs | results | lost | twice | messages that came again |", "|---|---|---|---|---|",
        f"| {found['photographs']:,} | {found['results']:,} | {found['lost']} | {found['twice']} | {found['messages_again']} |", "",
        *(f"- {name.replace('_', ' ')}: {'yes' if found[name] else 'NO'}" for name in GOOD), "",
    ])  # fmt: skip


def inside(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, where the results' disk can be mounted."""
    incoming, out, artifact = folder / "in", folder / "out", folder / "part.andon"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", out], check=True)
    photos = [path.read_bytes() for path in sorted((folder / "drawn").glob("*/test/*/*.png"))]
    with broker(folder) as port:
        listener, proxy = Listener(port), Proxy(port)
        camera = Camera(incoming, photos, options.rate)
        watch = Watch([
            sys.executable, "-m", "andon", "watch", str(incoming), "--artifact", str(artifact), "-o", str(out), "-q", "--threads", "1",
            "--settle", "0", "--records", str(out / "station.db"), "--mqtt", f"mqtt://127.0.0.1:{proxy.port}/{TOPIC}",
        ])  # fmt: skip
        line = Line(watch, proxy, camera, listener, out)
        watch.start()
        writing = threading.Thread(target=camera.run)
        writing.start()
        line.run(options.away, options.full)
        camera.stop.set()
        writing.join()
        until(lambda: results_in(out) == camera.count and listener.numbers[-1] == camera.count, PATIENCE_S)
        until(lambda: not any(line.status().get("outbox", {"?": 1}).values()), PATIENCE_S)
        watch.end(signal.SIGTERM)
        return figures(line)


def outside(folder: Path) -> int:
    """Draw and fit, then go on in a mount name space of its own."""
    from andon.data.synthetic import write_line

    (folder / "in").mkdir()
    (folder / "out").mkdir()
    write_line(folder / "drawn", train=40, test_good=20, per_defect=1, category="part")
    andon = [sys.executable, "-m", "andon"]
    fit = ["fit", str(folder / "drawn" / "part"), "--size", "128x128", "-o", str(folder / "part.andon"), "-q"]
    subprocess.run([*andon, *fit], check=True)
    again = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
    return subprocess.run(again, env={**os.environ, INSIDE: str(folder)}).returncode


def main() -> int:
    """Run it, print and write the figures; 1 where something was lost, came twice or does not fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=4.0, help="photographs a second")
    parser.add_argument("--away", type=float, default=60.0, help="seconds without the broker")
    parser.add_argument("--full", type=float, default=30.0, help="seconds without room on the disk")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if INSIDE not in os.environ:
        with tempfile.TemporaryDirectory() as name:
            return outside(Path(name))
    found = inside(Path(os.environ[INSIDE]), options)
    command = f"python benchmarks/line_faults.py {shlex.join(sys.argv[1:])}".strip()
    text = page(found, options, command)
    print(text)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "line_faults.md").write_text(text, encoding="utf-8")
    (options.results / "line_faults.json").write_text(json.dumps({"command": command, **found}, indent=1), encoding="utf-8")  # fmt: skip
    return int(bool(found["lost"] or found["twice"]) or not all(found[name] for name in GOOD))


if __name__ == "__main__":
    sys.exit(main())
