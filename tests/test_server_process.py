"""andon serve as a process: stopped with requests in flight, its artefact exchanged under load; and its own schema."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

import andon
from andon.runtime.server import KeyFile, Limits, Shelf, add_key
from andon.runtime.server.app import make_app, watched
from served import fit_part, photo

CLIENT = Path(__file__).resolve().parents[1] / "examples" / "rest_client.py"
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, unsupported_method, ignored_auth,
]  # fmt: skip


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_part(tmp_path_factory.mktemp("part"))


@contextlib.contextmanager
def served(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and the port that it took."""
    command = [
        sys.executable,
        "-m",
        "andon",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        "--threads",
        "1",
        "-q",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving part on http://127.0.0.1:"), (
            line,
            process.stderr and process.stderr.read(),
        )
        yield process, int(line.rsplit(":", 1)[1])
    finally:
        process.kill()
        process.communicate()


def half_a_request(port: int, body: bytes) -> socket.socket:
    """A connection over which a request has come, but only half of its body."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/inspect HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[: len(body) // 2])
    return connection


def ask(port: int, path: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
    """Status and JSON of a GET, or of a POST of ``body``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    return answer.status, json.load(answer)


def wait_for(condition: object, seconds: float = 60) -> None:
    """Wait until the function ``condition`` says yes."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


def test_sigterm_finishes_what_is_in_flight_and_cuts_off_what_does_not_end(part: Path) -> None:
    body = photo(50)
    with served(part, "--stop-seconds", 2) as (process, port):
        finishing, lost = half_a_request(port, body), half_a_request(port, body)
        wait_for(lambda: "andon_in_flight 2.0" in _metrics(port))
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(port))
        finishing.sendall(body[len(body) // 2 :])
        answer = http.client.HTTPResponse(finishing)
        answer.begin()
        assert (answer.status, json.load(answer)["decision"]) == (200, "pass")
        said = process.communicate(timeout=60)[1]
        assert "Stopped. Requests cut off after 2 s: 1." in said
        assert process.returncode == 1
        lost.close()


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def test_an_artefact_is_exchanged_under_load(part: Path, tmp_path: Path) -> None:
    predictor = andon.load(part, threads=1)
    calibration = replace(predictor.calibration, threshold=predictor.calibration.threshold + 1)
    new = predictor.recalibrated(calibration).save(tmp_path / "new.andon")
    place = Path(shutil.copy(part, tmp_path / "part.andon"))
    seen: list[list[tuple[int, object]]] = [[], []]
    stop = threading.Event()
    with served(place, "--check-every", 0.05) as (process, port):

        def hammer(answers: list[tuple[int, object]]) -> None:
            while not stop.is_set():
                status, answer = ask(port, "/v1/inspect", photo(60))
                answers.append((status, answer["threshold"]))

        threads = [threading.Thread(target=hammer, args=(answers,)) for answers in seen]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(seen))
        os.replace(new, place)
        wait_for(lambda: all(answers[-1][1] == calibration.threshold for answers in seen))
        place.with_suffix(".part").write_bytes(b"PK, but not an artefact")
        os.replace(place.with_suffix(".part"), place)
        wait_for(lambda: ask(port, "/ready")[1]["problems"] == 1)
        counts = [len(answers) for answers in seen]
        wait_for(lambda: all(len(answers) > count + 1 for answers, count in zip(seen, counts, strict=True)))
        stop.set()
        for thread in threads:
            thread.join()
        (tmp_path / "new.png").write_bytes(photo(60))
        done = subprocess.run([sys.executable, CLIENT, f"http://127.0.0.1:{port}", tmp_path / "new.png"],
                              capture_output=True, text=True)  # fmt: skip
        assert done.stdout.startswith("pass   "), done.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    for answers in seen:
        thresholds = [threshold for status, threshold in answers if status == 200]
        assert len(thresholds) == len(answers)
        assert thresholds == sorted(
            thresholds, key=lambda value: value == calibration.threshold
        )  # never back
        assert len(set(thresholds)) == 2


def test_what_is_answered_is_what_the_schema_says(part: Path, tmp_path: Path) -> None:
    """Schemathesis draws requests from the server's own schema, and judges the answers by it."""
    key = add_key(tmp_path / "keys.txt", "test")
    limits = Limits(request_bytes=100_000)
    app = make_app(Shelf(part, threads=1), limits=limits, keys=KeyFile(tmp_path / "keys.txt"), check_every=0)
    schema = schemathesis.openapi.from_asgi("/openapi.json", watched(app))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 8
    for operation in operations:

        @settings(max_examples=4, deadline=None, derandomize=True, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Case) -> None:
            case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {key}"})

        check()
