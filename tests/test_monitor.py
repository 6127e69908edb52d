"""The monitor's arithmetic: p-values, bets, charts against published tables; false alarms held, drifts found and named."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from andon.errors import SettingsError
from andon.runtime.monitor import MEASURES, DriftEvent, Monitor, Reference
from andon.runtime.monitor.appearance import NAMES
from andon.runtime.monitor.charts import Chart, cusum_limit, cusum_run_length, ewma_limit, ewma_run_length
from andon.runtime.monitor.conformal import Ranks, rounded
from andon.runtime.monitor.events import advice, describe, retell
from andon.runtime.monitor.following import _noted
from andon.runtime.monitor.martingale import STAKES, Mixture, reserve
from andon.runtime.monitor.reference import Picture
from andon.runtime.monitor.watch import KEPT, Counted, History, Ranked
from andon.runtime.words import words_of
from andon.types import Verdict

IDENTITY = "00000007" * 8
VERDICT = Verdict("a.png", "pass", 0.5, 1.0, 2.0, (), "no deviation above the threshold", (64, 96))


def scores(rng: np.random.Generator, count: int) -> list[float]:
    return (2 + rng.gamma(9, 1 / 9, count)).tolist()  # type: ignore[no-any-return]


# --- p-values ---------------------------------------------------------------------------------------------------


def test_every_order_of_values_gives_other_ranks() -> None:
    """That the 24 orders of four values lead to the 24 possible sequences of ranks is what makes p-values independent."""
    sequences = Counter()
    for order in itertools.permutations((1.0, 2.0, 3.0, 4.0)):
        ranks = Ranks()
        sequences[tuple(math.floor(ranks.p_value(v, 0.5) * t) for t, v in enumerate(order, 1))] += 1
    assert len(sequences) == 24


@pytest.mark.parametrize("levels", [3, 1000])
def test_p_values_are_uniform_and_independent_after_few_calibration_scores(levels: int) -> None:
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        ranks = Ranks.of(rng.integers(levels, size=4).astype(float))
        found.append(
            [ranks.p_value(v, u) for v, u in zip(rng.integers(levels, size=12).astype(float), rng.random(12))]
        )
    p = np.array(found)
    assert stats.kstest(p.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(p[:, :-1].ravel(), p[:, 1:].ravel())[0, 1]) < 3 / math.sqrt(p.size)
    spread = p.mean(1).var() / (1 / 12 / p.shape[1])  # a shared luck of the calibration would widen it
    assert abs(spread - 1) < 4 * math.sqrt(2 / len(p))


def test_ranks_survive_as_runs() -> None:
    ranks = Ranks.of([2.0, 1.0, 2.0])
    assert ranks.to_runs() == [[1.0, 1], [2.0, 2]]
    assert Ranks.from_runs(ranks.to_runs()) == ranks


def test_rounding_keeps_the_order() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-4, 4).repeat(250))
    after = [rounded(float(v)) for v in values]
    assert after == sorted(after)
    assert np.abs(np.array(after) / values - 1).max() < 2**-13


# --- bets -------------------------------------------------------------------------------------------------------


def test_the_capital_is_a_martingale() -> None:
    """After any past, the capital's mean over a uniform p-value is the capital before."""
    bets = Mixture(STAKES)
    for x in np.random.default_rng(0).random(200) - 0.5:
        bets.bet(float(x))
    ends = []
    for p in (np.arange(400) + 0.5) / 400:
        copy = Mixture(STAKES, list(bets.staked), bets.steps, bets.peak)
        copy.bet(0.5 - float(p))
        ends.append(copy.capital)
    assert np.mean(ends) == pytest.approx(bets.capital, rel=1e-12)
    assert max(ends) <= 1.9 * bets.capital
    assert Mixture(STAKES).capital == 1


def test_the_reserve_lasts() -> None:
    assert [round(reserve(t), 2) for t in (0, 100, 10_000, 1_000_000)] == [1.0, 0.87, 0.5, 0.33]


