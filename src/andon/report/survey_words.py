"""What the figures of a survey mean, and what to do: one finding a section, in plain words, by rules.

Commands and options stand between backticks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from andon.calibrate import images_needed, promised_rate
from andon.data.survey import Copy, Part, Shift, Survey, surplus
from andon.metrics import wilson
from andon.report.content import NBSP, count, number, percent
from andon.report.survey_finding import Finding, Level, capital, is_, listed, sentence, them

ALPHA = 0.05  # family-wise
CONFIDENCE = 0.95
KEPT = 0.25  # of the good training images, for the threshold, as `andon fit` does
RATE_LOOSE = 0.05  # a promised rate of false alarms above which a set counts as small
RATE_ASKED = 0.01
RANGE_EXPECTED, RANGE_TOO_MANY = 0.05, 0.07  # shares of good test images outside the training images' range
REPEATS_MANY = 0.05  # share of the test that repeats other test images
INPUT = 256 * 256  # pixels of the usual input of a network
SMALL_DEFECT = 64  # pixels of it
ONE_SHAPE = 1.05  # largest over smallest proportion that still counts as one
DARK_DEEP = 20.0  # brightness of 16-bit images that a 12-bit camera would have at most
_SAY = {
    "brightness": "brightness",
    "sharpness": "sharpness",
    "red_green": "red-green colour",
    "blue_yellow": "blue-yellow colour",
    "component_1": "their features",
    "component_2": "their features",
    "distance": "distance",
}
_GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")


def findings(survey: Survey) -> list[Finding]:
    """One finding for each section that the survey has something for, in the report's order."""
    rules = (_contents, _areas, _files, _order, _map, _copies, _drift, _odd)
    return [finding for rule in rules if (finding := rule(survey)) is not None]


# --- what is in it --------------------------------------------------------------------------------------------


def _contents(survey: Survey) -> Finding:
    if survey.layout_error:
        lead = "The folders follow no layout that Andon knows, so every image counts as a training image"
        return Finding("contents", "fail", f"{lead}: {survey.layout_error}")
    good, kept = Counter({c.category: 0 for c in survey.counts}), Counter[str]()
    for c in survey.counts:
        good[c.category] += c.images * (c.split == "train" and not c.is_anomalous)
        kept[c.category] += c.images * (c.split == "calibration" and not c.is_anomalous)
    without = [category for category in good if not good[category]]
    if without:
        text = "there are no good training images, so this set can test a detector, not fit one."
        return Finding("contents", "fail", sentence(survey, without, text))
    category = min(good, key=lambda name: kept[name] or good[name])
    of_own = kept[category]
    spare = of_own or round(KEPT * good[category])
    if not spare:
        text = f"{count(good[category], 'good training image')}, too few to keep some for the threshold: take more."
        return Finding("contents", "review", sentence(survey, [category], text) + _unmasked(survey))
    rate = promised_rate(spare, spare, CONFIDENCE)
    own = f"with {spare:,} more for the threshold" if of_own else f"if {spare:,} are kept for the threshold"
    text = (
        f"{count(good[category], 'good training image')}: {own}, the best that can be promised is "
        f"{percent(rate)} false alarms ({percent(CONFIDENCE)} confidence)."
    )
    level: Level = "review" if rate > RATE_LOOSE else "pass"
    return Finding("contents", level, sentence(survey, [category], text) + _more(rate) + _unmasked(survey))


def _more(rate: float) -> str:
    if rate <= RATE_ASKED:
        return " That is enough."
    needed = images_needed(RATE_ASKED, CONFIDENCE)
    return f" To promise {percent(RATE_ASKED)} takes {needed} kept for it: take more good photographs."


def _unmasked(survey: Survey) -> str:
    missing = sum(c.images - c.with_mask for c in survey.counts if c.is_anomalous)
    total = sum(c.images for c in survey.counts if c.is_anomalous)
    if survey.layout == "good_bad" or not missing:
        return ""
    of = f"{missing:,} of {count(total, 'defective image')} {'has' if missing == 1 else 'have'} no mask"
    return f" {of}; figures on where a defect is leave {them(missing)} out."


def _areas(survey: Survey) -> Finding | None:
    shares = [s.defect_share for s in survey.seen() if s.defect_share is not None]
    if not shares:
        return None
    small = float(np.quantile(shares, 0.1))
    pixels = small * INPUT
    text = (
        f"One defective image in ten has less than {100 * small:.2g}{NBSP}% marked, "
        f"{pixels:,.0f} pixels of a 256{NBSP}×{NBSP}256 input"
    )
    if pixels < SMALL_DEFECT:
        advice = "too few to see it well. Fit with `--resize tiles` or a larger `--size`."
        return Finding("areas", "review", f"{text}: {advice}")
    return Finding("areas", "pass", f"{text}: the usual input size can show it.")


# --- files ------------------------------------------------------------------------------------------------------


def _files(survey: Survey) -> Finding:
    level, text = _readable(survey)
    said = [text]
    for more in (_masks(survey), _shapes(survey), _colours(survey), _deep(survey)):
        if more is not None:
            level = level if level == "fail" else more[0]
            said.append(more[1])
    return Finding("files", level, " ".join(said))


