"""Which method is best, in sentences computed from the results: what is significant, what is not known, what others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from andon.bench.published import Place, Published
from andon.bench.rows import Quantity, Run, places_of, quantity, seed_means
from andon.bench.stats import Comparison, compare, summarise
from andon.bench.tables import Significance, categories
from andon.bench.words import (
    TITLES,
    listed,
    phrase,
    shown,
    title_of,
    titles,
    verb,
)


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean over ``places``, the ones in which any method has the figure.

    ``lacking``: methods without the figure in one of them; they are not compared.
    """

    what: Quantity
    places: tuple[Place, ...]
    samples: Mapping[str, Sequence[float]]
    means: Mapping[str, float]
    comparison: Comparison
    lacking: tuple[str, ...]


def rank(
    runs: Sequence[Run], methods: Sequence[str], metric: str, test: Significance, group: str = ""
) -> Ranking:
    """The methods of one variant, compared by ``metric``."""
    what = quantity(metric)
    places = places_of(run for run in runs if run.done and run.value(metric, group) is not None)
    found = {
        method: seed_means([run for run in runs if run.method == method], places, metric, group)[0]
        for method in methods
    }
    samples = {method: values for method, values in found.items() if values}
    means = {method: mean for method, own in samples.items() if (mean := summarise(own).mean) is not None}
    higher = what.higher_is_better is not False
    comparison = compare(samples, level=test.level, higher_is_better=higher, holm_corrected=test.holm)
    ran = {run.method for run in runs}
    lacking = tuple(method for method in methods if method in ran and method not in samples)
    return Ranking(what, tuple(places), samples, means, comparison, lacking if places else ())


def best_method(ranking: Ranking, cells: int, failed: int) -> list[str]:
    """Who is best, who is as good, who cannot be compared. ``cells``: how many results there are."""
    what, best = ranking.what, ranking.comparison.reference
    if not cells:
        return ["Nothing was run yet, so nothing can be said."]
    if failed == cells:
        return [f"There is no answer: {'the only run' if cells == 1 else f'all {cells} runs'} failed."]
    if not ranking.places:
        return [f"There is no answer: {phrase(what)} is not defined on these images."]
    if best is None:
        return [
            f"There is no answer: no method has a figure in every one of the {categories(len(ranking.places))}."
        ]
    several = len(ranking.places) > 1
    over = f" over {categories(len(ranking.places))}" if several else ""
    name, figure = f"{'mean ' if several else ''}{phrase(what)}{over}", shown(ranking.means[best], what)
    if len(ranking.means) == 1:
        said = f"{title_of(best)} reaches {figure} ({name}); there is no other method to set it against."
    else:
        said = f"{title_of(best)} has the best {name}, {figure}; {_others(ranking, best)}."
    lacking = f"Not compared, for want of a figure in every category: {titles(ranking.lacking)}."
    return [said, *([lacking] if ranking.lacking else [])]


def _others(ranking: Ranking, best: str) -> str:
    """What can be said of all but the best."""
    found = ranking.comparison
    others = [name for name in ranking.means if name != best]
    tied = [name for name in others if ranking.means[name] == ranking.means[best]]
    same = [name for name in others if name in found.marked and name not in tied]
    worse = [name for name in others if name not in found.marked and name not in found.untested]
    parts = [f"{titles(tied)} {verb(tied, 'is', 'are')} exactly as good"] if tied else []
    parts += [f"{titles(same)} {verb(same, 'is', 'are')} not significantly worse"] if same else []
    if worse and len(worse) == len(others) > 1:
        parts.append("all others are significantly worse")
    elif worse:
        parts.append(
            f"{titles(worse) if len(worse) < 3 else 'the others'} {verb(worse, 'is', 'are')} significantly worse"
        )
    if found.untested and len(found.untested) == len(others):
        parts.append("single runs cannot say whether the others are really worse")
    elif found.untested:
        parts.append(f"of {titles(found.untested)} a single run cannot say")
    return ", ".join(parts)


def by_category(
    runs: Sequence[Run], ranking: Ranking, metric: str, test: Significance, group: str = ""
) -> list[str]:  # fmt: skip
    """In how many categories the best method is marked, and which others are best somewhere."""
    best = ranking.comparison.reference
    if best is None or len(ranking.places) < 2 or len(ranking.means) < 2:
        return []
    marked, firsts = 0, dict[str, int]()
    for place in ranking.places:
        samples = {
            method: [
                run.value(metric, group)
                for run in runs
                if run.done and (run.method, run.place) == (method, place)
            ]
            for method in ranking.means
        }
        higher = ranking.what.higher_is_better is not False
        found = compare(samples, level=test.level, higher_is_better=higher, holm_corrected=test.holm)
        marked += best in found.marked
        if found.reference is not None:
            firsts[found.reference] = firsts.get(found.reference, 0) + 1
    others = [f"{title_of(name)} in {count}" for name, count in sorted(firsts.items()) if name != best]
    elsewhere = f" The best of a category is also {listed(others)}." if others else ""
    return [
        f"By category, it is the best or not significantly worse in {marked} of {len(ranking.places)}.{elsewhere}"
    ]


def other_figures(
    runs: Sequence[Run], methods: Sequence[str], metrics: Sequence[str], test: Significance
) -> list[str]:
    """The best by each of the other figures."""
    parts = []
    for metric in metrics:
        found = rank(runs, methods, metric, test)
        best = found.comparison.reference
        if best is not None and len(found.means) > 1 and found.what.higher_is_better is not None:
            parts.append(f"{phrase(found.what)} {title_of(best)} ({shown(found.means[best], found.what)})")
    return [f"By other figures the best are: {', '.join(parts)}."] if parts else []


def published_best(published: Published, places: Sequence[Place], metric: str, group: str = "") -> list[str]:
    """Who is best in the published means over ``places``, where these are a whole public set."""
    figures = {
        method: found.value
        for method in TITLES
        if (found := published.find_mean(places, method, metric, group=group)) is not None
    }
    if len(figures) < 2:
        return []
    what = quantity(metric)
    top = max(figures.values()) if what.higher_is_better is not False else min(figures.values())
    best = [method for method, value in figures.items() if value == top]
    return [
        f"In the published figures, made with other settings, {titles(best)} {verb(best, 'has', 'have')} the best mean {phrase(what)}, "
        f"{shown(top, what)}."
    ]
