"""What the report says, in words and rows: outcomes, sentences, tables. Plain values, no HTML.

A *false alarm* is a good part that failed, an *escape* is a defective part that passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from andon.calibrate import decide, score01
from andon.metrics import wilson
from andon.types import Calibration, Decision, Evaluation, ScoreRow, Verdict

NBSP = "\u00a0"
DASH = "–"


@dataclass(frozen=True)
class Outcome:
    """One image of the report: what was decided of it and, where known, what it really is."""

    path: str
    decision: Decision | None  # None: no threshold, or could not be inspected
    image_score: float = math.nan  # raw
    score: float | None = None  # 0 to 1
    is_anomalous: bool | None = None  # None: not known
    defect_type: str = ""
    error: str = ""
    verdict: Verdict | None = None

    @property
    def inspected(self) -> bool:
        """Whether the image could be inspected."""
        return not self.error


@dataclass(frozen=True)
class Tally:
    """How many images of one kind met each decision."""

    name: str
    total: int
    passed: int
    review: int
    failed: int
    uninspected: int

    @property
    def decided(self) -> int:
        """Images with a decision."""
        return self.passed + self.review + self.failed


# --- numbers ------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """``share`` (0 to 1) in per cent, never rounded to none or to all when it is not.

    >>> percent(0.0172).replace(NBSP, " "), percent(0.0001).replace(NBSP, " "), percent(0.9999).replace(NBSP, " ")
    ('1.7 %', '<0.1 %', '>99.9 %')
    """
    value = 100 * share
    if 0 < value < 0.1:
        return f"<0.1{NBSP}%"
    if 99.9 < value < 100:
        return f">99.9{NBSP}%"
    text = f"{value:.1f}" if value < 10 or value > 90 else f"{value:.0f}"
    return text.removesuffix(".0") + f"{NBSP}%"


def fraction(value: float) -> str:
    """``value`` (0 to 1) with three decimals; 1.000 only when it is 1.

    >>> fraction(0.98765), fraction(0.99996), fraction(1.0)
    ('0.988', '>0.999', '1.000')
    """
    text = f"{value:.3f}"
    return ">0.999" if text == "1.000" and value < 1 else text


def number(value: float | None) -> str:
    """``value`` with four significant digits; a dash for none or not a number."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    return f"{value:#.4g}".rstrip(".") if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def count(amount: int, one: str, many: str | None = None) -> str:
    """``amount`` with its noun, never torn apart by a line's end.

    >>> count(1, "image").replace(NBSP, " "), count(12000, "image").replace(NBSP, " ")
    ('1 image', '12,000 images')
    """
    return f"{amount:,}{NBSP}{one if amount == 1 else many or one + 's'}"


def _range(successes: int, total: int) -> str:
    low, high = (percent(end).removesuffix(f"{NBSP}%") for end in wilson(successes, total))
    return f"{low}{DASH}{high}{NBSP}%"


# --- outcomes -----------------------------------------------------------------------------------------------


def outcomes(
    verdicts: Sequence[Verdict],
    failures: Sequence[tuple[str, str]],
    evaluation: Evaluation | None,
    calibration: Calibration,
) -> list[Outcome]:
    """One outcome per image: the evaluation's rows with their verdicts, then what has no row.

    A row without a decision gets the one that ``calibration`` makes, if it has a threshold.
    """
    by_path = {verdict.path: verdict for verdict in verdicts}
    found = [
        _from_row(row, by_path.get(row.path), calibration) for row in (evaluation.rows if evaluation else ())
    ]
    seen = {outcome.path for outcome in found}
    found += [_from_verdict(verdict) for verdict in verdicts if verdict.path not in seen]
    seen |= set(by_path)
    found += [
        Outcome(path, None, error=reason or "no reason given")
        for path, reason in failures
        if path not in seen
    ]
    return found


def _from_row(row: ScoreRow, verdict: Verdict | None, calibration: Calibration) -> Outcome:
    error = row.error or ("" if math.isfinite(row.image_score) else "its score is not a number")
    decision, score = row.decision, verdict.score if verdict else None
    if not error:
        if decision is None and math.isfinite(calibration.threshold):
            decision = decide(row.image_score, calibration)
        if score is None and calibration.nominal_scores:
            score = score01(row.image_score, calibration)
    return Outcome(row.path, None if error else decision, row.image_score, score, row.is_anomalous,
                   row.defect_type, error, verdict)  # fmt: skip


def _from_verdict(verdict: Verdict) -> Outcome:
    return Outcome(verdict.path, verdict.decision, verdict.image_score, verdict.score, verdict=verdict)


def tally(name: str, of: Iterable[Outcome]) -> Tally:
    """The decisions counted; images that could not be inspected are a count of their own."""
    of = list(of)
    counts = Counter(outcome.decision for outcome in of if outcome.inspected)
    uninspected = sum(not outcome.inspected for outcome in of)
    return Tally(name, len(of), counts["pass"], counts["review"], counts["fail"], uninspected)


# --- sentences ----------------------------------------------------------------------------------------------


def conclusion(of: Sequence[Outcome], calibration: Calibration) -> list[str]:
    """What the figures come to, in one to four plain sentences; the first one is the headline."""
    if not of:
        return ["No image was inspected."]
    everything = tally("all", of)
    if everything.uninspected == everything.total:
        return [f"None of the {count(everything.total, 'image')} could be inspected."]
    good = tally("good", (o for o in of if o.is_anomalous is False))
    bad = tally("defective", (o for o in of if o.is_anomalous))
    if good.total + bad.total:
        sentences = _known(good, bad, calibration)
    else:
        sentences = _unknown(everything, calibration)
    if everything.uninspected:
        noun = count(everything.uninspected, "image")
        sentences.append(
            f"{noun} could not be inspected and {_is(everything.uninspected)} in none of these figures."
        )
    return sentences


def _known(good: Tally, bad: Tally, calibration: Calibration) -> list[str]:
    if good.decided + bad.decided == 0:
        return [
            "There is no threshold yet, so no image passed or failed; the figures below compare scores only."
        ]
    parts = []
    if good.decided:
        noun = count(good.decided, "good part")
        parts.append(f"Of {noun} {good.failed:,} failed ({_range(good.failed, good.decided)})")
    if bad.decided:
        parts.append(
            f"of {count(bad.decided, 'defective part')} {bad.failed:,} {_was(bad.failed)} caught "
            f"({_range(bad.failed, bad.decided)})"
        )
    first = "; ".join(parts) + "."
    sentences = [first[0].upper() + first[1:]]
    if good.decided:
        sentences.append(_against_promise(good, calibration))
    if bad.decided and bad.passed:
        share = _range(bad.passed, bad.decided)
        review = f"; {bad.review} more went to review" if bad.review else ""
        sentences.append(f"{count(bad.passed, 'defective part')} passed unnoticed ({share}){review}.")
    elif bad.decided:
        review = (
            f": the {'other' if bad.review == 1 else f'other {bad.review}'} went to review"
            if bad.review
            else ""
        )
        sentences.append(f"No defective part passed unnoticed{review}.")
    return sentences


def _against_promise(good: Tally, calibration: Calibration) -> str:
    """Whether the false alarms seen agree with the rate promised, by the Wilson interval."""
    promise = promised(calibration)
    if not math.isfinite(calibration.threshold) or not 0 < promise < 1:
        return "No rate of false alarms was promised."
    low, high = wilson(good.failed, good.decided)
    if low > promise:
        return (
            f"That is more than the promised {percent(promise)} of false alarms: these good parts differ from those of the "
            "calibration (light, camera, lot). Calibrate again with good parts of today."
        )
    if high <= promise:
        return f"The false alarms keep the promise of at most {percent(promise)}."
    return (
        f"The false alarms agree with the promise of at most {percent(promise)}, "
        f"but {count(good.decided, 'good part')} {_is(good.decided)} too few to prove it."
    )


def promised(calibration: Calibration) -> float:
    """The rate of false alarms promised: the one asked for, or the higher one that the images allow.

    With thresholds by group, the highest that any of those that decide promises.
    """
    own = [group for group in calibration.groups.values() if math.isfinite(group.threshold)]
    deciding = [*own, calibration] if calibration.fall_back or not own else own
    return max(max(one.promised_rate, one.target_rate) for one in deciding)


def _unknown(of: Tally, calibration: Calibration) -> list[str]:
    if not math.isfinite(calibration.threshold):
        asks = f"{count(of.decided, 'part')} {'asks' if of.decided == 1 else 'ask'} for a person"
        return [f"There is no threshold yet: {asks}. Calibrate with good parts."]
    noun = count(of.decided, "part")
    review = f"{of.review:,} {'needs' if of.review == 1 else 'need'} a person and " if of.review else ""
    share = f" ({_range(of.failed, of.decided)})" if of.decided else ""
    sentences = [f"Of {noun} {of.passed:,} passed, {review}{of.failed:,} failed{share}."]
    if of.decided and of.failed > 0.5 * of.decided and of.decided >= 10:
        sentences.append(
            "More than half failed: check that part, camera and light are those of the good images."
        )
    elif 0 < promised(calibration) < 1:
        expected = promised(calibration) * of.decided
        some = (
            "at most about " + count(round(expected), "false alarm")
            if expected >= 1
            else "less than one false alarm"
        )
        sentences.append(f"If all of them were good, {some} would be expected.")
    return sentences


def _is(amount: int) -> str:
    return "is" if amount == 1 else "are"


def _was(amount: int) -> str:
    return "was" if amount == 1 else "were"
