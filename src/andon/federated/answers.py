"""The research questions of a comparison, each answered in sentences by a rule from the results, with tables and charts.

A difference is said to be none where its interval of 95 % lies within one point; to be one where Welch's test gives p below
0.05; else the runs do not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from andon.bench.rows import quantity
from andon.bench.stats import summarise, welch_p
from andon.bench.words import NBSP, counted, first_up, listed, points, quoted, title_of
from andon.bench.writers import Table
from andon.federated import tables
from andon.federated.cases import LEVEL, Case, Said
from andon.federated.comparing import CENTRALISED, FEDERATED, LOCAL, fair
from andon.federated.fairness import RULES

MAIN = "image_auroc"
_FIGURES = (MAIN, "aupro_30", "auspro_5", "tpr_at_tnr_95")
_NOTHING = "Nothing was computed yet, so nothing can be said."
_MOST = 4  # cases named in a sentence
_WORDS: tuple[tuple[Said, str], ...] = (
    ("better", "significantly better than"),
    ("match", "within one point of"),
    ("worse", "significantly worse than"),
)


@dataclass(frozen=True)
class Part:
    """A question, its answer in sentences, what the answer rests on, and the names of its charts."""

    question: str
    answer: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    charts: tuple[str, ...] = ()  # names of drawings; :mod:`andon.federated.page` draws them


def parts_of(cases: Sequence[Case]) -> list[Part]:
    """Every question that ``cases`` can answer, in the order of the page."""
    asked: list[Callable[[Sequence[Case]], Part | None]] = [
        against_centralised, against_local, heterogeneity, cost, alike, weights,
    ]  # fmt: skip
    if not cases:
        return [Part("Can federated fitting match centralised fitting?", (_NOTHING,))]
    return [part for ask in asked if (part := ask(cases)) is not None]


def against_centralised(cases: Sequence[Case]) -> Part:
    """Can federated fitting match centralised fitting?"""
    said = _sorted(cases, FEDERATED, CENTRALISED)
    answer = [_headline(said, "match", "centralised fitting"), *_details(said, FEDERATED, CENTRALISED)]
    exact = [case for case in cases if _same(case)]
    if exact:
        answer.append(f"In {_some(exact)} both give every site the same figures in every run.")
    return Part("Can federated fitting match centralised fitting?", tuple(answer),
                tuple(tables.ways_table(cases, figure) for figure in _FIGURES
                      if any(case.values(FEDERATED, figure) for case in cases)),
                ("ways",))  # fmt: skip


def against_local(cases: Sequence[Case]) -> Part:
    """What does a site gain over fitting alone?"""
    said = _sorted(cases, FEDERATED, LOCAL)
    known = [case for case in cases if case.sites and FEDERATED in case.rows and LOCAL in case.rows]
    answer = [_headline(said, "better", "fitting alone"), *_details(said, FEDERATED, LOCAL)]
    gains = [
        (gain, site, case) for case in known for site in case.sites if (gain := _gain(case, site)) is not None
    ]
    if gains:
        losing = [one for one in gains if one[0] < 0]
        worst = min(gains, key=lambda one: one[0])
        answer.append(
            f"Site by site, on the mean of the runs, {len(losing)} of {len(gains)} are worse off together than alone"
            + (f", most of all {worst[1]} with {worst[2].name}: {_points(worst[0])}." if losing else ".")
        )
    return Part("What does a site gain over fitting alone?", tuple(answer),
                tuple(tables.sites_table(case) for case in known))  # fmt: skip


def heterogeneity(cases: Sequence[Case]) -> Part | None:
    """What does it cost when sites differ? None where there is one partition only."""
    if len({case.scene for case in cases}) < 2:
        return None
    curves = [curve for method in dict.fromkeys(case.method for case in cases)
              if len(curve := sorted((case for case in cases if case.method == method and case.alpha is not None),
                                     key=lambda case: case.alpha or 0)) > 1]  # fmt: skip
    answer = [_curve_headline(curves), *map(_along, curves)] if curves else []
    behind = [(case, found) for case in cases
              if (found := case.difference(FEDERATED, CENTRALISED, MAIN)).by.mean is not None]  # fmt: skip
    if behind:
        case, found = min(behind, key=lambda one: one[1].by.mean or 0)
        answer.append(
            f"Of all cases federated fitting lies farthest behind centralised fitting with {case.name}: "
            f"{_points(found.by.mean or 0)}{'' if found.said == 'worse' else ', not significantly'}."
        )
    return Part(
        "What does it cost when sites differ?", tuple(answer or [_NOTHING]), (), ("curve",) if curves else ()
    )


def _curve_headline(curves: Sequence[Sequence[Case]]) -> str:
    """Whether federated fitting loses on centralised fitting as mixtures become uneven."""
    lost = [
        (change, curve[0])
        for curve in curves
        for change, p in [_change(curve, FEDERATED)]
        if p is not None and p < LEVEL
    ]
    worse = [(change, case) for change, case in lost if change < 0]
    if not worse:
        return "No cost to federated fitting is shown: it loses nothing significant on centralised fitting as sites grow unlike."
    change, case = min(worse, key=lambda one: one[0])
    return f"Up to {_points(-change, sign=False)} on centralised fitting ({title_of(case.method)}), as sites grow unlike."


def _change(curve: Sequence[Case], way: str) -> tuple[float, float | None]:
    """How what ``way`` has more than centralised fitting changes from the highest alpha to the lowest, and Welch's p."""
    low, high = (case.apart(way, CENTRALISED, MAIN) for case in (curve[0], curve[-1]))
    return (summarise(low).mean or 0.0) - (summarise(high).mean or 0.0), welch_p(low, high)


