"""Tables of the page that answer one question each: evenness, effects of variants, how few images, kinds of defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from andon.bench.charts import Curves, Spread
from andon.bench.findings import SHARES, Effect, needed
from andon.bench.published import Place, Published
from andon.bench.rows import Quantity, Run, labels, quantity
from andon.bench.stats import compare, summarise
from andon.bench.tables import Significance
from andon.bench.words import first_up, quoted
from andon.bench.writers import NO_VALUE, Column, Entry, Table

MOST_KINDS = 60  # lines of the table of kinds of defect


def transposed(table: Table) -> Table:
    """A table of methods across as one of methods down; what was marked in a line is marked in a column."""
    heads = table.columns[1:]
    if len({(column.is_share, column.decimals) for column in heads}) != 1:
        return table
    lines = sorted(table.rows, key=lambda line: line[0].text != "mean")  # the others may need scrolling
    columns = (Column("method", is_text=True), *(replace(heads[0], title=line[0].text) for line in lines))
    rows = tuple((Entry(head.title), *(line[k] for line in lines)) for k, head in enumerate(heads, 1))
    caption = table.caption.replace("the best of a line", "the best of a column")
    return replace(table, columns=columns, rows=rows, caption=caption)


def spread_table(chart: Spread, published: Published, places: Sequence[Place]) -> Table:
    """How evenly each method does from category to category; in brackets the published spread over the whole set."""
    what = chart.what
    rows = []
    for strip in chart.strips:
        ordered = sorted(strip.values, key=lambda item: (item[1], item[0]))
        (worst, low), (best, high) = ordered[0], ordered[-1]
        if what.higher_is_better is False:
            (worst, low), (best, high) = (best, high), (worst, low)
        found = published.find_mean(places, strip.name, what.name)
        theirs = found.std if found is not None and found.std_over == "categories" else None
        rows.append((
            Entry(strip.name), Entry(mean=strip.mean, n=len(ordered)),
            Entry(mean=summarise(value for _, value in ordered).std, text=NO_VALUE, n=len(ordered), published=theirs,
                  source=found.citation if found is not None and theirs is not None else ""),
            Entry(mean=low), Entry(worst), Entry(mean=high), Entry(best),
        ))  # fmt: skip
    columns = (
        Column("method", is_text=True), Column.of(what, "mean"), Column.of(what, "standard deviation over categories"),
        Column.of(what, "lowest" if what.higher_is_better is not False else "highest"), Column("where", is_text=True),
        Column.of(what, "highest" if what.higher_is_better is not False else "lowest"), Column("where ", is_text=True),
    )  # fmt: skip
    unit = ", in percent" if what.is_share else ""
    caption = f"{first_up(what.title)}{unit}: of each category the mean of its runs."
    if any(entry.published is not None for row in rows for entry in row):
        caption += " In brackets: what was published, with the settings of its source."
    return Table("spread", "From category to category", caption, columns, tuple(rows))


def effect_table(found: Sequence[Effect], what: Quantity, baseline: str) -> Table:
    """What each variant does, in numbers of cases and on average."""
    columns = (
        Column("variant", is_text=True), Column("cases", False, decimals=0), Column("significantly better", False, decimals=0),
        Column("significantly worse", False, decimals=0), Column("undecided", False, decimals=0),
        Column.of(what, f"mean change{', points' if what.is_share else ''}"),
    )  # fmt: skip
    rows = tuple(
        (
            Entry(one.variant), Entry(mean=float(one.cases)), Entry(mean=float(one.better)), Entry(mean=float(one.worse)),
            Entry(mean=float(one.cases - one.better - one.worse)), Entry(mean=one.change, text=NO_VALUE),
        )
        for one in found
    )  # fmt: skip
    caption = f"{first_up(what.title)} against {quoted(baseline)}. A case is one method in one category."
    return Table("effects", "What the variants change", caption, columns, rows)


def place_table(table: Table, baseline: str) -> Table | None:
    """The mean change that each variant brings in each category, over the methods; None for a single category."""
    names = [column.title for column in table.columns]
    base, others = names.index(baseline), [k for k in range(2, len(names)) if names[k] != baseline]
    places = list(dict.fromkeys(line[1].text for line in table.rows if line[1].text != "mean"))
    if len(places) < 2:
        return None
    rows = []
    for place in places:
        lines = [line for line in table.rows if line[1].text == place]
        changes = [summarise(_change(line[k], line[base]) for line in lines) for k in others]
        rows.append((Entry(place), *(Entry(mean=one.mean, n=one.n, text=NO_VALUE) for one in changes)))
    columns = (Column("category", is_text=True), *(table.columns[k] for k in others))
    caption = f"Mean change against {quoted(baseline)} over the methods that have both; of shares, in points. Untested."
    return Table("places", "What they change in each category", caption, columns, tuple(rows))


def _change(entry: Entry, base: Entry) -> float | None:
    return None if entry.mean is None or base.mean is None else entry.mean - base.mean


def enough_table(chart: Curves, metric: str, test: Significance) -> Table:
    """How many images each method needs for so much of what all images give."""
    columns = (
        Column("method", is_text=True), Column.of(chart.what, "all images"),
        *(Column(f"{100 * share:.0f} % from", is_text=True) for share in SHARES),
        Column.of(chart.what, "fewest images"), Column("fewest", is_text=True),
    )  # fmt: skip
    rows = []
    for one in chart.learnings:
        reached = [needed(one, metric, share) for share in SHARES]
        words = [_from(images, one.with_all is None) for images in reached]
        least = one.steps[0] if one.steps else None
        whole = Entry(mean=one.with_all, text="not run", n=one.whole.n if one.whole else 0)
        rows.append((
            Entry(one.name), whole, *map(Entry, words), Entry(mean=least[1].mean if least else None, text=NO_VALUE),
            Entry(_images(least[0]) if least else NO_VALUE),
        ))  # fmt: skip
    floor = "counted from guessing (50 %), " if metric.endswith("auroc") else ""
    caption = (
        f"{first_up(chart.what.title)}, in percent. The number of images from which on a method keeps 90, 95 and 99 % of what "
        f"it reaches with all, {floor}by its mean over the categories."
    )
    return Table("enough", "How many are enough", caption, columns, tuple(rows))


def _from(images: float | None, unknown: bool) -> str:
    return NO_VALUE if unknown else "more" if images is None else _images(images)


def _images(count: float) -> str:
    return f"{count:g}"


def defect_table(runs: Sequence[Run], methods: Sequence[str], places: Sequence[Place], metric: str, test: Significance) -> Table | None:  # fmt: skip
    """Kinds of defect down, methods across; None where there is one kind only, or more than :data:`MOST_KINDS`."""
    what, rows, several = quantity(metric), [], len(places) > 1
    for place, label in zip(places, labels(places)):
        own = [run for run in runs if run.place == place and run.done]
        for kind in sorted({name for run in own for name in run.groups}):
            samples = {m: [r.value(metric, kind) for r in own if r.method == m] for m in methods}
            found = {method: summarise(values) for method, values in samples.items()}
            if all(one.mean is None for one in found.values()):
                continue
            higher = what.higher_is_better is not False
            best = compare(
                samples, level=test.level, higher_is_better=higher, holm_corrected=test.holm
            ).marked
            name = f"{label}, {kind}" if several else kind
            rows.append((
                Entry(name),
                *(Entry(mean=one.mean, std=one.std, n=one.n, bold=m in best, text=NO_VALUE) for m, one in found.items()),
            ))  # fmt: skip
    if not 2 <= len(rows) <= MOST_KINDS:
        return None
    columns = (Column("kind of defect", is_text=True), *(Column.of(what, method) for method in methods))
    caption = (
        f"{first_up(what.title)} of each kind against all good images{', in percent' if what.is_share else ''}: mean ± standard "
        f"deviation of the runs. Bold: the best of a line, and what does not differ significantly from it ({test.words})."
    )
    return Table("kinds", "Kinds of defect", caption, columns, tuple(rows))
