"""The tables of a comparison: figures of the ways side by side, site by site, what travelled, how the sites spread."""

from __future__ import annotations

from collections.abc import Sequence

from andon.bench.rows import quantity
from andon.bench.stats import compare, summarise, welch_p
from andon.bench.words import phrase, title_of
from andon.bench.writers import NO_VALUE, Column, Entry, Table
from andon.federated.cases import MARGIN, Case
from andon.federated.comparing import CENTRALISED, FEDERATED, LOCAL, WAYS
from andon.federated.fairness import pareto
from andon.metrics.rates import Rate

_HEADS = (Column("partition", is_text=True), Column("method", is_text=True))
_SAID = {"match": "within one point", "better": "significantly better", "worse": "significantly worse",
         "open": "these runs do not tell"}  # fmt: skip


def ways_table(cases: Sequence[Case], figure: str) -> Table:
    """``figure``, the mean over the sites, in each way; what federated has more than centralised, and what that says."""
    what = quantity(figure)
    columns = (*_HEADS, *(Column.of(what, way) for way in WAYS), Column.of(what, "federated − centralised"),
               Column("conclusion", is_text=True))  # fmt: skip
    rows = []
    for case in cases:
        best = compare({way: case.values(way, figure) for way in WAYS if way in case.rows}).marked
        apart = case.difference(FEDERATED, CENTRALISED, figure)
        rows.append((
            *_named(case), *(_summary(case.values(way, figure), bold=way in best) for way in WAYS),
            Entry(NO_VALUE) if apart.by.mean is None else Entry(mean=apart.by.mean), Entry(_SAID[apart.said]),
        ))  # fmt: skip
    return Table(
        f"ways-{figure}", f"{phrase(what)}: local, federated, centralised",
        "Mean over the sites, mean and deviation of the runs, in per cent. Bold: best, or not significantly different from the "
        f"best (Welch, 5 %). Conclusion: within {100 * MARGIN:g} point where the whole 95 % interval of the difference, run by "
        "run, is; of many lines about one in twenty is significant by chance.",
        columns, tuple(rows),
    )  # fmt: skip


def sites_table(case: Case) -> Table:
    """Image AUROC at each site, in each way, with the numbers of images."""
    what = quantity("image_auroc")
    row = next(iter(case.rows.values()))[0]
    counts = [Column(name, is_share=False, decimals=0)
              for name in ("training images", "good test images", "anomalous test images")]  # fmt: skip
    columns = (Column("site", is_text=True), *counts, *(Column.of(what, way) for way in case.ways))
    rows = []
    for site in case.sites:
        own = row["sites"][site]
        values = {
            way: [one["sites"][site]["figures"].get("image_auroc") for one in case.rows[way]]
            for way in case.ways
        }
        best = compare({way: found for way, found in values.items() if way in WAYS}).marked
        rows.append((Entry(site), *(Entry(mean=own[name]) for name in ("train", "test_good", "test_anomalous")),
                     *(_summary([v for v in values[way] if v is not None], bold=way in best) for way in case.ways)))  # fmt: skip
    return Table(f"sites-{case.method}-{case.scene}", f"Each site's image AUROC: {case.name}",
                 "In per cent. Bold: best of local, federated and centralised, or not significantly different from it.",
                 columns, tuple(rows))  # fmt: skip


def cost_table(cases: Sequence[Case]) -> Table:
    """What a federation sends, beside the image files, and what fitting takes."""
    names = ("MB to the server", "MB to the sites", "MB of image files")
    ways = [f"seconds, {way}" for way in WAYS]
    columns = (*_HEADS, *(Column(name, is_share=False, decimals=None) for name in (*names, *ways)))
    rows = []
    for case in cases:
        sent = [case.total(FEDERATED, name) for name in ("bytes_up", "bytes_down", "image_bytes")]
        rows.append((*_named(case), *(_mean(None if value is None else value / 1e6) for value in sent),
                     *(_mean(case.total(way, "seconds")) for way in WAYS)))  # fmt: skip
    return Table("cost", "What travels, and what fitting takes",
                 "Means over the runs; image files: those of all good images that are not test images.",
                 columns, tuple(rows))  # fmt: skip


