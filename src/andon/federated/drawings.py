"""The drawings of a comparison as inline SVG, in the report's style: readable without colour, in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from andon.bench.figures import WIDTH, Drawing
from andon.bench.stats import band, summarise
from andon.bench.words import listed, title_of
from andon.federated.cases import Case
from andon.federated.comparing import CENTRALISED, FEDERATED, LOCAL, WAYS, fair
from andon.federated.fairness import pareto
from andon.federated.partitions import Partition
from andon.federated.tables import front_points
from andon.report.figures import BAD, FAIL, GOOD, INK, MUTED, PAPER, RULE, draw_svg, locator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN = "image_auroc"
_MARKS = {LOCAL: ("o", PAPER, MUTED), FEDERATED: ("D", GOOD, GOOD), CENTRALISED: ("|", INK, INK)}
_LEGEND = (("hollow", "○", "local"), ("good", "◆", "federated"), ("ink", "❘", "centralised"))
_LINES = {LOCAL: (MUTED, "o", ":"), FEDERATED: (GOOD, "D", "-"), CENTRALISED: (INK, "s", "--")}
_PANELS = 3  # side by side
_MOST = 6  # panels, or partitions, of one drawing
_MOST_ROWS = 40  # lines of one drawing
_LONG = 44  # letters of a label


def partition_drawing(partition: Partition, identifier: str) -> Drawing:
    """How many training images each site holds, by mode where there are modes."""
    shares = partition.shares
    most = max(len(share.train) for share in shares)

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        for row, share in enumerate(shares):
            left = 0
            for mode, count in enumerate(share.modes or (len(share.train),)):
                if count:
                    axes.barh(row, count, left=left, height=0.62, color=GOOD, alpha=_shade(mode, len(share.modes)),
                              edgecolor=PAPER, linewidth=1.2)  # fmt: skip
                    if share.modes and count > 0.025 * most:
                        axes.text(
                            left + count / 2,
                            row,
                            str(mode + 1),
                            ha="center",
                            va="center",
                            color=INK,
                            fontsize=8,
                        )
                left += count
            good, bad = share.tested(anomalous=False), share.tested(anomalous=True)
            axes.text(left + 0.012 * most, row, f"{len(share.train)}   (test: {good} good, {bad} anomalous)",
                      va="center", color=MUTED, fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(shares)), [share.name[:_LONG] for share in shares])
        axes.set(xlim=(0, 1.34 * most), ylim=(len(shares) - 0.5, -0.5), xlabel="good training images")
        axes.xaxis.set_major_locator(locator("MaxNLocator", 6, integer=True))
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="y", labelcolor=INK)

    held = "; ".join(f"{share.name} {len(share.train)}" for share in shares)
    modes = " A number in a bar is a mode of the good images: a group that looks alike, the largest first." \
        if shares[0].modes else ""  # fmt: skip
    return Drawing(
        draw_svg(make, (WIDTH, 0.75 + 0.36 * len(shares)), identifier),
        f"Good training images of each site: {held}.",
        f"Partition: {partition.recipe.label}; seed {partition.recipe.seed}.{modes}",
    )


def _shade(mode: int, modes: int) -> float:
    return 0.75 - 0.6 * mode / modes if modes else 0.55


def ways_drawing(cases: Sequence[Case], identifier: str) -> Drawing:
    """The mean over the sites of every case, in the three ways, with the interval of the runs."""
    shown = cases[:_MOST_ROWS]

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        for row, case in enumerate(shown):
            for way, offset in zip(WAYS, (-0.2, 0.0, 0.2), strict=True):
                values = case.values(way, MAIN)
                mean = summarise(values).mean
                if mean is not None:
                    marker, face, edge = _MARKS[way]
                    axes.plot(
                        [min(values), max(values)], [row + offset] * 2, color=edge, linewidth=1.2, alpha=0.6
                    )
                    axes.plot(mean, row + offset, marker, color=face, markeredgecolor=edge, markersize=6.5,
                              markeredgewidth=2 if marker == "|" else 1)  # fmt: skip
        axes.set_yticks(range(len(shown)), [case.name[:64] for case in shown])
        axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="image AUROC, mean of the sites")
        _as_rows(axes)

    return Drawing(
        draw_svg(make, (WIDTH, 0.8 + 0.42 * len(shown)), identifier),
        f"Image AUROC of {len(shown)} cases, local, federated and centralised; the tables below hold the numbers.",
        "Mean of the runs; the line runs from the lowest run to the highest."
        + _cut(len(cases), len(shown), "cases"),
        _LEGEND,
    )


def curve_drawing(cases: Sequence[Case], identifier: str) -> Drawing:
    """Image AUROC over the alpha of partitions by modes, a panel a method."""
    curved = [case for case in cases if case.alpha is not None]
    methods = list(dict.fromkeys(case.method for case in curved))
    alphas = sorted({case.alpha for case in curved if case.alpha is not None})
    across = min(_PANELS, len(methods))
    down = -(-len(methods) // across)

    def make(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for k, axes in enumerate(grid.ravel()):
            if k >= len(methods):
                axes.set_visible(False)
                continue
            own = sorted(
                (case for case in curved if case.method == methods[k]), key=lambda case: case.alpha or 0
            )
            for way in WAYS:
                _draw_curve(axes, own, way)
            axes.set_title(title_of(methods[k]), fontsize=9, color=INK, loc="left", fontweight="bold")
            axes.grid(color=RULE, linewidth=0.6)
            axes.set_xscale("log")
            axes.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
            axes.xaxis.set_minor_locator(locator("NullLocator"))
            _percent(axes.yaxis, 4)
            axes.tick_params(length=0, pad=4)
        figure.supxlabel(
            "alpha: left, each site sees few looks of the part; right, all see all", fontsize=9, color=MUTED
        )
        figure.supylabel("image AUROC", fontsize=9, color=MUTED)

    return Drawing(
        draw_svg(make, (WIDTH, 0.6 + 2.3 * down), identifier),
        f"Image AUROC over alpha ({', '.join(f'{alpha:g}' for alpha in alphas)}) for {listed(map(title_of, methods))}.",
        "Mean over the sites; the band holds the mean of many more runs with 95\u00a0% confidence (cut at 100\u00a0%).",
        (("neutral", "● ·····", "local"), ("good", "◆ ——", "federated"), ("ink", "■ – –", "centralised")),
    )


def _draw_curve(axes: Axes, cases: Sequence[Case], way: str) -> None:
    colour, marker, line = _LINES[way]
    found = [(case.alpha, band(case.values(way, MAIN))) for case in cases]
    known = [(alpha, own) for alpha, own in found if alpha is not None and own.mean is not None]
    x, y = [alpha for alpha, _ in known], [own.mean or 0.0 for _, own in known]
    axes.plot(x, y, line, color=colour, marker=marker, markersize=4.5, linewidth=1.6)
    if way == FEDERATED and all(own.low is not None for _, own in known):
        low, high = [own.low or 0.0 for _, own in known], [min(1.0, own.high or 0.0) for _, own in known]
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def alarms_drawing(cases: Sequence[Case], identifier: str) -> Drawing | None:
    """False alarms of the federated detector at each site, with a threshold of its own and with one for all."""
    rows = [
        (case, site)
        for case in cases
        for site in case.sites
        if case.false_alarms(FEDERATED, site) is not None
    ]
    shown = rows[:_MOST_ROWS]
    if not shown:
        return None

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        for row, (case, site) in enumerate(shown):
            target = next(iter(case.rows.values()))[0]["target_rate"]
            axes.plot([target] * 2, [row - 0.45, row + 0.45], color=FAIL, linewidth=1.3)
            for common, offset, marker, colour in ((False, -0.15, "D", GOOD), (True, 0.15, "o", BAD)):
                found = case.false_alarms(FEDERATED, site, common=common)
                if found is not None:
                    axes.plot(
                        [found.low, found.high], [row + offset] * 2, color=colour, linewidth=1.2, alpha=0.55
                    )
                    axes.plot(
                        found.value, row + offset, marker, color=colour, markersize=5, markeredgewidth=0
                    )
        labels = [f"{site[:26]} · {title_of(case.method)} · {case.scene}"[:70] for case, site in shown]
        axes.set_yticks(range(len(shown)), labels)
        axes.set(xlim=(-0.01, None), ylim=(len(shown) - 0.4, -0.6), xlabel="good test images that fail")
        _as_rows(axes)

    return Drawing(
        draw_svg(make, (WIDTH, 0.8 + 0.3 * len(shown)), identifier),
        f"False alarms at {len(shown)} sites beside the rate asked for; the table below holds the numbers.",
        "Lines are 95\u00a0% intervals as of the images of one run; the upright line is the rate asked for."
        + _cut(len(rows), len(shown), "sites"),
        (("good", "◆", "threshold of the site's own"), ("bad", "●", "one threshold for all sites")),
    )


def pareto_drawing(cases: Sequence[Case], identifier: str) -> Drawing:
    """The mean of the sites against the worst of them, a dot a rule of weights; a panel a case, the widest first."""
    tried = [case for case in cases if len(front_points(case)) > 1]
    tried.sort(key=lambda case: -max(mean - worst for _, mean, worst in front_points(case)))
    shown = tried[:_MOST]
    across = min(_PANELS, len(shown))
    down = -(-len(shown) // across)

    def make(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False)
        for k, axes in enumerate(grid.ravel()):
            if k >= len(shown):
                axes.set_visible(False)
                continue
            _draw_front(axes, shown[k])
        figure.supxlabel("image AUROC, mean of the sites", fontsize=9, color=MUTED)
        figure.supylabel("worst site", fontsize=9, color=MUTED)

    return Drawing(
        draw_svg(make, (WIDTH, 0.5 + 2.5 * down), identifier),
        "Mean of the sites against the worst site for each rule of weights; the table below holds the numbers.",
        "Higher: the worst site is better off; further right: the mean is higher. Mean of the runs."
        + _cut(len(tried), len(shown), "cases, those with the widest gap"),
        (
            ("good", "●", "beaten by none on both"),
            ("hollow", "○", "another is as good on both, and better on one"),
        ),
    )


def _draw_front(axes: Axes, case: Case) -> None:
    points = front_points(case)
    front = pareto([(mean, worst) for _, mean, worst in points])
    spans = [
        max(max(values) - min(values), 0.01) for values in zip(*(point[1:] for point in points), strict=True)
    ]
    for place, ((way, mean, worst), is_front) in enumerate(zip(points, front, strict=True)):
        fill, edge = (GOOD, GOOD) if is_front else (PAPER, MUTED)
        axes.plot(mean, worst, "o", color=fill, markeredgecolor=edge, markersize=7)
        level = [(m - mean) / spans[0] for _, m, w in points if abs(w - worst) < 0.09 * spans[1]]
        twins = sum(
            (m, w) == (mean, worst) for _, m, w in points[:place]
        )  # labels of equal points lie below each other
        left = any(0 < dx < 0.5 for dx in level) and not any(-0.5 < dx < 0 for dx in level)
        axes.annotate("usual merge" if way == FEDERATED else way.removeprefix(fair("")), (mean, worst),
                      (-7 if left else 7, -11 * twins), textcoords="offset points", ha="right" if left else "left",
                      va="center", fontsize=8, color=INK if is_front else MUTED)  # fmt: skip
    for axis, limits, column in ((axes.xaxis, axes.set_xlim, 0), (axes.yaxis, axes.set_ylim, 1)):
        _percent(axis, 3)
        values, room = [point[1 + column] for point in points], (0.75, 0.35)[column] * spans[column]
        limits(min(values) - room, max(values) + room)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_title(case.name[:42], fontsize=8, color=INK, loc="left", fontweight="bold")
    axes.tick_params(length=0, pad=4)


def _as_rows(axes: Axes) -> None:
    """A row a case: names at the left without a line, shares in percent below."""
    _percent(axes.xaxis)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK)


def _percent(axis: object, ticks: int = 6) -> None:
    axis.set_major_locator(locator("MaxNLocator", ticks, steps=(1, 2, 2.5, 5, 10)))  # type: ignore[attr-defined]
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")  # type: ignore[attr-defined]


def _cut(total: int, shown: int, what: str) -> str:
    return f" {shown} of {total} {what}." if shown < total else ""
