"""The questions that a grid answers, one :class:`Part` each: its own first, then those that every benchmark is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from andon.bench import answers, charts, findings
from andon.bench.answers import Ranking
from andon.bench.charts import Chart
from andon.bench.joined import Results
from andon.bench.published import NOTHING, Place, Published
from andon.bench.rows import Run, labels, places_of, quantity
from andon.bench.special import (
    defect_table,
    effect_table,
    enough_table,
    place_table,
    spread_table,
    transposed,
)
from andon.bench.stats import summarise
from andon.bench.tables import (
    AS_IT_IS,
    Significance,
    cost_table,
    method_table,
    variant_table,
)
from andon.bench.ten_models import ten_models_table
from andon.bench.words import first_up, listed, phrase, shown, title_of, titles
from andon.bench.writers import Table

LOCO_GROUPS = {"structural_anomalies": "Structural defects", "logical_anomalies": "Logical defects"}
MANY_METHODS = 7  # from here on, they are set side by side
_MOST_NAMES = 6  # of methods in a sentence
_FOR = {
    "best accuracy": "Best accuracy", "fastest within 1 point of the best": "fastest within 1 point of the best",
    "fastest": "fastest of all", "smallest": "smallest file", "neither best nor beaten": "neither best nor beaten",
}  # fmt: skip
_AGAINST = {
    "dominated": "Beaten by another on both accuracy and time",
    "misses most defects at its threshold": "misses most defects at its threshold",
}
_ACROSS = 8  # methods across a table, at most; more go down
_QUESTIONS = {
    "autovi-main": "Which method is best on AutoVI?",
    "autovi-augmentation": "Does augmentation help?",
    "autovi-window": "How much of the photograph should the detector see?",
    "autovi-fewshot": "How few good images are enough?",
    "autovi-efficientad-normalisation": "Which good images should set the scale of EfficientAD's maps?",
    "ten-models": "Which of these models would one take?",
    "mvtec": "Which method is best on MVTec AD?",
    "loco": "Which method finds structural defects, and which logical ones?",
    "visa": "Which method is best on VisA?",
    "folder": "Which method is best on these images?",
}
_SUBJECTS = {
    "autovi-augmentation": "Augmentation",
    "autovi-window": "Seeing the middle of the photograph alone",
    "autovi-efficientad-normalisation": "Setting the scale on all training images",
}


@dataclass(frozen=True)
class Part:
    """A question, its answer in sentences, and what the answer rests on."""

    question: str
    answer: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Block:
    """The part of a grid's results that one table can hold: those of its public set, or all others.

    ``title``: of a public set, else empty. ``places``: with those that were not run.
    """

    title: str
    places: tuple[Place, ...]
    rows: tuple[dict[str, Any], ...]
    runs: tuple[Run, ...]
    methods: tuple[str, ...]

    @property
    def ran(self) -> list[Place]:
        """The places that have a result."""
        return places_of(self.runs)


@dataclass(frozen=True)
class Asked:
    """What every part needs to know."""

    results: Results
    variants: tuple[str, ...]  # in the order of the tables
    plain: str  # the variant that stands for the method as it is
    test: Significance
    published: Published

    @property
    def metric(self) -> str:
        """The figure that answers are about."""
        return self.results.metrics[0] if self.results.metrics else "image_auroc"

    @property
    def varied(self) -> bool:
        """Whether the grid sets variants against each other."""
        return len(self.variants) > 1


def question_of(results: Results) -> str:
    """What the grid asks."""
    return _QUESTIONS.get(results.name) or results.title or results.name


def parts_of(asked: Asked, blocks: Sequence[Block]) -> list[Part]:
    """The grid's own question, the same of its other blocks, and what every grid is asked of the first one."""
    first, question = blocks[0], question_of(asked.results)
    parts = [_first(asked, first, question)]
    for block in blocks[1:]:
        other = "And on other images?" if block.runs else f"What was published of {block.title}?"
        parts.append(_first(asked, block, other))
        if not block.runs:
            parts[0] = _elsewhere(parts[0], block, first)
    plain = replace(first, runs=tuple(run for run in first.runs if run.variant == asked.plain))
    ranking = answers.rank(plain.runs, plain.methods, asked.metric, asked.test)
    makers: tuple[Callable[[Asked, Block, Ranking], Part | None], ...] = (
        _even,
        _kinds,
        _cost,
        _side_by_side,
    )
    return parts + [part for make in makers if (part := make(asked, plain, ranking)) is not None]


# --- the grid's own question ----------------------------------------------------------------------------------------------


def _first(asked: Asked, block: Block, question: str) -> Part:
    if not block.runs:
        return _unseen(asked, block, question)
    if asked.results.name == "autovi-fewshot" and asked.varied:
        return _few(asked, block, question)
    if asked.varied:
        return _variants_part(asked, block, question)
    if asked.results.name == "loco" and block.title:
        return _loco(asked, block, question)
    return _methods(asked, block, question)


