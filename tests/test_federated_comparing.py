"""The same sites alone, together and in one place: what is computed, what is kept, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from andon.cli import andon
from andon.data import read_channels
from andon.errors import AndonError, DataError, SettingsError
from andon.evaluate import evaluate
from andon.federated import InProcess, Plan, comparing, run
from andon.federated.answers import parts_of as answers_of
from andon.federated.cases import Case, cases_of
from andon.federated.comparing import CENTRALISED, FEDERATED, LOCAL, Cell, Scene, cells_of, compare, scorer
from andon.federated.page import write_comparison
from andon.federated.partition_files import write_partition
from andon.federated.partitions import Partition, Recipe, draw_partition
from andon.federated.sites import Site
from fakes import FakeBackbone
from plants import draw_blocks

SIZE = (32, 64)
BACKBONE = FakeBackbone()
PADIM = Plan("padim", {"backbone": BACKBONE, "dimensions": 8}, SIZE, target_rate=0.2)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_blocks(tmp_path_factory.mktemp("compared") / "blocks")


@pytest.fixture(scope="session")
def uneven(blocks: Path) -> Partition:
    return draw_partition([blocks], Recipe("dirichlet", sites=3, modes=3, alpha=0.1))


@pytest.fixture(scope="session")
def scene(uneven: Partition, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene.of(Cell(uneven, PADIM, LOCAL), tmp_path_factory.mktemp("scene"))


# --- ways -----------------------------------------------------------------------------------------------------------------


def test_moments_make_the_same_detector_federated_and_centralised(scene: Scene) -> None:
    federated, centralised = (
        scene.result(Cell(scene.partition, PADIM, way)) for way in (FEDERATED, CENTRALISED)
    )
    for name, own in federated["sites"].items():
        assert own["figures"] == pytest.approx(centralised["sites"][name]["figures"])
        assert own["threshold"] == pytest.approx(centralised["sites"][name]["threshold"], rel=1e-4)
    assert federated["bytes_up"] > 0 == centralised["bytes_up"]


def test_thresholds_are_those_that_the_sites_tell(scene: Scene) -> None:
    told = run(InProcess(list(scene.sites.values())), PADIM).calibrations
    found = scene.result(Cell(scene.partition, PADIM, FEDERATED))["sites"]
    for name, calibration in told.items():
        assert found[name]["threshold"] == pytest.approx(calibration.threshold)
        assert found[name]["promised_rate"] == pytest.approx(calibration.promised_rate)
        assert found[name]["calibration"] == calibration.calibration_images


def test_a_site_alone_is_a_fit_of_its_own_images_judged_on_its_own(scene: Scene) -> None:
    found = scene.result(Cell(scene.partition, PADIM, LOCAL))["sites"]["site-2"]
    site, share = scene.sites["site-2"], scene.shares["site-2"]
    score = scorer(site.closed(PADIM, run(InProcess([site]), PADIM).state), PADIM)
    evaluation = evaluate(share.test, lambda sample: score(sample.path), threshold=found["threshold"],
                          channels=read_channels, bootstrap=0)  # fmt: skip
    assert found["figures"]["image_auroc"] == evaluation.groups["all"]["image_auroc"].value
    assert found["figures"]["fpr"] == pytest.approx(found["false_alarms"] / found["test_good"])
    assert found["train"] + found["calibration"] == len(share.train)
    assert found["false_alarms_common"] is None


def test_a_site_that_fails_is_never_left_out_of_a_comparison(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Site.observe

    def failing(self: Site, plan: Plan) -> Any:
        if self.name == "site-2":
            raise DataError("its disk is full")
        return observe(self, plan)

    monkeypatch.setattr(Site, "observe", failing)
    with pytest.raises(
        AndonError, match=r"2 sites gave an answer that counts, and 3 are needed.*site-2.*its disk is full"
    ):
        scene.made(Cell(scene.partition, PADIM, FEDERATED))


def test_no_image_has_two_uses(scene: Scene) -> None:
    used = [path for site in scene.sites.values() for part in site.parts[:3] for path in part]
    used += [sample.path for share in scene.shares.values() for sample in share.test]
    assert len(used) == len(set(used))
    assert sorted(scene.pooled.parts.train) == sorted(
        p for site in scene.sites.values() for p in site.parts.train
    )


def test_other_weights_make_another_detector_and_observe_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = replace(scene)
    asked: list[str] = []
    observe = Site.observe
    monkeypatch.setattr(Site, "observe", lambda self, plan: (asked.append(self.name), observe(self, plan))[1])
    made = {
        rule: fresh.made(Cell(fresh.partition, PADIM, f"federated, {rule}")) for rule in ("equal", "need")
    }
    assert asked == ["site-1", "site-2", "site-3"]
    equal, need = (one.states["site-1"]["total"] / one.states["site-1"]["count"] for one in made.values())
    assert not torch.allclose(equal, need)


def test_cells_are_every_way_of_every_run(uneven: Partition) -> None:
    bank = Plan("patchcore", {"backbone": BACKBONE}, SIZE)
    found = cells_of([uneven], [PADIM, bank], 2)
    assert len(found) == 2 * (3 + 2) + 2 * (3 + 3)  # by size is how sums are merged anyway
    assert {cell.plan.seed for cell in found} == {0, 1}
    assert len({cell.key for cell in found}) == len(found)
    with pytest.raises(SettingsError, match="cannot be|no method|unknown|patchcor"):
        cells_of([uneven], [Plan("patchcor", {}, SIZE)], 1)


def test_lines_are_fitted_on_what_their_cameras_show(blocks: Path, tmp_path: Path) -> None:
    lines = draw_partition([blocks], Recipe("line", sites=2))
    one = Scene.of(Cell(lines, PADIM, LOCAL), tmp_path)
    assert all(tmp_path in path.parents for site in one.sites.values() for path in site.parts.train)
    again = Scene.of(Cell(lines, PADIM, LOCAL), tmp_path)
    assert again.shares == one.shares
    assert len(list(tmp_path.iterdir())) == 2  # written once


# --- what is kept ---------------------------------------------------------------------------------------------------------


def test_what_is_computed_is_not_computed_again(
    uneven: Partition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of([uneven], [PADIM], 1, rules=())
    with monkeypatch.context() as patched:
        patched.setattr(Scene, "result", _stopped_at(CENTRALISED, Scene.result))
        with pytest.raises(KeyboardInterrupt):
            compare(cells, tmp_path)
    asked: list[str] = []
    result = Scene.result
    monkeypatch.setattr(Scene, "result", lambda self, cell: (asked.append(cell.way), result(self, cell))[1])
    rows = compare(cells, tmp_path)
    assert asked == [CENTRALISED]
    assert [row["way"] for row in rows] == [LOCAL, FEDERATED, CENTRALISED]
    assert json.loads((tmp_path / "results.json").read_text()) == rows


def _stopped_at(way: str, result: Any) -> Any:
    def stopped(self: Scene, cell: Cell) -> Any:
        if cell.way == way:
            raise KeyboardInterrupt
        return result(self, cell)

    return stopped


def test_a_cell_that_fails_says_why_and_is_tried_again(uneven: Partition, tmp_path: Path) -> None:
    singular = replace(PADIM, settings={**PADIM.settings, "ridge": 0.0, "dimensions": 40})
    for _ in range(2):
        rows = compare([Cell(uneven, singular, CENTRALISED)], tmp_path)
        assert [row["status"] for row in rows] == ["failed"]
        assert "has no inverse with ridge=0.0" in rows[0]["error"]
    report, _ = write_comparison(tmp_path, rows, [uneven])
    text = report.read_text()
    assert "What failed, and why" in text
    assert "has no inverse" in text
    assert "nothing can be said" in text


# --- what is said ---------------------------------------------------------------------------------------------------------


def row(way: str, aurocs: Mapping[str, float], seed: int = 0, **more: Any) -> dict[str, Any]:
    sites = {
        site: {"figures": {"image_auroc": value, "fpr": 0.0, "pixel_auroc": value}, "false_alarms": 0,
               "false_alarms_common": None if way == LOCAL else 5, "test_good": 20, "test_anomalous": 10, "train": 30, "promised_rate": 0.2}
        for site, value in aurocs.items()
    }  # fmt: skip
    return {"status": "done", "scene": "iid", "by": "iid", "alpha": 0.5, "partition_seed": 0, "roots": ["set"],
            "method": "padim", "way": way, "seed": seed, "target_rate": 0.05, "size": [32, 64], "settings": {}, "rounds": 1,
            "sites": sites, "seconds": 1.0, "bytes_up": 3e6, "bytes_down": 1e6, "image_bytes": 2e6, **more}  # fmt: skip


def case(federated: list[float], centralised: list[float], local: list[float] | None = None) -> Case:
    """Runs whose two sites have these means, one 0.02 above and one below."""
    rows = [
        row(way, {"a": mean - 0.02, "b": mean + 0.02}, seed)
        for way, means in ((FEDERATED, federated), (CENTRALISED, centralised), (LOCAL, local or federated))
        for seed, mean in enumerate(means)
    ]
    return cases_of(rows)[0]


@pytest.mark.parametrize(
    ("federated", "centralised", "said"),
    [
        ([0.90, 0.91, 0.92], [0.90, 0.91, 0.92], "match"),
        ([0.90, 0.91, 0.92], [0.902, 0.911, 0.921], "match"),  # within one point, whole interval
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], "worse"),
        ([0.96, 0.97, 0.97], [0.90, 0.91, 0.92], "better"),
        ([0.85, 0.95, 0.90], [0.90, 0.91, 0.92], "open"),
        ([0.80], [0.90], "open"),  # a single run tells nothing
    ],
)
def test_what_a_difference_says(federated: list[float], centralised: list[float], said: str) -> None:
    assert case(federated, centralised).difference(FEDERATED, CENTRALISED, "image_auroc").said == said


def answers(one: Case) -> dict[str, tuple[str, ...]]:
    return {part.question: part.answer for part in answers_of([one])}


def test_answers_follow_the_results() -> None:
    good = answers(case([0.9, 0.91, 0.92], [0.9, 0.91, 0.92], [0.7, 0.71, 0.72]))
    first = good["Can federated fitting match centralised fitting?"]
    assert first[0] == "Yes: federated fitting is within one point of centralised fitting in the only case."
    assert "both give every site the same figures in every run" in first[1]
    alone = good["What does a site gain over fitting alone?"]
    assert alone[0] == "Yes: federated fitting is significantly better than fitting alone in the only case."
    assert "0 of 2 are worse off together than alone." in alone[-1]
    bad = answers(case([0.6, 0.61, 0.62], [0.9, 0.91, 0.92], [0.9, 0.91, 0.92]))
    first = bad["Can federated fitting match centralised fitting?"]
    assert first[0] == "Federated fitting is significantly worse than centralised fitting in 1."
    assert "−30.0\u00a0points" in first[1]
    assert "2 of 2 are worse off" in bad["What does a site gain over fitting alone?"][-1]


def test_single_runs_are_said_to_tell_nothing() -> None:
    first = answers(case([0.9], [0.8]))["Can federated fitting match centralised fitting?"]
    assert first[0].startswith("These runs do not tell")
    assert first[1] == "Single runs cannot tell a difference from chance."


def test_false_alarms_beyond_what_was_asked_for_are_counted() -> None:
    said = answers(case([0.9, 0.91], [0.9, 0.91]))[
        "Is every site served alike?"
    ]  # 5 of 20 fail, 5 % asked for
    assert "0 of 2 with a threshold of their own, 2 of 2 with one threshold for all" in said[-2]
    assert "2 of 2 have too few calibration images to promise what they asked for" in said[-1]


def test_statistics_larger_than_the_images_are_said_to_be() -> None:
    said = " ".join(answers(case([0.9], [0.9]))["What travels, and how long does it take?"])
    assert "2 times" in said
    assert "saves no traffic" in said


def test_runs_of_several_partitions_are_paired_by_their_seeds() -> None:
    rows = [
        row(way, {"a": 0.9 + 0.01 * seed}, seed=0, partition_seed=seed)
        for way in (FEDERATED, CENTRALISED)
        for seed in (0, 1)
    ]
    one = cases_of(rows)[0]
    assert one.values(FEDERATED, "image_auroc") == [0.9, 0.91]
    assert one.sites == []  # not the same sites in both
    assert one.difference(FEDERATED, CENTRALISED, "image_auroc").by.mean == 0


def test_the_command_writes_page_and_markdown(
    blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = [
        draw_partition([blocks], Recipe("dirichlet", sites=2, modes=3, alpha=alpha)) for alpha in (0.1, 10)
    ]
    for number, partition in enumerate(curve):
        write_partition(tmp_path / f"{number}.json", partition)
    monkeypatch.setattr(comparing.Scene, "result", lambda self, cell: _drawn(cell))
    words = [
        "federate",
        "compare",
        str(tmp_path / "0.json"),
        str(tmp_path / "1.json"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(
        andon, [*words, "--method", "padim", "--seeds", "2", "--size", "32x64"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "dirichlet, alpha 0.1, padim, federated, equal, seed 1: image AUROC" in done.output
    page = (tmp_path / "out" / "report.html").read_text()
    for question in (
        "Can federated fitting match",
        "What does it cost when sites differ?",
        "Do other weights",
        "Who holds what?",
    ):
        assert question in page
    assert page.count("<svg") == 4 + 2  # ways, curve, false alarms, front; two partitions
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| dirichlet, alpha 0.1 | PaDiM |" in markdown


def _drawn(cell: Cell) -> dict[str, Any]:
    level = {LOCAL: 0.8, FEDERATED: 0.9, CENTRALISED: 0.91}.get(cell.way, 0.89) + 0.01 * cell.plan.seed
    found = row(cell.way, {share.name: level + 0.01 * k for k, share in enumerate(cell.partition.shares)})
    return {name: found[name] for name in ("sites", "seconds", "bytes_up", "bytes_down", "image_bytes")}


def test_the_command_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    done = CliRunner().invoke(
        andon, ["federate", "compare", str(tmp_path / "x.json"), "-o", str(tmp_path / "out")]
    )
    assert done.exit_code != 0
    assert "is not a partition" in str(done.exception or done.output)