def _along(curve: Sequence[Case]) -> str:
    """One method's change along alpha, beside centralised fitting: the test images change with alpha, too."""
    parts = []
    for way in (FEDERATED, LOCAL):
        change, p = _change(curve, way)
        words = "one run tells nothing" if p is None else "significant" if p < LEVEL else "not significant"
        parts.append(f"{way} fitting {_points(change)} ({words})")
    return (
        f"{title_of(curve[0].method)}, from even mixtures (alpha {curve[-1].alpha:g}) to uneven ones (alpha {curve[0].alpha:g}), "
        f"beside centralised fitting: {listed(parts)}."
    )


def cost(cases: Sequence[Case]) -> Part:
    """What travels, and how long does it take?"""
    found = []
    for case in cases:
        moved = (case.total(FEDERATED, "bytes_up") or 0) + (case.total(FEDERATED, "bytes_down") or 0)
        images = case.total(FEDERATED, "image_bytes")
        if moved and images:
            found.append((moved / images, case, moved))
    if not found:
        return Part("What travels, and how long does it take?", (_NOTHING,))
    least, most = min(found, key=lambda one: one[0]), max(found, key=lambda one: one[0])
    answer = [
        f"Between {_times(least[0])} ({least[1].name}) and {_times(most[0])} ({most[1].name}) the bytes of the image "
        "files that would have travelled to fit centrally."
    ]
    more = [case for share, case, _ in found if share > 1]
    if more:
        answer.append(
            f"In {_some(more)} the statistics are larger than the images: there a federation keeps images at home, and saves "
            "no traffic."
        )
    answer.append(
        "Seconds are those of this machine with the sites one after the other; at plants they work at once, and Flower adds 10 "
        "to 17 s a round (docs/federation.md)."
    )
    return Part("What travels, and how long does it take?", tuple(answer), (tables.cost_table(cases),))