def _elsewhere(part: Part, home: Block, block: Block) -> Part:
    """A part whose answer says that it is not about the set that was asked for."""
    where = listed(dict.fromkeys(name for name, _ in block.ran))
    said = f"{home.title} was not run. On other images ({where}): {part.answer[0]}"
    return replace(part, answer=(said, *part.answer[1:]))


def _unseen(asked: Asked, block: Block, question: str) -> Part:
    """A public set that was not run: what was published of it."""
    if not block.title:
        return Part(question, ("Nothing was run yet, so nothing can be said.",))
    tables = [table for table in _method_tables(asked, block) if _says(table)]
    said = f"{block.title} was not run here."
    known = answers.published_best(asked.published, block.places, asked.metric)
    nothing = (
        [] if tables else ["No published figure of it comes along."] if asked.published is not NOTHING else []
    )
    return Part(question, (said, *known, *nothing), tuple(tables))


def _methods(asked: Asked, block: Block, question: str) -> Part:
    ranking = answers.rank(block.runs, block.methods, asked.metric, asked.test)
    answer = [
        *_best(asked, block, ranking),
        *answers.by_category(block.runs, ranking, asked.metric, asked.test),
        *answers.other_figures(block.runs, block.methods, asked.results.metrics[1:], asked.test),
        *_lacking(block),
        *answers.published_best(asked.published, block.places, asked.metric),
    ]
    tables = _method_tables(asked, block)
    if asked.results.name == "ten-models":
        table = _side_table(asked, block)
        answer[1:1], tables = _conclusions(table), [table, *tables]
    return Part(question, tuple(answer), tuple(tables))


def _best(asked: Asked, block: Block, ranking: Ranking) -> list[str]:
    failed = sum(not run.done for run in block.runs)
    return answers.best_method(ranking, len(block.runs), failed)


def _lacking(block: Block) -> list[str]:
    """How much of a public set was run, where it is not all of it."""
    if not block.title or len(block.ran) == len(block.places):
        return []
    return [
        f"Of the {len(block.places)} categories of {block.title}, {listed(labels(block.ran))} {'was' if len(block.ran) == 1 else 'were'} run."
    ]


def _method_tables(asked: Asked, block: Block, group: str = "", title: str = "") -> list[Table]:
    made, name = (
        [],
        "" if asked.plain == asked.results.baseline else asked.plain,
    )  # the baseline is the method as it is
    rows = [
        {**row, "cell": {**row["cell"], "variant": name}}
        for row in block.rows
        if _variant(row) == asked.plain
    ]
    for metric in asked.results.metrics if block.places else ():
        table = method_table(
            rows, metric, places=block.places, methods=block.methods, group=group,
            variant=name, test=asked.test, published=asked.published,
        )  # fmt: skip
        if title:
            table = replace(table, title=f"{table.title.partition(f', {group}')[0]}: {title.lower()}")
            table = replace(table, caption=table.caption.replace(f", {group}", f", {title.lower()}"))
        made.append(transposed(table) if len(block.methods) > max(_ACROSS, len(table.rows)) else table)
    return made


def _says(table: Table) -> bool:
    """Whether anything but "not run" stands in the table."""
    return any(entry.published is not None or entry.mean is not None for line in table.rows for entry in line)


def _loco(asked: Asked, block: Block, question: str) -> Part:
    answer, tables, best = [], list[Table](), []
    for group, title in LOCO_GROUPS.items():
        ranking = answers.rank(block.runs, block.methods, asked.metric, asked.test, group)
        there = any(group in run.groups for run in block.runs)
        found = _best(asked, block, ranking)[0] if there else "there are none among the images that were run."
        answer.append(f"{title}: {found}")
        first = ranking.comparison.reference
        if first is not None:
            figure = shown(ranking.means[first], ranking.what)
            best.append(f"on {title.lower()} {title_of(first)} is best ({figure})")
        tables += _method_tables(asked, block, group, title)
    if len(best) == len(LOCO_GROUPS):
        answer.insert(0, f"{first_up(', '.join(best))}, by {phrase(quantity(asked.metric))}.")
    both = answers.rank(block.runs, block.methods, asked.metric, asked.test)
    answer += [f"Both together: {_best(asked, block, both)[0]}", *_lacking(block)]
    answer += answers.published_best(asked.published, block.places, asked.metric)
    return Part(question, tuple(answer), (*tables, *_method_tables(asked, block)))


def _variants_part(asked: Asked, block: Block, question: str) -> Part:
    what, tables = quantity(asked.metric), _variant_tables(asked, block)
    baseline = asked.plain or AS_IT_IS
    found = findings.effects(tables[0], baseline)
    subject = _SUBJECTS.get(asked.results.name, "Another variant")
    answer = findings.variants_help(found, what, subject, baseline, asked.test)
    chart = charts.pairs(
        block.runs, block.methods, block.ran, asked.variants, asked.plain, asked.metric, asked.test
    )
    by_place = place_table(tables[0], baseline)
    extra = [effect_table(found, what, baseline), *([by_place] if by_place else [])]
    return Part(question, (*answer, *_lacking(block)), (*extra, *tables), (chart,) if chart.cases else ())