def _readable(survey: Survey) -> tuple[Level, str]:
    bad = len(survey.unreadable)
    if bad:
        of = f"{bad:,} of {count(survey.looked_at, 'image')} cannot be read"
        return (
            "fail",
            f"{of}: replace or remove {them(bad)}; nothing can be learned or tested on {them(bad)}.",
        )
    alike = ""
    if len(survey.sizes) == len(survey.modes) == len(survey.bit_depths) == 1:
        alike = (
            f" {next(iter(survey.sizes)).replace(' x ', f'{NBSP}×{NBSP}')} pixels, {next(iter(survey.modes))}"
        )
    if survey.looked_at == 1:
        return "pass", f"The image can be read:{alike}."
    alike = f", and all are{alike}" if alike else ""
    return "pass", f"All {count(survey.looked_at, 'image')} can be read{alike}."


def _masks(survey: Survey) -> tuple[Level, str] | None:
    wrong = len(survey.masks_wrong)
    return ("fail", f"{count(wrong, 'mask')} cannot be used: put {them(wrong)} right.") if wrong else None


def _shapes(survey: Survey) -> tuple[Level, str] | None:
    """Different proportions within one category."""
    odd = []
    for part in survey.parts:
        ratios = [s.size[0] / s.size[1] for s in part.seen]
        if max(ratios) > ONE_SHAPE * min(ratios):
            odd.append(part.category)
    if not odd:
        return None
    text = (
        "the images differ in their proportions, and each is stretched to one input size: "
        "crop them alike, or fit with `--resize letterbox`."
    )
    return "review", sentence(survey, odd, text)


def _colours(survey: Survey) -> tuple[Level, str] | None:
    grey = sum(survey.modes.get(mode, 0) for mode in _GREY)
    coloured = sum(survey.modes.values()) - grey
    if not grey or not coloured:
        return None
    return (
        "review",
        f"{count(grey, 'image')} {is_(grey)} grey and {coloured:,} in colour: take all with the same camera settings.",
    )


def _deep(survey: Survey) -> tuple[Level, str] | None:
    deep = [s.brightness for s in survey.seen() if s.bits > 8]
    if not deep or np.median(deep) > DARK_DEEP:
        return None
    of = f"{count(len(deep), 'image')} of more than 8 bits {is_(len(deep))} nearly black"
    return "review", f"{of}: is the camera a 12-bit one? Then fit with `--white-level 4095`."


# --- as they were taken -------------------------------------------------------------------------------------------


def _order(survey: Survey) -> Finding:
    trends = [t for part in survey.parts for t in part.trends]
    moved = [t for t in trends if t.p_holm < ALPHA]
    stray = len({o.path for part in survey.parts for o in part.outliers})
    by = "EXIF time" if all(part.timed for part in survey.parts) else "file name"
    said = []
    if moved:
        measures = {t.measure for t in moved}
        text = (
            f"{_measures(moved)} of the training images {'change' if len(measures) > 1 else 'changes'} from the first to the last by {by} "
            f"({_medians(moved, 'first half', 'second half')}). Fit on images from all of them, and if that is the "
            "order in time, set the threshold on the latest: `andon fit --latest`."
        )
        said.append(sentence(survey, (t.category for t in moved), text))
    if stray:
        of = f"{count(stray, 'good image')} {is_(stray)} far darker, brighter, more blurred or sharper than usual"
        said.append(f"{of}: look at {them(stray)}, and take out what is a mistake.")
    if said:
        return Finding("order", "review", " ".join(said))
    if not trends:
        return Finding("order", "none", "Too few training images to tell whether light or sharpness change.")
    text = "Brightness and sharpness of the training images hold steady from the first to the last. Nothing to do."
    return Finding("order", "pass", text)


def _measures(shifts: Sequence[Shift]) -> str:
    return listed(list(dict.fromkeys(_SAY[s.measure] for s in shifts)), 5)


def _medians(shifts: Sequence[Shift], first: str, second: str) -> str:
    """The clearest of the differences, in words."""
    worst = max(
        (s for s in shifts if not s.measure.startswith("component")), key=lambda s: s.statistic, default=None
    )
    if worst is None:
        return "see the figure"
    if worst.measure == "distance":
        return f"{number(worst.second / worst.first)} times as far from training images as these are from each other"
    return f"median {_SAY[worst.measure]} {number(worst.first)} in the {first}, {number(worst.second)} in the {second}"


def _map(survey: Survey) -> Finding:
    good, outside = _outside(survey.parts, "good")
    bad, bad_outside = _outside(survey.parts, "anomalous")
    if not good + bad:
        text = (
            "There is no test to compare with. Clouds that lie apart are different products, places or lights: "
            "make sure that each is meant to be learned as good."
        )
        return Finding("map", "none", text)
    many = good > 0 and wilson(outside, good)[0] > RANGE_TOO_MANY
    said = []
    if good:
        of = f"{outside:,} of {count(good, 'good test image')} lie farther out than {percent(1 - RANGE_EXPECTED)} of the training images"
        said.append(f"{of}: what varies there has not been learned. Add such images to the training." if many
                    else f"{of}, about as many as by chance.")  # fmt: skip
    if bad:
        said.append(
            f"Of {count(bad, 'defective image')} {bad_outside:,} do: these differ as a whole, the others in a detail at most."
        )
    return Finding("map", "review" if many else "pass", " ".join(said))


