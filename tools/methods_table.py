"""Write what the README and docs/methods say from the program and from measurements; with --check, fail where it has gone stale.

- the table of methods in docs/methods/README.md, from DETECTORS and docs/results/methods-costs.json
- the figures of each method at the end of its page, from docs/results/methods.json and methods-longer.json
- src/andon/models/measured.json, from docs/results/methods-costs.json
- the figures in the README, from docs/results/main.json

The results are those of `andon bench run`; the pages beside them say the commands.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from andon.models import DETECTORS, defaults

ROOT = Path(__file__).resolve().parents[1]
PAGES, RESULTS = ROOT / "docs" / "methods", ROOT / "docs" / "results"
MEASURED = ROOT / "src" / "andon" / "models" / "measured.json"
START, END = "<!-- methods: written by tools/methods_table.py -->", "<!-- end of methods -->"
FIGURES, END_FIGURES = "<!-- figures: written by tools/methods_table.py -->", "<!-- end of figures -->"
HEAD = "| method | paper | learns by | backbone | reconstruction | MB | ms |\n|---|---|---|---|---|---|---|\n"
FIGURES_HEAD = "| set | good images | image AUROC | AP | AUPRO | steps |\n|---|---|---|---|---|---|\n"
COSTS = ("artifact_mb", "p50_ms")
README_COLUMNS = [
    "set", "method", "input", "fitted on", "image AUROC", "AUPRO", "AUsPRO@5%", "false alarms", "fit s", "fit peak MB", "p50 ms",
    "p99 ms", "runtime MB", "file MB",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where something is stale"
    )
    options = parser.parse_args()
    problems = without_page()
    for path, text in wanted():
        if options.check and path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(ROOT)} is stale: run python tools/methods_table.py")
        elif not options.check:
            path.write_text(text, encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def without_page() -> list[str]:
    """Methods without a page, pages without a method."""
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README", "fusion"}  # of no one method
    missing = [f"docs/methods/{name}.md is missing: write it" for name in DETECTORS if name not in pages]
    return missing + [
        f"docs/methods/{name}.md: there is no such method" for name in sorted(pages - set(DETECTORS))
    ]


def wanted() -> Iterator[tuple[Path, str]]:
    """Every file that this writes, and what it should hold."""
    costs = measured()
    yield MEASURED, json.dumps(costs, indent=1) + "\n"
    readme = PAGES / "README.md"
    yield readme, between(readme.read_text(encoding="utf-8"), START, END, table(costs))
    front = ROOT / "README.md"
    yield (
        front,
        between(front.read_text(encoding="utf-8"), FIGURES, END_FIGURES, main_figures(results("main.json"))),
    )
    rows = results("methods.json") + results("methods-longer.json")
    for name in DETECTORS:
        page = PAGES / f"{name}.md"
        if page.exists():
            text = page.read_text(encoding="utf-8")
            yield (
                page,
                between(
                    text, FIGURES, END_FIGURES, figures([r for r in rows if r["cell"]["method"] == name])
                ),
            )


def results(name: str) -> list[dict[str, Any]]:
    """The rows of a result file that ended well; none where it was not measured yet."""
    path = RESULTS / name
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [row for row in rows if row["status"] == "done"]


def measured() -> dict[str, dict[str, float]]:
    """Size on disk and milliseconds of each method, means over the sets."""
    rows = results("methods-costs.json")
    own = {name: [row["costs"] for row in rows if row["cell"]["method"] == name] for name in DETECTORS}
    return {
        name: {cost: round(mean(row[cost] for row in found), 1) for cost in COSTS}
        for name, found in own.items()
        if found
    }


def between(text: str, start: str, end: str, content: str) -> str:
    """``text`` with ``content`` between its markers, which must be there."""
    before, found, rest = text.partition(start)
    if not found or end not in rest:
        raise SystemExit(f"the marks {start} and {end} are missing after: {before[:60]!r}")
    return f"{before}{start}\n{content}{end}{rest.partition(end)[2]}"


def table(costs: dict[str, dict[str, float]]) -> str:
    """The rows, in the order of DETECTORS."""
    return HEAD + "".join(f"| {' | '.join(row(name, costs.get(name, {})))} |\n" for name in DETECTORS)


def row(name: str, costs: dict[str, float]) -> list[str]:
    """Method, paper, how it learns, whether it has a backbone, whether it gives a reconstruction, MB, milliseconds."""
    detector, settings = DETECTORS[name], defaults(name)
    return [
        f"[{name}]({name}.md)",
        detector.paper,
        "training" if settings.get("steps") else "one pass, closed form",
        "yes" if "backbone" in settings else "",
        "yes" if detector.reconstructs else "",
        *(f"{costs[cost]:.1f}" if cost in costs else "" for cost in COSTS),
    ]


def main_figures(rows: list[dict[str, Any]]) -> str:
    """The README's table: a line for each set and method."""
    lines = []
    for row in rows:
        size = "x".join(map(str, row["data"]["size"]))
        first = [row["cell"]["set"], row["cell"]["method"], size, str(row["data"]["train"])]
        shares = [f"{row['figures'][name]:.3f}" for name in ("image_auroc", "aupro_30", "auspro_5", "fpr")]
        costs = [f"{row['costs'][name]:.0f}" for name in ("fit_seconds", "fit_peak_mb")]
        costs += [f"{row['costs'][name]:.1f}" for name in ("p50_ms", "p99_ms")]
        costs += [f"{row['costs']['runtime_mb']:.0f}", f"{row['costs']['artifact_mb']:.1f}"]
        lines.append([*first, *shares, *costs])
    return "".join(
        f"| {' | '.join(line)} |\n" for line in [README_COLUMNS, ["---"] * len(README_COLUMNS), *lines]
    )


def figures(rows: list[dict[str, Any]]) -> str:
    """A section with the figures of one method on each set; nothing where there are none."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(line(row))} |\n" for row in rows]
    options = rows[0]["cell"]["options"]
    said = ", ".join(
        text for name, text in (
            ("size", "at {} pixels".format("x".join(map(str, options.get("size", []))))),
            ("minutes", f"training ended after {options.get('minutes', 0):g} min"),
        ) if name in options
    )  # fmt: skip
    note = f"One seed{', ' + said if said else ''}; the command, and all methods side by side: [results](../results/methods.md).\n"
    return f"\n## Measured\n\n{note}\n{FIGURES_HEAD}{''.join(lines)}"


def line(row: dict[str, Any]) -> list[str]:
    """Set, good images, image AUROC, AP, AUPRO, steps taken of those asked for."""
    shown = [row["figures"].get(name) for name in ("image_auroc", "image_ap", "aupro_30")]
    taken = row["data"].get("steps")
    return [
        row["cell"]["set"],
        str(row["data"]["train"]),
        *("" if value is None else f"{value:.3f}" for value in shown),
        f"{taken[0]} of {taken[1]}" if taken else "",
    ]


if __name__ == "__main__":
    sys.exit(main())