def test_ville() -> None:
    """The capital ever reaches 20 in at most one stream in 20."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        bets = Mixture(STAKES)
        for x in (rng.random(300) - 0.5).tolist():
            bets.bet(x)
        alarms += bets.p_value <= 0.05
    assert alarms <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_a_rate_that_is_kept_to_the_last_is_no_drift_in_any_order() -> None:
    """Defects in bursts, at just the rate allowed: the capital's mean stays below 1."""
    ends = []
    for seed in range(150):
        rng, watch, burst = np.random.default_rng(seed), Counted.above(0.2), False
        for image in range(1, 151):
            if (image - 1) % 5 == 0:
                burst = bool(rng.random() < 0.2)  # five in a row, or none
            watch.add(burst, image) if (image - 1) % 5 == 0 else None
        ends.append(watch.bets.capital)
    assert np.mean(ends) < 1 + 3 * np.std(ends) / math.sqrt(len(ends))


def test_the_doubt_counts() -> None:
    watch = Counted.above(0.1, doubt=0.001)
    for image in range(1, 100):
        watch.add(True, image)
    assert watch.p_value == pytest.approx(0.001, rel=1e-3)
    assert max(1 + e * 0.9 for e in watch.bets.stakes) <= 2 + 1e-9


# --- charts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "shift", "expected"),
    [(4, 0, 168), (4, 1, 8.38), (5, 0, 465), (5, 0.5, 38.0), (5, 1, 10.4), (5, 2, 4.01)],
)  # Montgomery, Introduction to Statistical Quality Control, 6th edition, table 9.3 (slack 1/2)
def test_run_lengths_of_the_cusum(limit: float, shift: float, expected: float) -> None:
    assert cusum_run_length(limit, shift, slack=0.5) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("smoothing", "width", "shift", "expected"),
    [(0.25, 2.998, 0, 500), (0.25, 2.998, 1, 11.1), (0.1, 2.814, 0, 500), (0.1, 2.814, 1, 10.3)],
)  # Lucas and Saccucci 1990, table 3
def test_run_lengths_of_the_ewma(smoothing: float, width: float, shift: float, expected: float) -> None:
    limit = width * math.sqrt(smoothing / (2 - smoothing))
    assert ewma_run_length(limit, shift, smoothing) == pytest.approx(expected, rel=0.015)


def test_the_limits_have_the_run_length_asked_for() -> None:
    assert cusum_run_length(cusum_limit(500)) == pytest.approx(500, rel=0.01)
    assert ewma_run_length(ewma_limit(500)) == pytest.approx(500, rel=0.01)


def test_a_run_length_simulated() -> None:
    rng, limit, lengths = np.random.default_rng(2), cusum_limit(60), []
    for _ in range(300):
        chart, image = Chart(), 0
        while abs(chart.cusum) < limit:
            image += 1
            chart.add(float(rng.normal()), image)
        lengths.append(image)
    assert np.mean(lengths) == pytest.approx(60, rel=0.15)


def test_since_when() -> None:
    chart = Chart()
    for image, z in enumerate([-1.0] * 30 + [1.0] * 10, 1):
        chart.add(z, image)
    assert chart.since(upwards=True) == 31
    assert chart.cusum < 0  # the thirty weigh more still
    assert chart.since(upwards=False) == 1


def test_a_history_stays_small_and_even() -> None:
    history = History()
    for image in range(1, 5001):
        history.add(image, 1.0, 0.0, 0.0)
    images = [row[0] for row in history.rows]
    assert KEPT / 2 <= len(images) <= KEPT
    assert {b - a for a, b in itertools.pairwise(images)} == {history.stride}


# --- the line ---------------------------------------------------------------------------------------------------


def numbers(rng: np.random.Generator, **changed: float) -> dict[str, float]:
    return {name: float(rng.normal(0, 0.02)) + changed.get(name, 0.0) for name in NAMES}