def _outside(parts: Sequence[Part], group: str) -> tuple[int, int]:
    ranges = [part.ranges[group] for part in parts if group in part.ranges]
    return sum(r.images for r in ranges), sum(r.outside for r in ranges)


# --- copies ---------------------------------------------------------------------------------------------------------


def leaks(copies: Iterable[Copy], split: str, of_split: str) -> list[Copy]:
    """The copies of images of one split in another."""
    return [copy for copy in copies if (copy.split, copy.of_split) == (split, of_split)]


def _copies(survey: Survey) -> Finding:
    at_least = "at least " if survey.looked_at < survey.images else ""
    totals = Counter(s.split for s in survey.seen())
    said = []
    for of_split, use in (("train", "training images"), ("calibration", "images for the threshold")):
        if leak := leaks(survey.copies, "test", of_split):
            of = f"{len(leak):,} of {count(totals['test'], 'test image')} {is_(len(leak))} {_kind(leak)} of {use}"
            said.append(
                f"{at_least}{of}: figures on {them(len(leak))} are flattered. Take {them(len(leak))} out of one of the two."
            )
    if leak := leaks(survey.copies, "calibration", "train"):
        of = (
            f"{count(len(leak), 'image')} for the threshold {is_(len(leak))} {_kind(leak)} of training images"
        )
        said.append(
            f"{at_least}{of}: the threshold comes out too low. Take {them(len(leak))} out of one of the two."
        )
    level: Level = "fail" if said else "pass"
    inner = _repeats(survey, totals)
    if inner:
        level = "fail" if said else "review"
    said += [at_least + text for text in inner]
    if said:
        return Finding("copies", level, " ".join(capital(text) for text in said))
    none = "No test image is a copy of a training image, and no training image of another. Nothing to do."
    return Finding(
        "copies", "pass", none if totals["test"] else "No image is a copy of another. Nothing to do."
    )


def _repeats(survey: Survey, totals: Counter[str]) -> list[str]:
    """What copies within the training and within the test mean."""
    said = []
    if inner := leaks(survey.copies, "train", "train"):
        extra = surplus(inner)
        of = f"{count(extra, 'training image')} {is_(extra)} {_kind(inner, extra)} of {'another' if extra == 1 else 'others'}"
        said.append(f"{of}: the set is smaller than it looks. Keep copies together when images are set aside "
                    "for the threshold: `andon fit --group-by`.")  # fmt: skip
    extra = surplus(leaks(survey.copies, "test", "test"))
    if extra > REPEATS_MANY * totals["test"]:
        said.append(
            f"{count(extra, 'test image')} repeat others: figures on the test are less certain than they look."
        )
    return said


def _kind(copies: Sequence[Copy], amount: int | None = None) -> str:
    """``a copy``, ``near copies``, or how many are which."""
    same = sum(copy.kind != "near" for copy in copies)
    if 0 < same < len(copies):
        return f"copies ({same:,} exact, {len(copies) - same:,} near)"
    one = (len(copies) if amount is None else amount) == 1
    return f"{'a ' if one else ''}{'' if same else 'near '}{'copy' if one else 'copies'}"


# --- drift and odd images ---------------------------------------------------------------------------------------------


def _drift(survey: Survey) -> Finding:
    shifts = [s for part in survey.parts for s in part.shifts]
    if not shifts:
        return Finding(
            "drift", "none", "There are too few good test images to compare with the training images."
        )
    halves = all(part.compared != "splits" for part in survey.parts)
    first, second = ("first half", "second half") if halves else ("training images", "good test images")
    moved = [s for s in shifts if s.p_holm < ALPHA]
    if not moved:
        text = f"No difference between the {first} and the {second} is to be seen. A threshold set on the one should hold for the other."
        return Finding("drift", "pass", text)
    text = f"the {second} {'differs' if halves else 'differ'} from the {first} in {_measures(moved)} ({_medians(moved, first, second)})."
    advice = (
        "Take images of both for the fit and for the threshold."
        if halves
        else "Expect more false alarms than promised; calibrate on images like those to come: `andon calibrate --good`."
    )
    return Finding("drift", "review", f"{sentence(survey, (s.category for s in moved), text)} {advice}")


def _odd(survey: Survey) -> Finding:
    far = sum(o.far_out for part in survey.parts for o in part.odd)
    if not any(part.odd for part in survey.parts):
        return Finding("odd", "none", "Too few training images to tell which is odd.")
    if not far:
        text = "No training image stands apart from the others; those farthest out are shown. Nothing to do."
        return Finding("odd", "pass", text)
    of = f"{count(far, 'training image')} {'lies' if far == 1 else 'lie'} far from the others. Look at {them(far)}"
    text = f"{of}: what is defective or a mistake must go before the fit, else such parts will pass."
    return Finding("odd", "review", text)
