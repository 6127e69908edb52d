"""Downloads from a local server that resumes, refuses, drops and lies; archives that try to leave their folder."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from andon.data import transfer
from andon.data.fetch import DATASETS, FIRST_USE, RemoteDataset, RemoteFile, download, fetch, licence_text
from andon.data.layouts import LAYOUTS
from andon.data.unpack import unpack
from andon.errors import AndonError, BusyError, DataError, SettingsError
from andon.files import single_writer

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True  # whether it can resume
    drop_after: list[int] = field(
        default_factory=list
    )  # bytes sent before the connection is cut, an answer each
    status: list[int] = field(default_factory=list)  # error answers that come first
    length: bool = True  # whether it says how long the file is
    shift: list[int] = field(default_factory=list)  # how far from the range asked for it answers
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        if self.path != "/file.zip" or site.status:
            self.send_error(site.status.pop(0) if site.status else 404)
            return
        start = int(wanted[6:-1]) if wanted and site.ranges else 0
        if start >= len(site.content) and wanted:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            self.end_headers()
            return
        start += site.shift.pop(0) if start and site.shift else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        if site.length:
            self.send_header("Content-Length", str(len(site.content) - start))
        self.end_headers()
        body = site.content[start:]
        self.wfile.write(body[: site.drop_after.pop(0)] if site.drop_after else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"site": state}))
    state.url = f"http://127.0.0.1:{server.server_port}/file.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def get(site: Site, dest: Path, sha256: str = SHA256, expected_bytes: int | None = None) -> Path:
    return download(
        site.url, dest, sha256=sha256, expected_bytes=expected_bytes, progress=False, timeout=5, wait=0.001
    )


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize("sha256", [SHA256, SHA256.upper(), SHA256[:8]])
def test_download(sha256: str, site: Site, tmp_path: Path) -> None:
    dest = tmp_path / "new" / "file.zip"
    assert get(site, dest, sha256, len(CONTENT)) == dest
    assert dest.read_bytes() == CONTENT
    assert left_in(dest.parent) == {"file.zip"}
    get(site, dest, sha256)  # is there: the server is not asked again
    assert site.asked == [None]


def test_dropped_connections_are_resumed(site: Site, tmp_path: Path) -> None:
    site.drop_after = [100_000, 50_000, 0, 1]
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150001-"]


def test_part_of_an_earlier_run_is_resumed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:200_000])
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    assert site.asked == ["bytes=200000-"]


def test_complete_part_is_only_checked(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("part", [b"another file" * 1000, CONTENT + b"more"])
def test_part_of_another_file_starts_over(part: bytes, site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(part)
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(part)}-", None]


def test_server_that_cannot_resume_starts_over(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.drop_after = [100_000]
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-"]


def test_server_that_sends_another_range_starts_over(site: Site, tmp_path: Path) -> None:
    site.shift = [10]
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:200_000])
    assert get(site, tmp_path / "file.zip", FIRST_USE).read_bytes() == CONTENT
    assert site.asked == ["bytes=200000-", None]


def test_server_that_does_not_say_the_length(site: Site, tmp_path: Path) -> None:
    site.length = False
    site.drop_after = [100_000]
    assert get(site, tmp_path / "file.zip", expected_bytes=len(CONTENT)).read_bytes() == CONTENT


def test_gives_up_and_keeps_the_part(site: Site, tmp_path: Path) -> None:
    site.drop_after = [1000] + [0] * 9
    with pytest.raises(DataError) as caught:
        get(site, tmp_path / "file.zip")
    assert f"cannot download {site.url}: the connection was dropped" in str(caught.value)
    assert f"download it by hand on another machine and put it at {tmp_path / 'file.zip'}" in str(
        caught.value
    )
    assert "1000 bytes are kept in" in str(caught.value)
    assert left_in(tmp_path) == {"file.zip.part"}
    site.drop_after = []
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT


def test_wrong_hash_removes_the_file(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"its SHA-256 is {SHA256}, expected 00000000. It was removed"):
        get(site, tmp_path / "file.zip", "00000000")
    assert left_in(tmp_path) == set()
    assert site.asked == [None]


def test_wrong_hash_of_a_resumed_file_is_tried_once_more(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="It was removed"):
        get(site, tmp_path / "file.zip", "00000000")
    assert site.asked == ["bytes=1000-", None]


def test_other_file_in_the_place_is_not_touched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"file.zip is there already, but its SHA-256 is"):
        get(site, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == b"mine"


def test_wrong_size_is_refused_before_the_download(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is 300000 bytes long, expected 7\. .* nothing was downloaded"):
        get(site, tmp_path / "file.zip", expected_bytes=7)
    site.length = False
    with pytest.raises(DataError, match="sends more than the 7 bytes expected; stopped"):
        get(site, tmp_path / "file.zip", expected_bytes=7)


def test_not_found_is_said_at_once(site: Site, tmp_path: Path) -> None:
    site.status = [404]
    with pytest.raises(
        DataError, match=r"the server answered 404 Not Found. If the address has changed, download"
    ):
        get(site, tmp_path / "file.zip")
    assert len(site.asked) == 1


def test_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.status = [503, 429]
    assert get(site, tmp_path / "file.zip").read_bytes() == CONTENT
    site.status = [503] * 9
    with pytest.raises(DataError, match="the server answered 503 Service Unavailable"):
        get(site, tmp_path / "other.zip")


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot download http://127.0.0.1:9/x: .*Check the network and its proxy"
    ):
        download("http://127.0.0.1:9/x", tmp_path / "x", sha256=SHA256, progress=False, wait=0.001)
    assert left_in(tmp_path) == set()


def test_silent_server(tmp_path: Path, site: Site) -> None:
    with pytest.raises(DataError, match="timed out"):
        import socket

        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(8)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
            download(url, tmp_path / "x", sha256=SHA256, progress=False, timeout=0.05, wait=0.001)


def test_full_disk_is_not_taken_for_the_network(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer._Transfer, "_copy", full)
    with pytest.raises(DataError, match=r"cannot write .*file.zip.part: No space left on device"):
        get(site, tmp_path / "file.zip")
    assert len(site.asked) == 1


def test_two_at_once(site: Site, tmp_path: Path) -> None:
    with single_writer(tmp_path / "file.zip"), pytest.raises(BusyError, match="another process is writing"):
        get(site, tmp_path / "file.zip")


@pytest.mark.parametrize(
    ("url", "sha256"), [("file:///etc/passwd", SHA256), ("http://x/y", "abc"), ("http://x/y", "")]
)
def test_arguments_are_checked(url: str, sha256: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected an address|64 hexadecimal digits"):
        download(url, tmp_path / "x", sha256=sha256)


def test_first_use_is_printed_recorded_and_kept(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = get(site, tmp_path / "file.zip", FIRST_USE)
    assert SHA256 in capsys.readouterr().out
    assert (tmp_path / "file.zip.sha256").read_text() == f"{SHA256}  file.zip\n"
    dest.unlink()
    site.content = CONTENT[::-1]
    with pytest.raises(DataError, match=f"expected {SHA256}. It was removed"):
        get(site, dest, FIRST_USE)
    (tmp_path / "file.zip.sha256").write_text("?")
    with pytest.raises(DataError, match="should start with a SHA-256 and does not"):
        get(site, dest, FIRST_USE)


# --- archives ----------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0) << 16
            archive.writestr(info, data)
    return path


def tarred(path: Path, members: dict[str, bytes], **changes: object) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {"set/train/good/0.png": b"good", "set/test/": b"", "set/license.txt": b"CC"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_unpack_takes_off_the_wrapper(name: str, tmp_path: Path) -> None:
    files = {key: value for key, value in MEMBERS.items() if value}
    archive = (zipped if name == "a.zip" else tarred)(tmp_path / name, files)
    target = unpack(archive, tmp_path / "out" / "set")
    assert {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()} == {
        "train/good/0.png",
        "license.txt",
    }
    assert (target / "train/good/0.png").read_bytes() == b"good"
    assert left_in(tmp_path / "out") == {"set"}


def test_unpack_without_a_wrapper_and_with_folders(tmp_path: Path) -> None:
    target = unpack(
        zipped(tmp_path / "a.zip", {"train/": b"", "test/x": b"1", "__MACOSX/._x": b""}), tmp_path / "b"
    )
    assert (target / "train").is_dir()
    with pytest.raises(DataError, match="b is already there. Move it away"):
        unpack(tmp_path / "a.zip", target)


EVIL = ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt", "\\\\host\\evil.txt"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_stays_in_its_folder(name: str, kind: str, tmp_path: Path) -> None:
    members = {"ok.txt": b"ok", name: b"evil"}
    archive = (zipped if kind == "zip" else tarred)(tmp_path / f"a.{kind}", members)
    with pytest.raises(DataError, match="would be written outside its folder; refused"):
        unpack(archive, tmp_path / "deep/out")
    assert not list(tmp_path.rglob("evil*"))
    assert left_in(tmp_path / "deep") == set()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_unpack_refuses_links_and_devices(kind: bytes, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match="holds 'link', which is a link or a device; refused"):
        unpack(archive, tmp_path / "out")
    linked = zipped(tmp_path / "a.zip", {"link": b"/etc/passwd"}, {"link": 0o120777})
    with pytest.raises(DataError, match="holds 'link', which is a link or a device; refused"):
        unpack(linked, tmp_path / "out")


def test_unpack_more_than_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "a.zip", {"zeros": bytes(10_000_000)})
    monkeypatch.setattr("andon.data.unpack.shutil.disk_usage", lambda _: shutil_usage(70_000_000))
    with pytest.raises(DataError, match=r"unpacks to 0.01 GB, and .* has 0.00 GB left"):
        unpack(archive, tmp_path / "out")


def shutil_usage(free: int) -> object:
    return type("Usage", (), {"free": free})()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz"])
def test_damaged_archives_leave_nothing(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    content = {f"set/{i}.bin": rng.randbytes(2000) for i in range(5)}
    whole = (zipped if name == "a.zip" else tarred)(tmp_path / name, content).read_bytes()
    refused = 0
    for turn in range(40):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(bytes(data[: rng.randrange(len(data))]) if turn % 2 else bytes(data))
        try:
            unpack(tmp_path / name, tmp_path / f"out{turn}")
        except DataError:
            refused += 1
            assert not (tmp_path / f"out{turn}").exists()
    assert refused > 20
    assert not list(tmp_path.glob(".*"))


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match="is neither a zip nor a tar archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DataError, match="cannot unpack"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


# --- data sets -----------------------------------------------------------------------------------------------


@pytest.fixture
def clips(site: Site, tmp_path: Path) -> dict[str, RemoteDataset]:
    site.content = zipped(tmp_path / "made.zip", MEMBERS).read_bytes()
    (tmp_path / "made.zip").unlink()
    sha256 = hashlib.sha256(site.content).hexdigest()
    file = RemoteFile("clips.zip", site.url, sha256, len(site.content))
    page = "https://example.org/clips"
    data = RemoteDataset(
        "clips", "Clips", "A plant", page, "CC BY 4.0", "https://example.org/by", "mvtec_ad", (file,)
    )
    return {"clips": data}


def get_set(clips: dict[str, RemoteDataset], into: Path, accept: bool = True, **options: object) -> Path:
    return fetch("clips", into, accept, progress=False, say=lambda _: None, datasets=clips, **options)  # type: ignore[arg-type]


def changed(clips: dict[str, RemoteDataset], **changes: object) -> dict[str, RemoteDataset]:
    data = clips["clips"]
    file = RemoteFile(**(vars(data.files[0]) | changes))
    return {"clips": RemoteDataset(**(vars(data) | {"files": (file,)}))}


def test_fetch(clips: dict[str, RemoteDataset], site: Site, tmp_path: Path) -> None:
    folder = get_set(clips, tmp_path / "data")
    assert (folder / "train/good/0.png").read_bytes() == b"good"
    record = json.loads((tmp_path / "data/clips.json").read_text())["clips.zip"]
    assert (record["from"], record["sha256"], record["licence"]) == (
        site.url,
        clips["clips"].files[0].sha256,
        "CC BY 4.0",
    )
    assert get_set(clips, tmp_path / "data") == folder
    assert len(site.asked) == 1


def test_fetch_shows_the_licence_and_waits_for_it(
    clips: dict[str, RemoteDataset], site: Site, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(
        DataError, match=r"the licence of clips has not been accepted: CC BY 4.0. Read https://example"
    ):
        fetch("clips", tmp_path, say=said.append, datasets=clips)
    assert "licence: CC BY 4.0: attribution (https://example.org/by)" in said[0]
    assert said == [licence_text("clips", clips)]
    assert "publisher: A plant" in said[0]
    assert site.asked == []


def test_fetch_without_a_known_hash(clips: dict[str, RemoteDataset], tmp_path: Path) -> None:
    unknown = changed(clips, sha256=None)
    with pytest.raises(DataError, match=r"no SHA-256 of clips.zip is known.*--trust-on-first-use"):
        get_set(unknown, tmp_path)
    get_set(unknown, tmp_path, trust_on_first_use=True)
    assert (tmp_path / "clips.zip.sha256").is_file()


def test_fetch_by_hand(clips: dict[str, RemoteDataset], site: Site, tmp_path: Path) -> None:
    manual = changed(clips, url=None)
    with pytest.raises(
        DataError, match=r"cannot be downloaded by a program. .*https://example.org/clips.* put it at"
    ):
        get_set(manual, tmp_path)
    (tmp_path / "clips.zip").write_bytes(b"something else")
    with pytest.raises(DataError, match="clips.zip is there already, but its SHA-256 is"):
        get_set(manual, tmp_path)
    (tmp_path / "clips.zip").write_bytes(site.content)
    assert (get_set(manual, tmp_path) / "license.txt").is_file()
    assert site.asked == []


def test_fetch_does_not_write_over_a_folder(
    clips: dict[str, RemoteDataset], site: Site, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    with pytest.raises(DataError, match=r"clips is there already, and not by fetching clips.zip"):
        get_set(clips, tmp_path)
    assert site.asked == []


def test_fetch_of_one_part(clips: dict[str, RemoteDataset], tmp_path: Path) -> None:
    parts = changed(clips, folder="bottle")
    assert (get_set(parts, tmp_path, only=["bottle"]) / "bottle/license.txt").is_file()
    with pytest.raises(SettingsError, match="clips has no part 'cable'; it has bottle"):
        get_set(parts, tmp_path, only=["cable"])


def test_unknown_set() -> None:
    with pytest.raises(
        SettingsError, match=r"there is no public data set 'auto_vi'; .* Did you mean 'autovi'\?"
    ):
        fetch("auto_vi", "data")


def test_public_sets_are_stated_whole() -> None:
    for name, data in DATASETS.items():
        assert name == data.name
        assert data.layout in LAYOUTS
        assert data.licence
        assert data.page.startswith("http")
        assert bool(data.manual) == any(file.url is None for file in data.files)
        for file in data.files:
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.url is None or file.url.startswith("https://")


def test_errors_are_ours() -> None:
    assert not issubclass(transfer._Retry, AndonError)