@pytest.mark.parametrize("calibration", [0, 5, 60])
def test_false_alarms_are_held(calibration: int) -> None:
    """A tenth stated, at most a tenth seen: with few scores, with many, with defects as often as allowed."""
    streams, alarms = 60, 0
    for seed in range(streams):
        rng = np.random.default_rng([seed, calibration])
        monitor = Monitor.begin(f"{seed:08x}", scores(rng, calibration), false_alarm=0.1)
        for score in scores(rng, 100):
            monitor.add_numbers(score + 3 * (rng.random() < 0.05), {})
        alarms += bool(monitor.events)
    assert alarms <= streams * 0.1 + 3 * math.sqrt(streams * 0.09)


def test_defects_are_not_drift() -> None:
    """One part in thirty is far off: nothing is reported, and the watch of the scores never sees them."""
    with_defects, without = (Monitor.begin(IDENTITY, scores(np.random.default_rng(0), 40)) for _ in range(2))
    rng = np.random.default_rng(1)
    for image, score in enumerate(scores(rng, 600)):
        if image % 30 == 29:
            assert with_defects.add_numbers(1e6, {}) == ()
        else:
            with_defects.add_numbers(score, {})
            without.add_numbers(score, {})
    assert with_defects.events == []
    ranked, same = with_defects.watches["scores"], without.watches["scores"]
    assert isinstance(ranked, Ranked)
    assert isinstance(same, Ranked)
    assert ranked.ranks == same.ranks
    assert max(ranked.ranks.values) < with_defects.trim


def test_one_part_cannot_raise_the_alarm() -> None:
    monitor = Monitor.begin(IDENTITY, scores(np.random.default_rng(0), 40))
    for score in scores(np.random.default_rng(1), 200):
        monitor.add_numbers(score, {})
    before = {name: watch.bets.capital for name, watch in monitor.watches.items()}
    monitor.add_numbers(1e6, dict.fromkeys(NAMES, 99.0))
    assert all(watch.bets.capital <= 2 * before[name] for name, watch in monitor.watches.items())


@pytest.mark.parametrize("upwards", [True, False])
def test_good_parts_whose_scores_change(upwards: bool) -> None:
    rng = np.random.default_rng(3)
    monitor = Monitor.begin(IDENTITY, scores(rng, 40))
    for score in scores(rng, 300):
        monitor.add_numbers(score, {})
    for score in scores(rng, 100):
        monitor.add_numbers(score + (0.4 if upwards else -0.4), {})
    event = next(event for event in monitor.events if event.measure == "scores")
    assert event.upwards == upwards
    assert event.image > 300
    assert abs(event.since - 300) < 60
    assert event.p_value <= 0.01
    assert event.message.startswith(
        f"the scores of good parts have {'risen' if upwards else 'fallen'} from 2.9"
    )


def test_a_change_that_makes_everything_fail() -> None:
    """No score is left below the trimming level; the share of high ones says it."""
    rng = np.random.default_rng(4)
    monitor = Monitor.begin(IDENTITY, scores(rng, 40))
    for score in scores(rng, 100):
        monitor.add_numbers(score, {})
    for score in scores(rng, 60):
        monitor.add_numbers(score + 50, {})
    assert [event.measure for event in monitor.events] == ["rejects"]
    assert (
        "many defects, or a change that makes good parts look defective since image 1"
        in monitor.events[0].message
    )