def alike(cases: Sequence[Case]) -> Part:
    """Is every site served alike?"""
    found = [(summarise(s.gap for s in spreads).mean or 0.0, case) for case in cases
             if (spreads := case.spreads(FEDERATED, MAIN))]  # fmt: skip
    if not found:
        return Part("Is every site served alike?", (_NOTHING,))
    widest, case = max(found, key=lambda one: one[0])
    answer = [
        f"From the worst site to the best, image AUROC differs by {_points(widest, sign=False)} with {case.name}, and by less "
        "in the other cases." if len(found) > 1 else
        f"From the worst site to the best, image AUROC differs by {_points(widest, sign=False)}."
    ]  # fmt: skip
    narrower = [case for case in cases if _gap(case, FEDERATED) < _gap(case, LOCAL)]
    answer.append(
        f"The gap is smaller than when sites fit alone in {len(narrower)} of {counted(len(cases), 'case')}."
    )
    answer += _kept_rate(cases)
    return Part("Is every site served alike?", tuple(answer),
                (tables.spread_table(cases, MAIN), tables.spread_table(cases, "fpr"), tables.threshold_table(cases)),
                ("false alarms",))  # fmt: skip


def _kept_rate(cases: Sequence[Case]) -> list[str]:
    """Whether sites have the false alarms that they asked for, with thresholds of their own and with a common one."""
    above: dict[bool, int] = {False: 0, True: 0}
    total = few = 0
    for case in cases:
        target = next(iter(case.rows.values()))[0]["target_rate"]
        for site in case.sites:
            own, common = (
                case.false_alarms(FEDERATED, site, common=is_common) for is_common in (False, True)
            )
            if own is None or common is None:
                continue
            total += 1
            few += (case.promised(FEDERATED, site) or 0) > target
            above[False] += own.low > target
            above[True] += common.low > target
    if not total:
        return []
    said = [
        f"Sites with significantly more false alarms than they asked for: {above[False]} of {total} with a threshold of "
        f"their own, {above[True]} of {total} with one threshold for all."
    ]
    if few:
        said.append(
            f"{few} of {total} have too few calibration images to promise what they asked for; their own threshold is the "
            "highest score seen, and the table says what it does promise."
        )
    return said


def weights(cases: Sequence[Case]) -> Part | None:
    """Do other weights serve the worst site better? None where none were tried."""
    ways = [fair(rule) for rule in RULES]
    tried = [case for case in cases if any(way in case.rows for way in ways) and FEDERATED in case.rows]
    if not tried:
        return None
    answer = [_tested_weights(tried, ways)]
    for rule in RULES:
        own = [case for case in tried if fair(rule) in case.rows]
        apart = [(_worst(case, fair(rule)) - _worst(case, FEDERATED), _mean(case, fair(rule)) - _mean(case, FEDERATED))
                 for case in own]  # fmt: skip
        if own:
            up = sum(worst > 0 for worst, _ in apart)
            answer.append(
                f"By the rule {quoted(rule)} the worst site is better off in {up} of {counted(len(own), 'case')} "
                f"({_points(sum(w for w, _ in apart) / len(own))} on average), and the mean of the sites changes by "
                f"{_points(sum(m for _, m in apart) / len(own))}."
            )
    return Part("Do other weights serve the worst site better?", tuple(answer), (tables.weights_table(tried),),
                ("pareto",))  # fmt: skip


def _tested_weights(cases: Sequence[Case], ways: Sequence[str]) -> str:
    found = [(case, way) for case in cases for way in ways
             if way in case.rows and tables.worst_p(case, way) < LEVEL and _worst(case, way) > _worst(case, FEDERATED)]  # fmt: skip
    if not found:
        return "That is not shown: no rule of weights raises the worst site's image AUROC significantly in any case."
    named = listed(f"{case.name} by {way.removeprefix(fair(''))}" for case, way in found[:_MOST])
    more = " and others" if len(found) > _MOST else ""
    return f"Significantly in {len(found)} of {counted(_tried(cases, ways), 'trial')}: {named}{more}."


