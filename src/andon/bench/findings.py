"""What variants change, how few images are enough, how even and how fast methods are: sentences computed from the results.

A *case* is one method at one place (set, category), under one of the variants that the grid sets against its baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from andon.bench.charts import Curves, Learning, Spread, Strip, TradeOff
from andon.bench.rows import Quantity
from andon.bench.stats import summarise
from andon.bench.tables import Significance
from andon.bench.words import (
    NBSP,
    counted,
    first_up,
    milliseconds,
    phrase,
    points,
    quoted,
    shown,
    title_of,
    titles,
)
from andon.bench.writers import Entry, Table

SHARES = (0.9, 0.95, 0.99)  # of what all images give
_SLACK = 1e-12  # so that 0.86 keeps nine tenths of 0.9 above 0.5
CHANCE = {"image_auroc": 0.5, "pixel_auroc": 0.5}  # what guessing gives; 0 for others


# --- what a variant does --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """How the cases under one variant compare with the baseline. ``change``: the mean difference of their means."""

    variant: str
    cases: int
    tested: int
    better: int  # significantly
    worse: int
    change: float | None


def effects(table: Table, baseline: str) -> list[Effect]:
    """What :func:`andon.bench.tables.variant_table` marks, counted; its lines of means are left out."""
    names = [column.title for column in table.columns]
    base = names.index(baseline)
    found = []
    for k, name in enumerate(names):
        if k < 2 or k == base:
            continue
        lines = [line for line in table.rows if line[1].text != "mean"]
        cases = [
            (line, line[k]) for line in lines if line[k].mean is not None and line[base].mean is not None
        ]
        marked = [entry for _, entry in cases if entry.significant]
        changes = [_difference(entry, line[base]) for line, entry in cases]
        better = sum(entry.underlined for entry in marked)
        checked = sum(entry.n > 1 and line[base].n > 1 for line, entry in cases)
        change = summarise(changes).mean
        found.append(Effect(name, len(cases), checked, better, len(marked) - better, change))
    return found


def _difference(entry: Entry, base: Entry) -> float | None:
    return None if entry.mean is None or base.mean is None else entry.mean - base.mean


def variants_help(
    found: Sequence[Effect], what: Quantity, subject: str, baseline: str, test: Significance
) -> list[str]:
    """In how many cases the variants are significantly better or worse, what they change, what chance alone would do.

    ``subject``: what the variants do, as the beginning of a sentence.
    """
    cases, tested = sum(one.cases for one in found), sum(one.tested for one in found)
    if not cases:
        return [f"There is no answer: no case was run both with {quoted(baseline)} and with another variant."]
    better, worse = sum(one.better for one in found), sum(one.worse for one in found)
    one = len(found) == 1
    of = "method and category" if one else "method, category and variant"
    changes = [
        f"{quoted(effect.variant) + ' ' if not one else ''}{points(effect.change, what)}"
        for effect in found
        if effect.change is not None
    ]
    average = (
        f"On average the mean {phrase(what)} changes so against {quoted(baseline)}: {', '.join(changes)}."
    )
    if not tested:
        return [
            f"{subject} may help or not: of {counted(cases, 'case')} ({of}) none was run often enough to test it.",
            average,
        ]
    first = f"{subject} helps significantly in {better} of {counted(tested, 'case')} ({of}), harms in {worse}"
    rest = tested - better - worse
    first += f"; in {rest} the difference is not significant." if rest else "."
    untested = f"{counted(cases - tested, 'case')} more had a single run and could not be tested."
    by_chance = round(test.level * tested)
    chance = (
        f"Where nothing differs, about {by_chance} of {tested} would come out as significant all the same."
    )
    return [
        first,
        average,
        *([chance] if by_chance and not test.holm else []),
        *([untested] if cases > tested else []),
    ]


# --- how many images are enough -------------------------------------------------------------------------------------------


def needed(learning: Learning, metric: str, share: float) -> float | None:
    """The number of images from which on the method keeps ``share`` of what all images give, counted from guessing.

    None where no number does, or where all images give no more than guessing.
    """
    floor = CHANCE.get(metric, 0.0)
    if learning.with_all is None or learning.with_all <= floor:
        return None
    wanted = floor + share * (learning.with_all - floor) - _SLACK
    first = None
    for images, found in reversed(learning.steps):
        if found.mean is None or found.mean < wanted:
            break
        first = images
    return first


def few_are_enough(chart: Curves, metric: str) -> list[str]:
    """How many images reach nine tenths of what all give, by the method that is best with all."""
    whole = {one: one.with_all for one in chart.learnings if one.with_all is not None and one.steps}
    if not whole:
        return ["There is no answer: no method was run both on all images and on fewer."]
    best = max(whole, key=lambda one: (whole[one], one.name))
    floor, what = CHANCE.get(metric, 0.0), chart.what
    if whole[best] <= floor:
        return [
            f"There is no answer: with all images no method is better than guessing ({shown(floor, what)})."
        ]
    enough, share = needed(best, metric, SHARES[0]), f"90{NBSP}% of the accuracy of all images"
    above = f" ({phrase(what)} above the {shown(floor, what)} of guessing)" if floor else f" ({phrase(what)})"
    who = f"{title_of(best.name)}, the best with all images ({shown(whole[best], what)}),"
    if len(whole) == 1:
        who = f"{title_of(best.name)} ({shown(whole[best], what)} with all images)"
    if enough is None:
        said = f"{who} reaches {share} with no number that was tried, to {best.steps[-1][0]:g}{above}."
    else:
        said = f"With {counted(enough, 'image')} {who} reaches {share}{above}."
    return [said, *_others_need(list(whole), best, metric)]


def _others_need(whole: Sequence[Learning], best: Learning, metric: str) -> list[str]:
    others = {one.name: needed(one, metric, SHARES[0]) for one in whole if one is not best}
    known = sorted(value for value in others.values() if value is not None)
    never = [name for name, value in others.items() if value is None]
    parts = []
    if known:
        span = (
            counted(known[0], "image")
            if known[0] == known[-1]
            else f"{known[0]:g} to {counted(known[-1], 'image')}"
        )
        parts.append(f"Of their own accuracy with all images, the others reach as much with {span}.")
    if never:
        parts.append(f"Not with any number that was tried: {titles(never)}.")
    return parts


# --- how even, how fast ---------------------------------------------------------------------------------------------------


def evenness(chart: Spread) -> list[str]:
    """Whether the category matters more than the method, who is most even, which category is hardest."""
    places = {label for strip in chart.strips for label, _ in strip.values}
    full = [strip for strip in chart.strips if len(strip.values) == len(places)]
    if not full or len(places) < 2:
        return ["There is no answer: it takes two categories in which a method has a figure."]
    what, higher = chart.what, chart.what.higher_is_better is not False
    within = {strip.name: summarise(value for _, value in strip.values).std or 0.0 for strip in full}
    by_category = summarise(within.values()).mean or 0.0
    even, uneven = (pick(full, key=lambda strip: (within[strip.name], strip.name)) for pick in (min, max))
    said = []
    if len(full) > 1:
        columns = [[strip.values[k][1] for strip in full] for k in range(len(places))]
        by_method = summarise(summarise(column).std for column in columns).mean or 0.0
        more = by_category > by_method
        said.append(
            f"{'The category' if more else 'The method'} matters more than {'the method' if more else 'the category'}: "
            f"{phrase(what)} has a standard deviation of {_spread(by_category, what)} from category to category, of "
            f"{_spread(by_method, what)} from method to method."
        )
        said.append(
            f"The most even is {title_of(even.name)} ({_extremes(even, what)}), the most uneven {title_of(uneven.name)} "
            f"({_extremes(uneven, what)})."
        )
    else:
        said.append(f"{first_up(phrase(what))} of {title_of(even.name)} spans {_extremes(even, what)}.")
    tops = {
        label: (max if higher else min)(strip.values[k][1] for strip in full)
        for k, (label, _) in enumerate(full[0].values)
    }
    hardest = (min if higher else max)(sorted(tops), key=lambda label: tops[label])
    if len(full) > 1:
        said.append(
            f"The hardest category is {hardest}: no method exceeds {shown(tops[hardest], what)} there."
        )
    return said


def _extremes(strip: Strip, what: Quantity) -> str:
    values = sorted(strip.values, key=lambda item: (item[1], item[0]))
    (low, least), (high, most) = values[0], values[-1]
    return f"{shown(least, what)} on {low} to {shown(most, what)} on {high}"


def _spread(value: float, what: Quantity) -> str:
    return points(value, what).lstrip("+")


def worth_it(chart: TradeOff) -> list[str]:
    """Who is most accurate, who is fastest, and whom nobody beats on both."""
    if not chart.points:
        return []
    what = chart.what
    best = max(chart.points, key=lambda one: (one.value, -one.cost))
    quick = min(chart.points, key=lambda one: (one.cost, -one.value))
    front = [one for one in chart.points if one.on_front]
    if len(chart.points) == 1:
        return [f"{title_of(best.name)} takes {milliseconds(best.cost)} for an image."]
    if best is quick:
        said = f"{title_of(best.name)} is both the most accurate and the fastest: {milliseconds(best.cost)} for an image."
        return [said]
    said = (
        f"The most accurate, {title_of(best.name)} ({shown(best.value, what)}), takes {milliseconds(best.cost)} for an image; "
        f"the fastest, {title_of(quick.name)} ({shown(quick.value, what)}), {milliseconds(quick.cost)}."
    )
    middle = [one.name for one in front if one not in (best, quick)]
    between = (
        f"Between them, nothing is both faster and more accurate than {titles(middle)}." if middle else ""
    )
    beaten = len(chart.points) - len(front)
    dominated = (
        f"{beaten} of {len(chart.points)} {'is' if beaten == 1 else 'are'} beaten on both by another."
        if beaten
        else ""
    )
    return [said, *([between] if between else []), *([dominated] if dominated else [])]


def hardest_kind(table: Table, what: Quantity) -> list[str]:
    """Which kinds of defect no method finds well, and which every method finds."""
    higher = what.higher_is_better is not False
    tops, lows = dict[str, float](), dict[str, float]()
    for line in table.rows:
        values = [entry.mean for entry in line[1:] if entry.mean is not None]
        tops[line[0].text] = max(values) if higher else min(values)
        lows[line[0].text] = min(values) if higher else max(values)
    pick, other = (min, max) if higher else (max, min)
    hardest = pick(sorted(tops), key=lambda kind: tops[kind])
    easiest = other(sorted(lows), key=lambda kind: lows[kind])
    return [
        f"The hardest is {hardest}: no method does better than {shown(tops[hardest], what)} there.",
        f"The easiest is {easiest}: every method reaches {shown(lows[easiest], what)}.",
    ]
