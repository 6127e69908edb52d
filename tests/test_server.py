"""What andon serve answers: the contract, in one process; keys, limits, and artefacts that are exchanged."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image
from starlette.requests import Request
from starlette.types import Message

import andon
from andon.cli.serve import command
from andon.errors import AndonError, ArtifactError, MissingExtraError, SettingsError
from andon.runtime.memory import give_back_freed
from andon.runtime.server import Address, KeyFile, Limits, Shelf, add_key, routes, serve
from andon.runtime.server.app import make_app, watched
from andon.runtime.server.bodies import one_upload
from andon.runtime.server.described import recorded
from andon.runtime.server.problems import Problem
from andon.runtime.server.serving import listening
from served import SIZE, fit_part, photo

LIMITS = Limits(request_bytes=200_000, pixels=20_000, batch_images=3, at_once=1, queue=1)
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_part(tmp_path_factory.mktemp("part"))


@pytest.fixture(scope="module")
def other(part: Path) -> Path:
    """The same detector with another threshold."""
    predictor = andon.load(part, threads=1)
    calibration = replace(predictor.calibration, threshold=predictor.calibration.threshold + 1)
    return predictor.recalibrated(calibration).save(part.with_name("other.andon"))


@pytest.fixture
def folder(part: Path, tmp_path: Path) -> Path:
    """A folder with two names of one artefact."""
    place = tmp_path / "artefacts"
    place.mkdir()
    shutil.copy(part, place / "clip.andon")
    shutil.copy(part, place / "hose.andon")
    return place


@pytest.fixture(scope="module")
def client(part: Path) -> Iterator[TestClient]:
    app = watched(make_app(Shelf(part, threads=1), limits=LIMITS))
    with TestClient(app, raise_server_exceptions=False) as found:
        yield found


def problem(answer: Response, status: int, code: str) -> dict[str, str]:
    """The error, which has the one shape that all have."""
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert list(error) == ["code", "expected", "came", "to_do", "request_id"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["X-Request-Id"]
    return error


# --- verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defect", [False, True])
def test_a_verdict_is_the_predictors(client: TestClient, part: Path, defect: bool) -> None:
    data = photo(99, defect=defect)
    expected = andon.load(part, threads=1).inspect(data)
    answer = client.post("/v1/inspect", content=data, headers=PNG).json()
    assert answer["decision"] == expected.decision == ("fail" if defect else "pass")
    assert answer["score"] == expected.score
    assert answer["image_score"] == pytest.approx(expected.image_score, rel=1e-5)
    assert answer["threshold"] == expected.threshold
    assert [region["box"] for region in answer["regions"]] == [list(r.box) for r in expected.regions]
    assert (answer["sentence"], answer["height"], answer["width"]) == (expected.sentence, *SIZE)
    assert (answer["artefact"], answer["file"], answer["heatmap"]) == ("part", None, None)
    assert answer["milliseconds"] > 0


def test_a_form_is_as_good_as_a_body(client: TestClient) -> None:
    raw = client.post("/v1/inspect", content=photo(7), headers=PNG).json()
    form = client.post("/v1/inspect", files={"file": ("a.png", photo(7))}).json()
    assert form["file"] == "a.png"
    varying = {"request_id", "file", "milliseconds"}
    assert {k: v for k, v in form.items() if k not in varying} == {
        k: v for k, v in raw.items() if k not in varying
    }


def test_the_heatmap_is_a_picture_of_the_photograph(client: TestClient) -> None:
    answer = client.post("/v1/inspect?heatmap=true", content=photo(7, defect=True), headers=PNG).json()
    with Image.open(io.BytesIO(base64.b64decode(answer["heatmap"]))) as picture:
        assert (picture.format, picture.height, picture.width) == ("PNG", *SIZE)


def test_the_language_is_the_requests(client: TestClient) -> None:
    def asked(query: str = "", **headers: str) -> tuple[str, str]:
        answer = client.post(f"/v1/inspect{query}", content=photo(7), headers={**PNG, **headers})
        return answer.headers["Content-Language"], answer.json()["sentence"]

    german, french = "keine Abweichung über dem Schwellenwert", "aucun écart au-dessus du seuil"
    accept = {"Accept-Language": "it, fr-CH;q=0.8, en;q=0.5"}
    assert asked() == ("en", "no deviation above the threshold")
    assert asked("?language=de") == ("de", german)
    assert asked("", **accept) == ("fr", french)
    assert asked("?language=de", **accept) == ("de", german)
    refused = client.post("/v1/inspect?language=it", content=photo(7), headers=PNG)
    assert problem(refused, 422, "query")["came"].startswith("language: 'it' ")


def test_a_broken_image_of_a_batch_does_not_lose_the_others(client: TestClient) -> None:
    files = [
        ("files", ("a.png", photo(1))),
        ("files", ("b.png", b"no image")),
        ("files", ("c.png", photo(2, defect=True))),
    ]
    answer = client.post("/v1/batch", files=files).json()
    assert answer["counts"] == {"pass": 1, "review": 0, "fail": 1, "unread": 1}
    assert [entry["file"] for entry in answer["answers"]] == ["a.png", "b.png", "c.png"]
    assert answer["answers"][1]["error"]["code"] == "image"
    assert "cannot read these 8 bytes" in answer["answers"][1]["error"]["came"]


# --- refusals ---------------------------------------------------------------------------------------------


def test_refused_images(client: TestClient) -> None:
    def sent(data: bytes, path: str = "/v1/inspect", **headers: str) -> Response:
        return client.post(path, content=data, headers={**PNG, **headers})

    error = problem(sent(photo(1)[:500]), 422, "image")
    assert error["expected"] == "a whole image file: PNG, JPEG, TIFF, BMP, WebP, GIF or PGM/PPM"
    assert "truncated" in error["came"]
    assert "it is empty" in problem(sent(b""), 422, "image")["came"]
    error = problem(sent(bytes(200_001)), 413, "too_large")
    assert error["expected"] == "a request of at most 0.1907 MiB"
    assert (
        problem(sent(photo(1), **{"Content-Type": "text/plain"}), 415, "content_type")["came"] == "text/plain"
    )
    assert problem(sent(photo(1), "/v1/batch"), 415, "content_type")["came"] == "image/png"
    large = io.BytesIO()
    Image.new("L", (200, 101)).save(large, "PNG")
    error = problem(sent(large.getvalue()), 413, "too_many_pixels")
    assert error["came"] == "101 x 200 pixels, 0.0202 megapixels"


def test_a_body_of_unknown_length_is_counted(client: TestClient) -> None:
    chunks = (bytes(50_000) for _ in range(5))
    problem(client.post("/v1/inspect", content=chunks, headers=PNG), 413, "too_large")


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def nothing() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    request = Request({"type": "http", "method": "POST", "headers": []}, nothing)
    with pytest.raises(Problem) as refused:
        asyncio.run(one_upload(request, Limits(upload_seconds=1)))
    assert (refused.value.status, refused.value.expected) == (408, "the whole request within 1 s")


def test_refused_forms(client: TestClient) -> None:
    def sent(path: str, *fields: str) -> Response:
        return client.post(path, files=[(field, ("a.png", photo(1))) for field in fields])

    assert (
        problem(sent("/v1/inspect", "photo"), 400, "form")["came"]
        == "no file there; the form's fields: photo"
    )
    assert problem(sent("/v1/inspect", "file", "file"), 413, "too_many_images")["expected"] == "one image"
    for many in (4, 5):
        assert (
            problem(sent("/v1/batch", *["files"] * many), 413, "too_many_images")["expected"]
            == "at most 3 images"
        )
    broken = client.post("/v1/batch", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert problem(broken, 400, "form")["came"] == "Missing boundary in multipart."


def test_addresses_and_methods(client: TestClient) -> None:
    assert problem(client.get("/nothing"), 404, "address")["came"] == "GET /nothing"
    wrong = client.get("/v1/inspect")
    problem(wrong, 405, "method")
    assert wrong.headers["Allow"] == "POST"


def test_request_ids(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-Id": "part-4711"}).headers["X-Request-Id"] == "part-4711"
    made = client.get("/health", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"]
    assert len(made) == 32


def test_what_nobody_expected_is_an_answer_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(routes, "inspect_upload", broken)
    answer = client.post("/v1/inspect", content=photo(1), headers=PNG)
    assert problem(answer, 500, "failed")["came"] == "an error of the server (ZeroDivisionError)"
    assert "secret" not in answer.text


def test_a_full_queue_refuses_at_once(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun = threading.Event(), threading.Semaphore(0)
    real = routes.inspect_upload

    def slow(*arguments: Any) -> Any:
        begun.release()
        go.wait(10)
        return real(*arguments)

    monkeypatch.setattr(routes, "inspect_upload", slow)
    answers: list[int] = []
    with TestClient(watched(make_app(Shelf(part, threads=1), limits=LIMITS))) as client:

        def send() -> None:
            answers.append(client.post("/v1/inspect", content=photo(1), headers=PNG).status_code)

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert begun.acquire(timeout=5)
        while "andon_queue 1.0" not in client.get("/metrics").text:
            pass
        refused = client.post("/v1/inspect", content=photo(1), headers=PNG)
        assert problem(refused, 503, "full")["expected"] == "at most 2 requests at a time"
        assert refused.headers["Retry-After"] == "1"
        metrics = client.get("/metrics").text
        assert "andon_in_flight 2.0" in metrics
        assert 'andon_refused_total{code="full"} 1.0' in metrics
        go.set()
        for thread in threads:
            thread.join()
    assert answers == [200, 200]


# --- artefacts --------------------------------------------------------------------------------------------


def test_artefacts_are_named(folder: Path) -> None:
    with TestClient(watched(make_app(Shelf(folder, threads=1)))) as client:
        listed = client.get("/v1/artefacts").json()
        assert [entry["name"] for entry in listed["artefacts"]] == ["clip", "hose"]
        assert client.get("/v1/artefacts/hose").json() == listed["artefacts"][1]
        assert "good images" in listed["artefacts"][0]["statement"]
        assert (
            client.post("/v1/inspect?artefact=hose", content=photo(1), headers=PNG).json()["artefact"]
            == "hose"
        )
        unnamed = problem(client.post("/v1/inspect", content=photo(1), headers=PNG), 400, "artefact_missing")
        assert unnamed["expected"] == "one of the artefacts clip, hose"
        assert unnamed["to_do"] == "add to the address: ?artefact=clip"
        unknown = problem(client.get("/v1/artefacts/host"), 404, "artefact_unknown")
        assert unknown["to_do"] == "name one that is served. Did you mean 'hose'?"


def test_a_file_is_exchanged_and_a_bad_one_refused(folder: Path, other: Path) -> None:
    with TestClient(watched(make_app(Shelf(folder, threads=1), check_every=0))) as client:

        def state(name: str = "clip") -> tuple[str, float]:
            answer = client.post(f"/v1/inspect?artefact={name}", content=photo(1), headers=PNG).json()
            return answer["artefact_sha256"], answer["threshold"]

        before = state()
        assert client.post("/v1/reload").json()["changes"] == []
        shutil.copy(other, folder / "clip.andon")
        [change] = client.post("/v1/reload").json()["changes"]
        after = state()
        assert change["kind"] == "swapped"
        assert change["message"] == f"clip.andon: {after[0][:12]} is in use in place of {before[0][:12]}"
        assert after[1] == pytest.approx(before[1] + 1)
        assert state("hose") == before
        (folder / "clip.andon").write_bytes(other.read_bytes()[:-1000])
        told = client.post("/v1/reload").json()
        assert [entry["kind"] for entry in told["changes"]] == ["refused"]
        assert f"The one of before ({after[0][:12]}) stays in use." in told["problems"][0]["problem"]
        assert state() == after
        assert client.get("/ready").json() == {"ready": True, "artefacts": 2, "problems": 1}
        metrics = client.get("/metrics").text
        assert 'andon_artefact_problem{artefact="clip"} 1.0' in metrics
        assert 'andon_artefact_problem{artefact="hose"} 0.0' in metrics
        assert 'andon_artefact_changes_total{kind="refused"} 1.0' in metrics


def test_memory_of_what_was_exchanged_goes_back(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr("andon.runtime.server.service.give_back_freed", lambda: given_back.append(1))
    with TestClient(watched(make_app(Shelf(folder, threads=1), check_every=0))) as client:
        client.post("/v1/reload")
        assert not given_back
        shutil.copy(other, folder / "clip.andon")
        client.post("/v1/reload")
    assert len(given_back) == 1


def test_giving_back_does_nothing_where_the_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back_freed()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back_freed()


def test_files_that_come_and_go(folder: Path) -> None:
    shelf = Shelf(folder, threads=1)
    assert shelf.refresh() == []
    shutil.copy(folder / "clip.andon", folder / "new.andon")
    (folder / "bad.andon").write_bytes(b"PK no")
    assert [(change.name, change.kind) for change in shelf.refresh()] == [
        ("bad", "refused"),
        ("new", "added"),
    ]
    assert shelf.refresh() == []
    (folder / "clip.andon").unlink()
    assert [(change.name, change.kind) for change in shelf.refresh()] == [("clip", "gone")]
    assert shelf.refresh() == []
    assert shelf.names == ["clip", "hose", "new"]
    assert shelf.problems["clip"] == "clip.andon is gone. What was read of it stays in use."
    found = [(change.name, change.kind) for change in shelf.refresh(again=True)]
    assert found == [("bad", "refused"), ("clip", "removed")]
    assert shelf.names == ["hose", "new"]
    (folder / "bad.andon").unlink()
    assert [change.kind for change in shelf.refresh()] == ["removed"]
    assert shelf.problems == {}


def test_a_file_with_the_same_bytes_is_not_opened_again(folder: Path) -> None:
    shelf = Shelf(folder, threads=1)
    before = shelf.get("clip")
    os.utime(folder / "clip.andon", ns=(1, 1))
    assert shelf.refresh() == []
    assert shelf.get("clip") is before


def test_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no \.andon file\. Make one with: andon fit"):
        Shelf(tmp_path)
    with pytest.raises(ArtifactError, match="there is no file"):
        Shelf(tmp_path / "none.andon")
    (tmp_path / "a.andon").write_bytes(b"no")
    (tmp_path / "b.andon").write_bytes(b"no")
    with pytest.raises(
        ArtifactError,
        match=r"a\.andon is damaged or not an \.andon file .* Nor can 1 more of its files be opened\.",
    ):
        Shelf(tmp_path)


# --- keys, limits, starting -------------------------------------------------------------------------------


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    first, second = add_key(path, "line3"), add_key(path, "office")
    assert first not in path.read_text()
    keys = KeyFile(path)
    assert (keys.owner(first), keys.owner(second), keys.owner("andon_"), keys.owner("")) == (
        "line3",
        "office",
        None,
        None,
    )
    with pytest.raises(SettingsError, match="has a key named line3 already"):
        add_key(path, "line3")
    with pytest.raises(SettingsError, match="a key's name is 1 to 64 letters"):
        add_key(path, "line 3")
    path.write_text(path.read_text().splitlines()[1] + "\n# taken back: line3\n")
    keys.refresh()
    assert (keys.owner(first), keys.owner(second)) == (None, "office")
    path.write_text("office secret\n")
    with pytest.raises(SettingsError, match=r"line 1 of .* is not of the form NAME DIGEST"):
        keys.refresh()
    assert keys.owner(second) == "office"
    path.write_text("# none\n")
    with pytest.raises(SettingsError, match="holds no key"):
        KeyFile(path)


def test_who_has_no_key_is_refused(part: Path, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.txt", "line3")
    app = make_app(Shelf(part, threads=1), keys=KeyFile(tmp_path / "keys.txt"))
    with TestClient(watched(app)) as client:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": key}):
            answer = client.post("/v1/inspect", content=photo(1), headers={**PNG, **headers})
            problem(answer, 401, "key")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        right = {"Authorization": f"Bearer {key}"}
        assert client.post("/v1/inspect", content=photo(1), headers={**PNG, **right}).status_code == 200
        for path in ("/v1/artefacts", "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=right).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_limits_make_sense() -> None:
    with pytest.raises(SettingsError, match="at_once must be at least 1, got 0"):
        Limits(at_once=0)
    assert Limits(queue=0).requests == 2


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout.strip()


def test_starting_is_refused(part: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"others can reach 0\.0\.0\.0, and no API keys are asked for"):
        run(part, "--host", "0.0.0.0")
    with pytest.raises(SettingsError, match="cannot read the keys in"):
        run(part, "--keys", tmp_path / "none.txt")
    with listening(Address(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            AndonError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .* Is another server running"
        ):
            run(part, "--port", port)
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(AndonError, match="Expected PEM files"):
        run(part, "--port", 0, "--tls-certificate", tmp_path / "no.pem", "--tls-key", tmp_path / "no.pem")


def test_a_key_is_made_by_the_command(tmp_path: Path) -> None:
    key = run("--new-key", "line3", "--keys", tmp_path / "keys.txt").splitlines()[0]
    assert KeyFile(tmp_path / "keys.txt").owner(key) == "line3"


def test_without_the_extra(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"serving needs the package 'uvicorn'.*andon\[serve\]"):
        serve(Shelf(part, threads=1), Address(port=0), limits=LIMITS)


# --- what OpenAPI says ------------------------------------------------------------------------------------


def examples(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(where, its schema, the example) of every example of an answer."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json", {})
                given = [content["example"]] if "example" in content else []
                given += [entry["value"] for entry in content.get("examples", {}).values()]
                for example in given:
                    yield f"{method} {path} {status}", content["schema"], example


def test_the_examples_are_true(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    found = list(examples(schema))
    assert len(found) > 20
    for _where, part_schema, example in found:
        jsonschema.validate(example, {**part_schema, "components": schema["components"]})
    batch = [("files", ("a.png", photo(1, defect=True))), ("files", ("b.png", b"no image"))]
    real = {
        "verdict": client.post("/v1/inspect", content=photo(1, defect=True), headers=PNG),
        "batch": client.post("/v1/batch", files=batch),
        "artefacts": client.get("/v1/artefacts"),
        "artefact": client.get("/v1/artefacts/part"),
        "reload": client.post("/v1/reload"),
        "health": client.get("/health"),
        "ready": client.get("/ready"),
    }
    assert set(real) == set(recorded())
    for name, answer in real.items():
        assert shape(recorded()[name]) == shape(answer.json()), name


def shape(value: Any) -> Any:
    """The keys of an answer at all depths, each kind of a list's entries once."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        kinds = {repr(kind): kind for kind in map(shape, value)}
        return list(kinds.values())
    return ""