def _tried(cases: Sequence[Case], ways: Sequence[str]) -> int:
    return sum(way in case.rows for case in cases for way in ways)


# --- sentences --------------------------------------------------------------------------------------------------------------


def _sorted(cases: Sequence[Case], way: str, other: str) -> dict[Said, list[Case]]:
    found: dict[Said, list[Case]] = {"match": [], "better": [], "worse": [], "open": []}
    for case in cases:
        found[case.difference(way, other, MAIN).said].append(case)
    return found


def _headline(said: dict[Said, list[Case]], hoped: Said, other: str) -> str:
    """The answer in one sentence; yes where what was ``hoped`` for is so in every case."""
    total, silent = sum(map(len, said.values())), len(said["open"])
    if silent == total:
        return f"These runs do not tell: in none of {counted(total, 'case')} is a difference shown, or ruled out beyond one point."
    pieces = [f"{words} {other} in {len(said[kind])}" for kind, words in _WORDS if said[kind]]
    among = f"Of {total} cases, federated" if total > 1 else "Federated"
    if len(said[hoped]) == total:
        return f"Yes: federated fitting is {dict(_WORDS)[hoped]} {other} in {'the only case' if total == 1 else f'all {total} cases'}."
    return f"{among} fitting is {listed(pieces)}" + (
        f"; in {silent} these runs do not tell." if silent else "."
    )


def _details(said: dict[Said, list[Case]], way: str, other: str) -> list[str]:
    found = []
    for kind, words in (_WORDS[0], _WORDS[2]):
        if said[kind]:
            named = [
                f"{case.name} {_points(case.difference(way, other, MAIN).by.mean or 0)}"
                for case in said[kind]
            ]
            more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
            found.append(
                f"{first_up(words.removesuffix(' than'))}, in image AUROC: {', '.join(named[:_MOST])}{more}."
            )
    ends = [
        (band.low, band.high)
        for case in said["open"]
        if (band := case.difference(way, other, MAIN).by).low is not None
    ]
    if ends:
        low, high = min(end[0] or 0 for end in ends), max(end[1] or 0 for end in ends)
        found.append(
            f"Where the runs do not tell, the true difference may lie anywhere from {_points(low)} to {_points(high)}."
        )
    elif said["open"]:
        found.append("Single runs cannot tell a difference from chance.")
    return found


def _same(case: Case) -> bool:
    """Whether federated and centralised give every site the same figures in every run."""
    pairs = [
        (case.spreads(FEDERATED, name), case.spreads(CENTRALISED, name)) for name in (MAIN, "pixel_auroc")
    ]
    return all(one and len(one) == len(two) and all(abs(a.mean - b.mean) < 1e-6 and a.worst_site == b.worst_site
               for a, b in zip(one, two, strict=True)) for one, two in pairs)  # fmt: skip


def _mean(case: Case, way: str) -> float:
    return summarise(case.values(way, MAIN)).mean or 0.0


def _worst(case: Case, way: str) -> float:
    return summarise(spread.worst for spread in case.spreads(way, MAIN)).mean or 0.0


def _gap(case: Case, way: str) -> float:
    return summarise(spread.gap for spread in case.spreads(way, MAIN)).mean or 0.0


def _gain(case: Case, site: str) -> float | None:
    one, two = (case.site_value(way, site, MAIN) for way in (FEDERATED, LOCAL))
    return None if one is None or two is None else one - two


def _some(cases: Sequence[Case]) -> str:
    names = [case.name for case in cases]
    return (
        listed(names)
        if len(names) <= _MOST
        else f"{counted(len(names), 'case')}, {', '.join(names[:_MOST])} among them,"
    )


def _points(difference: float, *, sign: bool = True) -> str:
    text = points(difference, quantity(MAIN))
    return text if sign else text.lstrip("+\u2212")


def _times(share: float) -> str:
    return f"{100 * share:.2g}{NBSP}%" if share < 1 else f"{share:.2g} times"
