"""Results into the records: each once, whatever comes again; with the pictures that are kept; while they cannot be written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from andon.errors import AndonError, DataError, SettingsError
from andon.records import Filters, Records, open_records
from andon.runtime.line import FilesSink, RecordsSink, Result
from andon.runtime.line.contract import Part
from andon.runtime.line.inspecting import Inspection
from andon.runtime.line.moving import content_of, move_aside
from lines import Echo, Running, documents, line_of, photo, put, until

pytestmark = pytest.mark.usefixtures("quick_records")
REGION = {
    "box": [1, 2, 8, 9],
    "area": 49,
    "area_fraction": 0.01,
    "peak": 2.5,
    "peak_position": [3, 4],
    "elongation": 1.5,
}


def result(sequence: int, **changes: object) -> Result:
    """What ``andon watch`` stores of a part."""
    content = {
        "sequence": sequence, "line": "a1b2c3", "part": f"A{sequence}", "name": f"{sequence}.png", "path": f"/in/{sequence}.png",
        "group": "lot=7", "decision": "pass", "score": 0.5, "image_score": 1.25, "threshold": 2.0, "regions": [REGION],
        "sentence": "no deviation", "height": 24, "width": 32, "not_inspected": 0.0, "milliseconds": 3.5, "notes": ["a note"],
        "error": "", "inspected": f"2026-03-02T07:00:{sequence:02}.000+01:00", "sha256": "5a" * 32, "artifact": "clip.andon",
        "artifact_sha256": "c1" * 32, "overlay": "", **changes,
    }  # fmt: skip
    return Result(sequence, json.dumps(content))


@pytest.fixture
def sink(tmp_path: Path) -> RecordsSink:
    made = RecordsSink(
        str(tmp_path / "station.db"), tmp_path / "out", who="line3", moves={"fail": tmp_path / "rejects"}
    )
    made.open()
    return made


def recorded(sink: RecordsSink) -> Records:
    return open_records(sink.where, create=False)


def test_all_that_a_result_says_is_recorded(sink: RecordsSink) -> None:
    sink.deliver([result(1), result(2, decision="review", score=None, threshold=None)])
    sink.close()
    with recorded(sink) as records:
        first, second = records.each()
        assert records.verify().fits
    assert (first.who, first.part, first.image_name, first.group) == ("line3", "A1", "1.png", "lot=7")
    assert (first.line, first.sequence, first.decision, first.score) == ("a1b2c3", 1, "pass", 0.5)
    assert (first.artifact.name, first.artifact.hash, first.image_hash) == ("clip", "c1" * 32, "5a" * 32)
    assert first.at.isoformat() == "2026-03-02T06:00:01+00:00"
    assert (first.size, first.notes, first.milliseconds) == ((24, 32), ("a note",), 3.5)
    assert (first.regions[0].box, first.regions[0].elongation) == ((1, 2, 8, 9), 1.5)
    assert (second.decision, second.score, second.threshold) == ("review", None, None)


def test_what_comes_again_is_recorded_once(sink: RecordsSink) -> None:
    """As after a kill between the records' commit and the store's."""
    sink.deliver([result(1), result(2)])
    sink.close()
    again = RecordsSink(sink.where, sink.folder, who="line3")
    again.open()
    again.deliver(
        [result(1), result(2), result(3, decision="error", error="cannot read it", height=None), result(4)]
    )
    again.deliver([])
    again.close()
    with recorded(sink) as records:
        assert [row.sequence for row in records.each()] == [1, 2, 4]
        assert records.verify().fits


def test_what_has_an_overlay_is_kept_with_its_photograph(sink: RecordsSink, tmp_path: Path) -> None:
    """Wherever the photograph was moved to, and only if it is that one still."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    results = []
    for number in (1, 2, 3):
        path = tmp_path / "in" / f"{number}.png"
        path.write_bytes(photo(number))
        (tmp_path / "out" / f"{number}.png").write_bytes(b"heat %d" % number)
        digest = hashlib.sha256(photo(number)).hexdigest()
        results.append(
            result(number, decision="fail", path=str(path), sha256=digest, overlay=f"{number}.png")
        )
    (tmp_path / "rejects").mkdir()
    (tmp_path / "rejects" / "2.png").write_bytes(b"another one of that name")
    move_aside(tmp_path / "in" / "2.png", tmp_path / "rejects", results[1].content["sha256"])
    (tmp_path / "in" / "3.png").write_bytes(photo(99))
    (tmp_path / "out" / "3.png").unlink()
    sink.deliver(results)
    sink.close()
    with recorded(sink) as records:
        rows = list(records.each())
        assert [records.picture(row.image_hash) for row in rows] == [photo(1), photo(2), None]
        assert [records.picture(row.overlay_hash) for row in rows] == [b"heat 1", b"heat 2", None]
        assert rows[2].image_hash == results[2].content["sha256"]
        assert records.verify().fits


def test_a_camera_has_no_file(sink: RecordsSink) -> None:
    sink.deliver([result(1, path="2026-03-02T07-00-01", name="2026-03-02T07-00-01")])
    sink.close()
    with recorded(sink) as records:
        assert next(records.each()).image_hash is None


def test_where_a_photograph_lies(tmp_path: Path) -> None:
    assert content_of(tmp_path / "none.png", tmp_path / "nowhere", "00") is None
    assert content_of(tmp_path / "none.png", None, "00") is None


def test_records_that_cannot_be_written_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line goes on; what was inspected meanwhile is recorded afterwards, in order and once."""
    away = True
    add = Records.add_from_line

    def sometimes(self: Records, session: object, results: object) -> int:
        if away:
            raise AndonError("the disk is full.")
        return add(self, session, results)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "add_from_line", sometimes)
    monkeypatch.setattr("andon.runtime.line.courier.LONGEST_PAUSE_S", 0.1)
    folder, out = tmp_path / "in", tmp_path / "line3"
    folder.mkdir()
    put(folder, range(5))
    sink = RecordsSink(str(tmp_path / "station.db"), out, who="line3")
    said: list[str] = []
    with Running(line_of(folder, out, sinks=[FilesSink(out), sink], said=said, inspector=Whole())):
        until(lambda: len(documents(out)) == 5)
        until(
            lambda: any(
                "records: the disk is full. Results are kept and delivered later." in one for one in said
            )
        )
        away = False
        until(lambda: any("records: works again" in one for one in said))
    with recorded(sink) as records:
        assert [row.sequence for row in records.each(Filters(who="line3"))] == [1, 2, 3, 4, 5]


class Whole(Echo):
    """Stands in for an inspector whose documents have all that an inspection's have."""

    def inspect(self, part: Part) -> Inspection:
        content = result(1).content | {"name": part.name, "path": part.path, "drift": []}
        given = ("sequence", "line", "inspected", "sha256", "artifact", "artifact_sha256", "overlay")
        return Inspection("pass", {name: value for name, value in content.items() if name not in given})


def test_wrong_places_are_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, whatever its name is" * 30)
    with pytest.raises(DataError, match="is no database of records"):
        RecordsSink(str(tmp_path / "notes.txt"), tmp_path, who="line3").open()
    away = RecordsSink("postgresql://nobody@127.0.0.1:1/none", tmp_path, who="line3")
    away.open()  # a server may come later
    with pytest.raises(AndonError, match="cannot be used"):
        away.deliver([result(1)])
    with pytest.raises(SettingsError, match="names no records that can be used"):
        RecordsSink("mysql://b/c", tmp_path, who="line3").open()