def _variant_tables(asked: Asked, block: Block) -> list[Table]:
    """One for each figure; only of what was run, since a line for every method and category is long."""
    ran = [method for method in block.methods if any(run.method == method for run in block.runs)]
    return [
        variant_table(
            block.rows, metric, baseline=asked.plain, variants=asked.variants, places=block.ran, methods=ran,
            test=asked.test, published=asked.published,
        )
        for metric in asked.results.metrics or (asked.metric,)
    ]  # fmt: skip


def _few(asked: Asked, block: Block, question: str) -> Part:
    shots = {
        name: float(name.split()[0])
        for name in asked.variants
        if name.split()[0:1] and name.split()[0].isdigit()
    }
    whole = [_trained_on(row) for row in block.rows if _variant(row) == asked.plain]
    chart = charts.curves(
        block.runs, block.methods, _shared_places(block, asked.metric), shots, asked.plain, asked.metric,
        summarise(whole).mean,
    )  # fmt: skip
    answer = [*findings.few_are_enough(chart, asked.metric), *_lacking(block)]
    tables = [enough_table(chart, asked.metric, asked.test)] if chart.learnings else []
    return Part(
        question,
        tuple(answer),
        (*tables, *_variant_tables(asked, block)),
        (chart,) if chart.learnings else (),
    )


def _variant(row: dict[str, Any]) -> str:
    return row["cell"].get("variant") or ""


def _trained_on(row: dict[str, Any]) -> int | None:
    """How many images a cell was fitted on; None where its result does not say."""
    data = row.get("data")
    count = data.get("train") if isinstance(data, dict) else None
    return count if isinstance(count, int) else None


def _shared_places(block: Block, metric: str) -> list[Place]:
    """The places in which the figure is defined."""
    return places_of(run for run in block.runs if run.done and run.value(metric) is not None)


# --- what every grid is asked ---------------------------------------------------------------------------------------------


def _even(asked: Asked, block: Block, ranking: Ranking) -> Part | None:
    """Data heterogeneity."""
    if len(ranking.places) < 2:
        return None
    chart = charts.spread(block.runs, block.methods, ranking.places, asked.metric)
    table = spread_table(chart, asked.published, block.places)
    return Part(
        "Does a method do as well on every category?", tuple(findings.evenness(chart)), (table,), (chart,)
    )


def _kinds(asked: Asked, block: Block, ranking: Ranking) -> Part | None:
    """Kinds of defect; LOCO's two have their own tables."""
    if asked.varied or (asked.results.name == "loco" and block.title):
        return None
    ran = [method for method in block.methods if method in ranking.means]
    table = defect_table(block.runs, ran, ranking.places, asked.metric, asked.test)
    if table is None or not ran:
        return None
    return Part(
        "Which kinds of defect are found?", tuple(findings.hardest_kind(table, ranking.what)), (table,)
    )


def _cost(asked: Asked, block: Block, ranking: Ranking) -> Part | None:
    """Accuracy against time."""
    ran = [method for method in block.methods if any(run.method == method for run in block.runs)]
    if not any(run.done and run.costs for run in block.runs):
        return None
    chart = charts.trade_off(ranking.means, block.runs, ranking.places, asked.metric, "p50_ms")
    table = cost_table(block.rows, methods=ran, variant=asked.plain)
    said = findings.worth_it(chart) or [
        "There is no answer: no method has both a figure and a time in every category."
    ]
    return Part("What does accuracy cost?", tuple(said), (table,), (chart,) if len(chart.points) > 1 else ())


def _side_by_side(asked: Asked, block: Block, ranking: Ranking) -> Part | None:
    """Every method on everything, where they are many."""
    if asked.results.name == "ten-models" or len(ranking.means) < MANY_METHODS:
        return None
    table = _side_table(asked, block)
    return Part("Which one would one take?", tuple(_conclusions(table)), (table,))


def _side_table(asked: Asked, block: Block) -> Table:
    ran = [method for method in block.methods if any(run.method == method for run in block.runs)]
    return ten_models_table(block.rows, methods=ran, variant=asked.plain, test=asked.test)


def _conclusions(table: Table) -> list[str]:
    """The table's last column, by conclusion instead of by method: what speaks for some, then what against others."""
    said: dict[str, list[str]] = {}
    for line in table.rows:
        for conclusion in line[-1].text.split("; "):
            said.setdefault(conclusion.partition(" by ")[0], []).append(line[0].text)
    found = [
        "; ".join(
            f"{words}: {_some(said[name], len(table.rows))}" for name, words in kind.items() if name in said
        )
        for kind in (_FOR, _AGAINST)
    ]
    return [f"{first_up(sentence)}." for sentence in found if sentence] or [
        "There is no answer: no method has a figure in every category."
    ]


def _some(methods: Sequence[str], total: int) -> str:
    return titles(methods) if len(methods) <= _MOST_NAMES else f"{len(methods)} of {total} methods"