@pytest.mark.parametrize("referenced", [True, False])
def test_a_cause_is_named(referenced: bool) -> None:
    """Brightness falls by 6 %: that is reported, and nothing else; with a reference or learned from the line."""
    rng = np.random.default_rng(5)
    rows = [numbers(rng) for _ in range(30)]
    reference = Reference({name: [row[name] for row in rows] for name in NAMES}, Picture())
    monitor = Monitor.begin(IDENTITY, scores(rng, 40), reference if referenced else None)
    for score in scores(rng, 150):
        monitor.add_numbers(score, numbers(rng))
    found: list[DriftEvent] = []
    for image, score in enumerate(scores(rng, 80), 151):
        found += monitor.add_numbers(score, numbers(rng, brightness=-0.06), f"{image}.png")
    assert [event.measure for event in found] == ["brightness"]
    assert found == monitor.events
    assert found[0].path == f"{found[0].image}.png"
    assert 150 < found[0].image < 185
    assert 140 < found[0].since < 165
    assert monitor.standing()[0].message.startswith("the photographs are darker by ")
    assert math.exp(monitor.standing()[0].now - found[0].before) == pytest.approx(0.94, abs=0.02)


def test_drift_between_the_fit_and_the_line_needs_a_reference() -> None:
    rng = np.random.default_rng(6)
    rows = [numbers(rng) for _ in range(60)]
    reference = Reference({name: [row[name] for row in rows] for name in NAMES}, Picture())
    known, learned = Monitor.begin(IDENTITY, (), reference), Monitor.begin(IDENTITY)
    for _ in range(80):
        row = numbers(rng, sharpness=-0.1)
        known.add_numbers(1.0, row)
        learned.add_numbers(1.0, row)
    assert [event.measure for event in known.events] == ["sharpness"]
    assert learned.events == []


def test_the_same_line_gives_the_same_answers() -> None:
    def run() -> Monitor:
        rng = np.random.default_rng(8)
        monitor = Monitor.begin(IDENTITY, scores(rng, 20))
        for score in scores(rng, 60):
            monitor.add_numbers(score, numbers(rng))
        return monitor

    assert run().p_values() == run().p_values()


def test_scores_that_are_all_the_same_are_no_drift() -> None:
    monitor = Monitor.begin(IDENTITY, [2.0] * 30)
    for _ in range(200):
        monitor.add_numbers(2.0, {})
    assert monitor.events == []


def test_what_is_refused() -> None:
    with pytest.raises(SettingsError, match="false_alarm: expected a share between 0 and 1"):
        Monitor.begin(IDENTITY, false_alarm=0)
    with pytest.raises(SettingsError, match="defect_rate: expected a share between 0 and 1"):
        Monitor.begin(IDENTITY, defect_rate=1.5)
    with pytest.raises(SettingsError, match="expected a finite image score, got nan"):
        Monitor.begin(IDENTITY).add_numbers(float("nan"), {})


@pytest.mark.parametrize(
    ("measure", "upwards", "before", "now", "words"),
    [
        (
            "sharpness",
            False,
            0.0,
            math.log(0.8),
            "the photographs are less sharp, edges by 20.0 % since image 7",
        ),
        ("red_green", True, 0.0, 0.03, "the colours are redder by 3.0 % of the brightness since image 7"),
        (
            "right",
            False,
            0.01,
            -0.01,
            "the parts lie farther left by 2.0 % of the picture's width since image 7",
        ),
        ("contrast", True, 0.0, -0.01, "contrast changed, and is back to usual; it changed since image 7"),
    ],
)
def test_words(measure: str, upwards: bool, before: float, now: float, words: str) -> None:
    assert describe(measure, 7, upwards, before, now) == words


@pytest.mark.parametrize("language", ["de", "fr"])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_message_and_advice_in_every_language(language: str, measure: str) -> None:
    words = words_of(language)
    for upwards in (True, False):
        now = 0.3 if upwards else -0.3
        event = DriftEvent(measure, 9, "a.png", 4310, upwards, 0.0, now, 0.001, "in English")
        told = retell(event, words)
        assert told == replace(event, message=told.message)  # the numbers stay
        assert told.message != describe(measure, 4310, upwards, 0.0, now)
        assert f"4{words['language.thousands']}310" in told.message
        assert advice(event, words) != advice(event)
    (noted,) = _noted(VERDICT, [event], words).notes
    assert noted == words["drift.note"].format(message=told.message)
