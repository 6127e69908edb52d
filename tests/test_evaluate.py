"""The evaluation loop, maps of other tools, and the tables, on a small made-up test set."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon import metrics
from andon.errors import DataError, ImageError, MetricError, SettingsError
from andon.evaluate import evaluate, format_table, metrics_csv, read_map, score_maps, scores_csv, to_json
from andon.image import resize_map
from andon.types import DefectChannel, Evaluation, Sample, ScoreRow

SIZE = (40, 60)
LIMITS = (0.05, 0.01, 0.1, 0.3, 1.0)
PIXEL_METRICS = {
    "pixel_auroc",
    "pixel_ap",
    "aupro_30",
    "auspro_1",
    "auspro_5",
    "auspro_10",
    "auspro_30",
    "auspro_100",
}
IMAGE_METRICS = {"image_auroc", "image_ap", "f1_max", "tpr_at_tnr_99", "tpr_at_tnr_95", "tpr_at_tnr_90"}
RATES = {"fpr", "fnr", "review_rate"}


class Line:
    """A test set with known maps and defects; every photograph is 40x60, every map 20x30."""

    def __init__(self, root: Path, category: str = "", seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.samples: list[Sample] = []
        self.maps: dict[Sample, np.ndarray] = {}
        self.channels: dict[Sample, list[DefectChannel]] = {}
        for kind, number in (("good", 12), ("dent", 6), ("scratch", 5)):
            for index in range(number):
                self._add(root / category / "test" / kind / f"{index:03}.png", category, kind, rng)

    def _add(self, path: Path, category: str, kind: str, rng: np.random.Generator) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
        sample = Sample(path, "test", kind != "good", category, kind)
        anomaly_map, channels = rng.normal(size=(20, 30)).astype(np.float32), []
        if sample.is_anomalous:
            mask = np.zeros(SIZE, dtype=bool)
            top, left = rng.integers(0, 30), rng.integers(0, 48)
            mask[top : top + 8, left : left + 10] = True
            channels = [DefectChannel(mask, 30.0, kind)]
            anomaly_map[top // 2 : top // 2 + 4, left // 2 : left // 2 + 5] += 1.2
        self.samples.append(sample)
        self.maps[sample], self.channels[sample] = anomaly_map, channels

    def score(self, sample: Sample) -> tuple[float, np.ndarray]:
        return float(self.maps[sample].max()), self.maps[sample]

    def read(self, sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
        assert size == SIZE
        return self.channels[sample]

    def evaluate(self, **options) -> Evaluation:
        settings = {"channels": self.read, "bootstrap": 50} | options
        return evaluate(settings.pop("samples", self.samples), settings.pop("score", self.score), **settings)


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Line:
    return Line(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def found(line) -> Evaluation:
    return line.evaluate(threshold=3.1, review_threshold=2.8)


def test_figures_are_those_of_the_metrics(line, found):
    values = {name: metric.value for name, metric in found.groups["all"].items()}
    assert set(values) == IMAGE_METRICS | PIXEL_METRICS | RATES
    scores, truth = [line.score(s)[0] for s in line.samples], [s.is_anomalous for s in line.samples]
    assert values["image_auroc"] == metrics.auroc(scores, truth)
    assert values["image_ap"] == metrics.average_precision(scores, truth)
    assert values["tpr_at_tnr_90"] == metrics.tpr_at_tnr(scores, truth, 0.9)
    maps = [resize_map(line.maps[s], SIZE) for s in line.samples]
    channels = [line.channels[s] for s in line.samples]
    spro = metrics.auspro(maps, channels, LIMITS)
    for limit in LIMITS:
        assert values[f"auspro_{100 * limit:g}"] == pytest.approx(spro[limit], abs=1e-12)
    masks = [c[0].anomaly_mask if c else None for c in channels]
    assert values["aupro_30"] == pytest.approx(metrics.aupro(maps, masks), abs=1e-12)
    assert values["pixel_auroc"] == pytest.approx(metrics.pixel_auroc(maps, masks), abs=1e-12)
    assert values["pixel_ap"] == pytest.approx(metrics.pixel_average_precision(maps, masks), abs=1e-12)


def test_a_defect_type_is_set_against_all_good_images(line, found):
    assert list(found.groups) == ["all", "defect:dent", "defect:scratch"]
    part = [s for s in line.samples if s.defect_type in ("good", "dent")]
    alone = line.evaluate(samples=part, threshold=3.1, review_threshold=2.8)
    assert found.groups["defect:dent"] == alone.groups["all"]
    assert found.settings["images"]["defect:dent"] == {"good": 12, "anomalous": 6}


def test_decisions_and_rates_at_the_deployed_threshold(line, found):
    good = [row for row in found.rows if not row.is_anomalous]
    false_alarms = sum(row.decision == "fail" for row in good)
    fpr = found.groups["all"]["fpr"]
    assert fpr.value == false_alarms / 12
    assert fpr.low < fpr.value < fpr.high
    assert fpr.note == f"{false_alarms} of 12"
    for row in found.rows:
        expected = "fail" if row.image_score > 3.1 else "review" if row.image_score > 2.8 else "pass"
        assert row.decision == expected
    reviewed = sum(row.decision == "review" for row in found.rows)
    assert reviewed
    assert found.groups["all"]["review_rate"].value == reviewed / 23
    held = sum(row.decision == "review" and row.is_anomalous for row in found.rows)
    escaped = sum(row.decision != "fail" and row.is_anomalous for row in found.rows)
    assert found.groups["all"]["fnr"].value == escaped / 11
    assert found.groups["all"]["fnr"].note == f"{escaped} of 11; {held} of these go to review"


def test_a_score_at_the_threshold_does_not_fail(line):
    scores = sorted(line.score(sample)[0] for sample in line.samples)
    got = line.evaluate(threshold=scores[-3], review_threshold=scores[-6], channels=None, bootstrap=0)
    decisions = [row.decision for row in sorted(got.rows, key=lambda row: row.image_score)]
    assert decisions[-6:] == ["pass", "review", "review", "review", "fail", "fail"]
    assert set(decisions[:-6]) == {"pass"}


@pytest.mark.parametrize("threshold", [None, float("inf")])
def test_a_line_that_only_reviews_has_a_review_rate(line, threshold):
    """Too few good images give no finite threshold; what stands out still goes to a person."""
    got = line.evaluate(threshold=threshold, review_threshold=3.0, channels=None, bootstrap=0)
    assert {row.decision for row in got.rows} == {"pass", "review"}
    reviewed = sum(row.decision == "review" for row in got.rows)
    assert got.groups["all"]["review_rate"].value == reviewed / 23
    assert got.groups["all"]["fpr"].value == (None if threshold is None else 0.0)
    assert json.loads(to_json(got))["threshold"] is None


def test_every_defined_figure_has_an_interval_around_it(found):
    for group, name in ((g, n) for g in found.groups for n in IMAGE_METRICS | PIXEL_METRICS):
        metric = found.groups[group][name]
        assert 0 <= metric.low <= metric.high <= 1, (group, name)
        assert metric.low - 0.05 <= metric.value <= metric.high + 0.05
    pixel = found.groups["all"]["aupro_30"]
    assert 0.01 < pixel.high - pixel.low < 0.5


def test_same_seed_same_evaluation(line, found):
    assert line.evaluate(threshold=3.1, review_threshold=2.8) == found
    other = line.evaluate(threshold=3.1, review_threshold=2.8, seed=1)
    assert other.groups["all"]["image_auroc"].low != found.groups["all"]["image_auroc"].low
    assert other.groups["all"]["image_auroc"].value == found.groups["all"]["image_auroc"].value


def test_order_of_the_samples_does_not_matter(line, found):
    shuffled = [line.samples[i] for i in np.random.default_rng(0).permutation(len(line.samples))]
    got = line.evaluate(samples=shuffled, threshold=3.1, review_threshold=2.8)
    for name, metric in found.groups["all"].items():
        assert got.groups["all"][name].value == pytest.approx(metric.value, abs=1e-12)


def test_without_bootstrap_figures_stand_alone(line, found):
    plain = line.evaluate(bootstrap=0, threshold=3.5)
    assert plain.groups["all"]["auspro_5"].low is None
    assert plain.groups["all"]["image_auroc"].high is None
    assert plain.groups["all"]["auspro_5"].value == found.groups["all"]["auspro_5"].value
    assert plain.groups["all"]["fpr"].low is not None  # Wilson's needs no resampling


def test_without_a_threshold_there_are_no_rates(line):
    plain = line.evaluate(bootstrap=0)
    assert {row.decision for row in plain.rows} == {None}
    for name in RATES:
        assert plain.groups["all"][name].value is None
        assert plain.groups["all"][name].note == "no threshold was given"


def test_without_channels_there_are_no_pixel_metrics(line):
    plain = line.evaluate(channels=None, bootstrap=0)
    assert plain.groups["all"]["aupro_30"].note == "no masks were asked for"
    assert set(plain.curves) == {"roc", "roc:defect:dent", "roc:defect:scratch"}


def test_a_broken_image_becomes_a_row_and_the_rest_go_on(line):
    broken, nan = line.samples[0], line.samples[1]

    def score(sample: Sample) -> tuple[float, np.ndarray]:
        if sample is broken:
            raise ImageError("truncated after 12 bytes")
        return (float("nan"), line.maps[sample]) if sample is nan else line.score(sample)

    got = line.evaluate(score=score, bootstrap=0)
    assert (got.rows[0].error, got.rows[1].error) == ("truncated after 12 bytes", "its image score is nan")
    assert np.isnan(got.rows[0].image_score)
    rest = line.evaluate(samples=line.samples[2:], bootstrap=0)
    assert got.groups == rest.groups
    assert got.settings["notes"] == ["2 images could not be scored and enter no metric"]
    assert json.loads(to_json(got))["rows"][0]["image_score"] is None


def test_an_evaluation_without_any_image_is_refused(line):
    def score(sample: Sample) -> tuple[float, None]:
        raise ImageError("not an image")

    with pytest.raises(
        MetricError, match=r"^none of 23 images could be scored; the first: .*000.png: not an image$"
    ):
        line.evaluate(score=score)
    with pytest.raises(
        MetricError, match=r"^there are no samples to evaluate: is this the data set's test split"
    ):
        line.evaluate(samples=[])


def test_a_programming_error_is_not_swallowed(line):
    with pytest.raises(ZeroDivisionError):
        line.evaluate(score=lambda sample: (1 / 0, None))


def test_images_without_masks_or_maps_enter_image_metrics_only(line):
    bare = [s for s in line.samples if s.is_anomalous][:2]
    mapless = line.samples[3]

    def channels(sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
        if sample is bare[0]:
            return []
        return [DefectChannel(np.zeros(size, bool), 1.0)] if sample is bare[1] else line.read(sample, size)

    def score(sample: Sample) -> tuple[float, np.ndarray | None]:
        value, anomaly_map = line.score(sample)
        return value, None if sample is mapless else anomaly_map

    got = line.evaluate(channels=channels, score=score, bootstrap=0)
    note = "2 of 11 anomalous images have no mask and enter image metrics only; 1 images have no anomaly map"
    assert got.groups["all"]["aupro_30"].note == note
    assert got.settings["notes"] == [note]
    assert got.groups["all"]["image_auroc"] == line.evaluate(bootstrap=0).groups["all"]["image_auroc"]
    rest = line.evaluate(samples=[s for s in line.samples if s not in (*bare, mapless)], bootstrap=0)
    assert got.groups["all"]["aupro_30"].value == rest.groups["all"]["aupro_30"].value


def test_a_broken_mask_is_named_and_left_out(line):
    bad = line.samples[-1]

    def channels(sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
        if sample is bad:
            raise DataError("mask.png is empty")
        return line.read(sample, size)

    got = line.evaluate(channels=channels, bootstrap=0)
    assert not got.rows[-1].error
    assert got.settings["notes"] == [
        "the map or mask of 1 images could not be used",
        f"{bad.path}: mask.png is empty",
    ]


def test_good_images_alone_have_a_false_alarm_rate_and_reasons_for_the_rest(line):
    got = line.evaluate(samples=[s for s in line.samples if not s.is_anomalous], threshold=3.0)
    assert got.groups["all"]["fpr"].value is not None
    assert got.groups["all"]["image_auroc"].note.startswith("all 12 images are nominal")
    assert got.groups["all"]["fnr"].note == "a false-negative rate needs at least one anomalous image"
    assert got.groups["all"]["aupro_30"].note == "no anomalous image has both a mask and an anomaly map"
    assert got.curves == {}


def test_several_categories_are_groups_too(tmp_path):
    clip, nut = Line(tmp_path, "clip", 1), Line(tmp_path, "nut", 2)
    clip.maps |= nut.maps
    clip.channels |= nut.channels
    got = clip.evaluate(samples=clip.samples + nut.samples, bootstrap=0)
    assert list(got.groups) == ["all", "clip", "nut", "defect:dent", "defect:scratch"]
    assert got.groups["nut"] == nut.evaluate(bootstrap=0).groups["all"]
    assert "spro:nut" in got.curves


def test_curves_can_be_drawn_and_their_area_is_the_figure(line, found):
    assert {"roc", "pro", "spro", "roc:defect:dent"} <= set(found.curves)
    for curve in found.curves.values():
        assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert (np.diff(curve.x) >= 0).all()
        assert len(curve.x) <= 402
    spro = found.curves["spro"]
    area = float(np.trapezoid(spro.y, spro.x))
    assert area == pytest.approx(found.groups["all"]["auspro_100"].value, abs=2e-3)


def test_a_perfect_score_warns_that_its_interval_is_a_point(line):
    got = line.evaluate(score=lambda s: (float(s.is_anomalous), line.maps[s]))
    metric = got.groups["all"]["image_auroc"]
    assert (metric.value, metric.low, metric.high) == (1.0, 1.0, 1.0)
    assert metric.note == "every resample gives the same, so the interval does not show how sure this is"


def test_progress_is_told(line):
    seen: list[tuple[int, int]] = []
    line.evaluate(bootstrap=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 23) for n in range(1, 24)]


def test_pixel_metrics_at_a_size_of_ones_own(line):
    asked = []

    def channels(sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
        asked.append(size)
        return [DefectChannel(c.anomaly_mask[::2, ::2], c.saturation_area / 4) for c in line.channels[sample]]

    got = line.evaluate(channels=channels, size=(20, 30), bootstrap=0)
    assert set(asked) == {(20, 30)}
    maps = [line.maps[s] for s in line.samples]
    masks = [line.channels[s][0].anomaly_mask[::2, ::2] if s.is_anomalous else None for s in line.samples]
    assert got.groups["all"]["aupro_30"].value == pytest.approx(metrics.aupro(maps, masks), abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spro_limits": (5,)}, r"a false-positive-rate limit must lie in \(0, 1\], not 5"),
        ({"pro_limit": 0}, r"a false-positive-rate limit must lie in \(0, 1\], not 0"),
        ({"bootstrap": -1}, "bootstrap is a number of resamples, 0 for none, not -1"),
        ({"confidence": 95}, "confidence must lie between 0 and 1, not 95"),
        (
            {"threshold": 0.5, "review_threshold": 1.0},
            "review_threshold 1.0 must not lie above the threshold 0.5",
        ),
        ({"threshold": float("nan")}, "a threshold is NaN: calibrate again, or give None for no threshold"),
        ({"size": (0, 3)}, r"size must be \(rows, columns\), both at least 1, not \(0, 3\)"),
    ],
)
def test_nonsense_options_are_refused(line, options, message):
    with pytest.raises(SettingsError, match=f"^{message}$"):
        line.evaluate(**options)


# Maps of other tools


def _write(path: Path, anomaly_map: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, anomaly_map)
    else:
        Image.fromarray(anomaly_map).save(path)


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".npy"])
@pytest.mark.parametrize("prefix", ["", "test", "clip", "clip/test"])
def test_maps_are_found_and_give_the_same_figures(tmp_path, suffix, prefix):
    line = Line(tmp_path, "clip")
    for sample in line.samples:
        _write(
            tmp_path / "maps" / prefix / sample.defect_type / f"{sample.path.stem}{suffix}", line.maps[sample]
        )
    score = score_maps(line.samples, tmp_path / "maps")
    assert line.evaluate(score=score, bootstrap=0) == line.evaluate(bootstrap=0)


def test_map_files_of_integers_keep_their_numbers(tmp_path):
    deep = np.array([[0, 65535, 300]], dtype=np.uint16)
    shallow = np.array([[0, 255, 3]], dtype=np.uint8)
    _write(tmp_path / "deep.png", deep)
    _write(tmp_path / "shallow.png", shallow)
    _write(tmp_path / "cube.npy", deep[None].astype(np.float64))
    assert read_map(tmp_path / "deep.png").tolist() == deep.tolist()
    assert read_map(tmp_path / "shallow.png").tolist() == shallow.tolist()
    cube = read_map(tmp_path / "cube.npy")
    assert (cube.dtype, cube.tolist()) == (np.float32, deep.tolist())
    resized = read_map(tmp_path / "shallow.png", resize_to=(2, 6))
    assert (resized.shape, resized.dtype) == ((2, 6), np.uint8)
    with Image.open(tmp_path / "shallow.png") as image:
        assert resized.tolist() == np.asarray(image.resize((6, 2))).tolist()


def test_a_missing_map_is_named_at_once(tmp_path):
    line = Line(tmp_path, "clip")
    for sample in line.samples[2:]:
        _write(tmp_path / "maps" / sample.defect_type / f"{sample.path.stem}.tiff", line.maps[sample])
    with pytest.raises(DataError) as caught:
        score_maps(line.samples, tmp_path / "maps")
    assert str(caught.value) == (
        f"2 of 23 images have no anomaly map in {tmp_path}/maps; the first is {line.samples[0].path}. "
        f"Expected {tmp_path}/maps/[clip/][test/]good/000.tiff (or .tif, .npy, .png)"
    )
    with pytest.raises(DataError, match=r"there is no folder of anomaly maps at .*nowhere"):
        score_maps(line.samples, tmp_path / "nowhere")


def test_two_maps_for_one_image_are_refused(tmp_path):
    sample = Line(tmp_path).samples[0]
    for suffix in (".npy", ".tiff"):
        _write(tmp_path / f"maps/good/000{suffix}", np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match=r"two anomaly maps for .*: 000.tiff and 000.npy in .*good. Keep one"):
        score_maps([sample], tmp_path / "maps")


def test_files_that_are_no_maps_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(
        DataError, match=r"colour.png is a picture of mode RGB; an anomaly map has one channel"
    ):
        read_map(tmp_path / "colour.png")
    (tmp_path / "broken.tiff").write_bytes(b"not a tiff")
    with pytest.raises(DataError, match=r"broken.tiff cannot be read as an anomaly map"):
        read_map(tmp_path / "broken.tiff")
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty.npy cannot be read as an anomaly map"):
        read_map(tmp_path / "empty.npy")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"pickled.npy cannot be read as an anomaly map"):
        read_map(tmp_path / "pickled.npy")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(
        DataError, match=r"flat.npy holds \(5,\) float64; an anomaly map is \(H, W\), real numbers"
    ):
        read_map(tmp_path / "flat.npy")


def test_image_score_of_a_map_file(tmp_path):
    sample = Line(tmp_path).samples[0]
    _write(tmp_path / "maps/good/000.npy", np.array([[1.0, 2.0], [3.0, 6.0]], np.float32))
    assert score_maps([sample], tmp_path / "maps")(sample)[0] == 6.0
    assert score_maps([sample], tmp_path / "maps", top_pixels=2)(sample)[0] == 4.5
    assert score_maps([sample], tmp_path / "maps", top_pixels=99)(sample)[0] == 3.0
    with pytest.raises(SettingsError, match=r"top_pixels must be at least 1, not 0"):
        score_maps([sample], tmp_path / "maps", top_pixels=0)


def test_golden_maps_through_the_whole_evaluation(shared_data):
    folder = shared_data / "golden"
    expected = json.loads((folder / "expected.json").read_text())["pipe_clip"]
    config = {
        c["pixel_value"]: c
        for c in json.loads((folder / "dataset/pipe_clip/defects_config.json").read_text())
    }
    samples = [
        Sample(path, "test", path.parent.name != "good", "", path.parent.name)
        for path in sorted((folder / "dataset/pipe_clip/test").glob("*/*.png"))
    ]

    def channels(sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
        found = []
        for file in sorted(
            (folder / "dataset/pipe_clip/ground_truth" / sample.defect_type / sample.path.stem).iterdir()
        ):
            with Image.open(file) as image:
                values = np.asarray(image)[..., 0]
            entry, area = config[int(values.max())], int((values > 0).sum())
            share = entry["saturation_threshold"] * (area if entry["relative_saturation"] else 1)
            found.append(DefectChannel(values > 0, int(share), entry["defect_name"]))
        return found

    score = score_maps(samples, folder / "maps/pipe_clip", resize_to=(400, 400))
    got = evaluate(samples, score, channels=channels, size=(400, 400), bootstrap=20)
    for limit, value in expected["localization"]["auc_spro"].items():
        assert got.groups["all"][f"auspro_{100 * float(limit):g}"].value == pytest.approx(value, abs=1e-3)
    for kind, figures in expected["per_subdir"].items():
        for limit, value in figures.items():
            name = f"auspro_{100 * float(limit):g}"
            assert got.groups[f"defect:{kind}"][name].value == pytest.approx(value, abs=1e-3)


# Tables


def test_csv_has_a_row_for_each_figure_and_each_image(found):
    figures = list(csv.DictReader(io.StringIO(metrics_csv(found))))
    assert len(figures) == sum(map(len, found.groups.values()))
    auroc = next(row for row in figures if (row["group"], row["metric"]) == ("all", "image_auroc"))
    assert float(auroc["value"]) == found.groups["all"]["image_auroc"].value
    scores = list(csv.DictReader(io.StringIO(scores_csv(found))))
    assert [float(row["image_score"]) for row in scores] == [row.image_score for row in found.rows]
    assert list(scores[0]) == [
        "path",
        "category",
        "defect_type",
        "is_anomalous",
        "image_score",
        "decision",
        "error",
    ]


def test_csv_text_is_never_a_formula():
    rows = (ScoreRow("=cmd()", "-1+1", "good", False, -0.5),)
    cells = scores_csv(Evaluation(rows, {"all": {}}, {})).split("\n")[1].split(",")
    assert cells == ["'=cmd()", "'-1+1", "good", "False", "-0.5", "", ""]


def test_json_is_strict_and_complete(found):
    got = json.loads(to_json(found), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert got["groups"]["all"]["auspro_5"]["value"] == found.groups["all"]["auspro_5"].value
    assert got["settings"]["spro_limits"] == list(LIMITS)
    assert got["settings"]["seed"] == 0
    assert got["threshold"] == 3.1
    assert len(got["rows"]) == 23
    assert got["curves"]["roc"]["x"][0] == 0


def test_table_for_people(found):
    lines = format_table(found).split("\n")
    assert lines[0] == "all: 12 good and 11 anomalous images"
    auroc = found.groups["all"]["image_auroc"]
    assert lines[1].split() == [
        "image",
        "AUROC",
        f"{auroc.value:.4f}",
        f"({auroc.low:.4f}",
        "to",
        f"{auroc.high:.4f})",
    ]
    head = next(line for line in lines if line.startswith("group"))
    assert "AUsPRO 5 %" in head
    dent = next(line for line in lines if line.startswith("defect:dent"))
    assert dent.split()[1:3] == ["12", "6"]
    assert f"{found.groups['defect:dent']['auspro_5'].value:.4f}" in dent
    columns = {
        line.index(f"{found.groups['all'][n].value:.4f}")
        for line, n in zip(lines[1:4], ("image_auroc", "image_ap", "f1_max"))
    }
    assert len(columns) == 1
    assert not any(line.endswith(" ") for line in lines)


def test_table_shows_a_dash_and_the_reason_for_what_is_not_defined(line):
    text = format_table(line.evaluate(bootstrap=0, channels=None))
    row = next(row for row in text.split("\n") if "AUPRO up to 30 %" in row)
    assert row.split()[-6:] == ["-", "no", "masks", "were", "asked", "for"]