def spread_table(cases: Sequence[Case], figure: str) -> Table:
    """How ``figure`` spreads over the sites: local, federated and centralised."""
    what = quantity(figure)
    named = [Column.of(what, name) for name in ("mean", "worst site", "gap")]
    columns = (*_HEADS, Column("way", is_text=True), *named, Column("variance × 10⁴", is_share=False, decimals=2),
               Column("Jain", is_share=False, decimals=4))  # fmt: skip
    rows = []
    for case in cases:
        for way in WAYS:
            spreads = case.spreads(way, figure)
            if not spreads:
                continue
            figures = [_summary([getattr(one, name) for one in spreads]) for name in ("mean", "worst", "gap")]
            variance = summarise(1e4 * one.variance for one in spreads).mean
            jain = summarise(one.jain for one in spreads).mean
            rows.append((*_named(case), Entry(way), *figures, _mean(variance), _mean(jain)))
    note = "Jain's index is near 1 for all figures far from 0: it says little without the others." \
        if figure != "fpr" else "Jain's index is not defined where no site has a false alarm."  # fmt: skip
    return Table(f"spread-{figure}", f"How the sites differ: {phrase(what)}",
                 f"Over the sites of a run, mean and deviation of the runs; shares in per cent. {note}", columns, tuple(rows))  # fmt: skip


def threshold_table(cases: Sequence[Case]) -> Table:
    """The false alarms of each site of the federated detector, at its own threshold and at one for all."""
    columns = (*_HEADS, Column("site", is_text=True), Column("good test images", is_share=False, decimals=0),
               Column("asked for"), Column("promised"), Column("own threshold"), Column("interval", is_text=True), Column("one threshold for all"),
               Column("interval, one for all", is_text=True))  # fmt: skip
    rows = []
    for case in cases:
        target = next(iter(case.rows.values()))[0]["target_rate"]
        for site in case.sites:
            own, common = (case.false_alarms(FEDERATED, site, common=one) for one in (False, True))
            if own is not None and common is not None:
                rows.append(
                    (
                        *_named(case),
                        Entry(site),
                        Entry(mean=own.total),
                        Entry(mean=target),
                        _mean(case.promised(FEDERATED, site)),
                        *_rate(own),
                        *_rate(common),
                    )
                )
    return Table("thresholds", "False alarms of the federated detector, site by site",
                 "In per cent, mean of the runs, with 95 % intervals (Wilson) as of the images of one run: all runs judge the "
                 "same ones. With n good test images a rate below 1/n cannot be seen.", columns, tuple(rows))  # fmt: skip


def weights_table(cases: Sequence[Case]) -> Table:
    """The mean and the worst site under each rule of weights; what no other beats in both."""
    what = quantity("image_auroc")
    columns = (*_HEADS, Column("weights", is_text=True), Column.of(what, "mean of the sites"), Column.of(what, "worst site"),
               Column("worst site's p", is_share=False, decimals=3), Column("conclusion", is_text=True))  # fmt: skip
    rows = []
    for case in cases:
        points = front_points(case)
        for (way, _, _), is_front in zip(points, pareto([(m, w) for _, m, w in points]), strict=True):
            p = None if way == FEDERATED else worst_p(case, way)
            values = [
                case.values(way, "image_auroc"),
                [one.worst for one in case.spreads(way, "image_auroc")],
            ]
            rows.append((*_named(case), Entry(way), *(_summary(own) for own in values), _mean(p),
                         Entry("beaten by none on both" if is_front else "another is as good on both, better on one")))  # fmt: skip
    return Table("weights", "Weights of the sites",
                 "In per cent, mean and deviation of the runs. p: of the worst site against the usual merge (Welch). The usual "
                 "merge of moments and of trained weights counts images; that of a memory bank is the coreset of all sites' rows.",
                 columns, tuple(rows))  # fmt: skip


def front_points(case: Case) -> list[tuple[str, float, float]]:
    """Each federated way with its mean over the sites and its worst site, in image AUROC."""
    found = []
    for way in case.ways:
        spreads = case.spreads(way, "image_auroc")
        if way not in (LOCAL, CENTRALISED) and spreads:
            found.append(
                (
                    way,
                    sum(one.mean for one in spreads) / len(spreads),
                    sum(one.worst for one in spreads) / len(spreads),
                )
            )
    return found


def worst_p(case: Case, way: str) -> float:
    """Welch's p of the worst site's image AUROC against the usual merge; 1 where there is no test."""
    one, two = ([spread.worst for spread in case.spreads(name, "image_auroc")] for name in (way, FEDERATED))
    found = welch_p(one, two)
    return 1.0 if found is None else found


def _named(case: Case) -> tuple[Entry, Entry]:
    return Entry(case.scene), Entry(title_of(case.method))


def _summary(values: Sequence[float], *, bold: bool = False) -> Entry:
    found = summarise(values)
    return (
        Entry(NO_VALUE) if found.mean is None else Entry(mean=found.mean, std=found.std, n=found.n, bold=bold)
    )


def _mean(value: float | None) -> Entry:
    return Entry(NO_VALUE) if value is None else Entry(mean=value)


def _rate(found: Rate) -> tuple[Entry, Entry]:
    return Entry(mean=found.value), Entry(f"{100 * found.low:.1f} to {100 * found.high:.1f}")
