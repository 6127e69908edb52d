"""``andon bench``: methods compared on data sets, many times over."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from andon.cli import CANNOT
from andon.cli.common import Size, assigned, check_outputs, duration, shown

MARKS = {"waiting": "·", "running": "▸", "done": "█", "failed": "✗"}


@click.group("bench", short_help="Compare methods on data sets, cell by cell of a grid; resumable.")
def command() -> None:
    """Compare methods on data sets: every cell of a grid in a process of its own, resumable.

    \b
    Examples:
      andon bench grids
      andon bench run folder --data photos/clip --out bench
      andon bench run autovi-main --data AutoVI --out bench --jobs 4
      andon bench report bench/autovi-main.json -o report.html
    """


@command.command("grids")
def grids() -> None:
    """List the grids that are known: what each asks, of which methods, how often."""
    from andon.bench.grid import GRIDS

    for grid in GRIDS.values():
        click.echo(f"{click.style(grid.name, bold=True)}: {grid.title}")
        click.echo(f"  {', '.join(grid.methods)}; {grid.seeds} seeds")
        if len(grid.variants) > 1:
            click.echo(f"  each with: {', '.join(variant.name for variant in grid.variants)}")


@command.command("run")
@click.argument("grid_name", metavar="GRID")
@click.option("--data", "roots", multiple=True, required=True, type=click.Path(path_type=Path),
              help="A data set, or a folder with good/ and bad/. May be given several times.")  # fmt: skip
@click.option("--out", default=Path("bench"), show_default=True, type=click.Path(path_type=Path),
              help="Folder of the results. Cells that it holds are not computed again, whichever grid asked for them.")  # fmt: skip
@click.option(
    "--layout", default="auto", show_default=True, help="How the data is laid out. See: andon data layouts"
)
@click.option(
    "--category", "categories", multiple=True, help="Only this part of the data. May be given several times."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="Instead of the grid's own; all: every one. May be given several times.",
)
@click.option("--seeds", type=click.IntRange(1), help="How often each is fitted. Default: as the grid says.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    help="Only this variant of the grid, or one like '300 px', '5 images' or '10 minutes'. May be given several times.",
)
@click.option(
    "--size",
    type=Size(),
    help="Input size, rows x columns. Default: near 256x256, in the photographs' own shape.",
)
@click.option("--backbone", help="Of the methods that look through one. Default: their own.")
@click.option(
    "--minutes", type=float, help="Of training, for each fit. The results then depend on the machine's speed."
)
@click.option("--limit", type=int, help="Fit on so many good images at most, drawn by the seed.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of those methods that have it.",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Cells side by side. Times and memory are honest with 1.",
)
@click.option(
    "--threads", default=0, help="Processor threads of a cell. Default: the cores shared among the jobs."
)
@click.option("--timeout", type=float, help="Minutes after which a cell is given up.")
@click.option(
    "--ray", metavar="ADDRESS", help="Compute on this Ray cluster; local: on one of its own, on this machine."
)
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and what is there already.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run_grid(grid_name: str, roots: tuple[Path, ...], out: Path, layout: str, categories: tuple[str, ...], methods: tuple[str, ...],
             seeds: int | None, variants: tuple[str, ...], size: tuple[int, int] | None, backbone: str | None, minutes: float | None,
             limit: int | None, assignments: tuple[str, ...], jobs: int, threads: int, timeout: float | None, ray: str | None,
             dry_run: bool, quiet: bool) -> int:  # fmt: skip
    """Compute the cells of GRID on the data, and write OUT/GRID.json.

    Interrupted or killed, the same command goes on where it was. Cells that failed are tried again.

    Exit status: 0 every cell has its figures, 2 at least one failed.

    \b
    Examples:
      andon bench run autovi-main --data AutoVI --jobs 4
      andon bench run folder --data photos/clip --method all --seeds 1 --minutes 3
      andon bench run autovi-fewshot --data AutoVI --category tank_screw --method patchcore --ray auto
    """
    from andon.bench.grid import expand, find_grid, find_sources, narrowed
    from andon.bench.run import Resources, known_rows, run

    grid = narrowed(find_grid(grid_name), methods, seeds, variants)
    sources = find_sources(roots, categories, layout)
    options = {"size": list(size) if size else None, "minutes": minutes, "limit": limit,
               "layout": None if layout == "auto" else layout}  # fmt: skip
    settings = {**assigned(assignments), **({"backbone": backbone} if backbone else {})}
    cells = expand(
        grid, sources, {name: value for name, value in options.items() if value is not None}, settings
    )
    if dry_run:
        known = known_rows(cells, out)
        for cell in cells:
            click.echo(f"{'there' if cell.key in known else 'to do'}  {_name(cell)}")
        click.echo(f"{len(cells)} cells, {len(known)} of them there already")
        return 0
    board = None if quiet else Board()
    path = run(grid, cells, out, Resources(jobs, threads, timeout, ray=ray), board)
    failed = [row for row in _rows(path) if row["status"] == "failed"]
    for row in failed:
        click.secho(f"failed: {_described(row['cell'])}: {shown(row['error'])}", fg="yellow", err=True)
    click.echo(f"{path}: {len(cells) - len(failed)} of {len(cells)} cells")
    click.echo(f"Next:  andon bench report {path} -o report.html")
    return CANNOT if failed else 0


@command.command("report")
@click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="The HTML page to write. Default: bench-report.html, where no other file is asked for.")  # fmt: skip
@click.option("--markdown", type=click.Path(path_type=Path), help="Answers and tables as Markdown.")
@click.option("--latex", type=click.Path(path_type=Path), help="The tables as LaTeX; they need booktabs.")
@click.option("--csv", type=click.Path(path_type=Path), help="A line for every figure, unrounded.")
@click.option("--json", type=click.Path(path_type=Path), help="Everything as JSON, figures unrounded.")
@click.option("--holm", is_flag=True, help="Correct for the many comparisons of a line (Holm's method).")
@click.option("--no-published", is_flag=True, help="Leave out what papers published.")
def report(
    results: tuple[Path, ...], output: Path | None, holm: bool, no_published: bool, **texts: Path | None
) -> None:
    """Make tables, drawings and one HTML page of RESULTS, the files that "andon bench run" writes.

    RESULTS are files, or folders of them; files of one grid are joined. Each grid answers its own question first.

    \b
    Examples:
      andon bench report bench/folder.json
      andon bench report bench -o study.html --markdown study.md
      andon bench report laptop/autovi-main.json cluster/autovi-main.json -o study.html --holm
    """
    from andon.bench.bundle import BUNDLES
    from andon.bench.joined import join_results, result_files
    from andon.bench.page import write_page
    from andon.bench.published import NOTHING
    from andon.bench.report import report_of
    from andon.bench.tables import Significance
    from andon.errors import SettingsError
    from andon.files import atomic_write

    asked = {kind: path for kind, path in texts.items() if path is not None}
    page = output or (None if asked else Path("bench-report.html"))
    found = result_files(results)
    for path in filter(None, (page, *asked.values())):
        if path.resolve() in {file.resolve() for file in found}:
            raise SettingsError(f"{path} holds results: give another file to write")
    check_outputs(page, *asked.values())
    published = NOTHING if no_published else None
    reports = [report_of(grid, Significance(holm=holm), published) for grid in join_results(found)]
    if page is not None:
        write_page(page, reports)
    for kind, path in asked.items():
        with atomic_write(path, "w") as file:
            file.write(BUNDLES[kind](reports))
    for grid in reports:
        click.secho(grid.parts[0].question, bold=True)
        click.echo(f"  {grid.parts[0].answer[0]}".replace("\u00a0", " "))
    for path in filter(None, (page, *asked.values())):
        click.echo(f"written: {path}")


def _rows(path: Path) -> list[dict[str, Any]]:
    from andon.bench.run import read_results

    rows: list[dict[str, Any]] = read_results(path)["rows"]
    return rows


def _name(cell: Any) -> str:
    return _described(cell.as_dict())


def _described(cell: Mapping[str, Any]) -> str:
    """``set/category method variant, seed n``, the empty ones left out."""
    place = "/".join(part for part in (cell["set"], cell["category"]) if part)
    return (
        " ".join(part for part in (place, cell["method"], cell["variant"]) if part) + f", seed {cell['seed']}"
    )


class Board:
    """The cells as a table that lives: a line for each method and variant, a mark for each category and seed.

    Where nobody watches, a line for each cell that ends.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.states: dict[tuple[str, ...], str] = {}
        self.latest = ""
        self.begun = time.monotonic()
        self.lines = 0
        self.fresh = 0  # cells that this run has computed

    def planned(self, cells: Sequence[Any], known: Mapping[str, Any]) -> None:
        """Draw the table as it stands."""
        for cell in cells:
            self.states[self._place(cell)] = "done" if cell.key in known else "waiting"
        if known:
            click.echo(f"{len(known)} of {len(cells)} cells are there already", err=True)
        self._draw()

    def started(self, cell: Any) -> None:
        """Mark a cell that runs."""
        self.states[self._place(cell)] = "running"
        self._draw()

    def ended(self, cell: Any, row: Mapping[str, Any]) -> None:
        """Mark a cell that has its result, and say it."""
        self.states[self._place(cell)] = row["status"]
        self.fresh += 1
        self.latest = f"{_name(cell)}: {_result(row)}"
        if not self.live:
            done = sum(state in ("done", "failed") for state in self.states.values())
            click.echo(f"[{done}/{len(self.states)}] {self.latest}", err=True)
        self._draw()

    @staticmethod
    def _place(cell: Any) -> tuple[str, ...]:
        return f"{cell.method} {cell.variant}".strip(), cell.source.set, cell.source.category, str(cell.seed)

    def _draw(self) -> None:
        if not self.live:
            return
        if self.lines:
            click.echo(f"\x1b[{self.lines}A\x1b[J", nl=False, err=True)
        text = self.table()
        click.echo(text, err=True)
        self.lines = text.count("\n") + 1

    def table(self) -> str:
        """The marks of all cells, how many there are of each state, the time that is left, the latest result."""
        lines: dict[str, dict[tuple[str, str], str]] = {}
        for (line, name, category, _), state in self.states.items():
            marks = lines.setdefault(line, {})
            marks[name, category] = marks.get((name, category), "") + MARKS[state]
        width = max(len(line) for line in lines)
        shown_lines = [f"{line:<{width}}  {' '.join(marks.values())}" for line, marks in lines.items()]
        count = Counter(self.states.values())
        summary = ", ".join(f"{count[state]} {state}" for state in MARKS if count[state])
        return "\n".join([*shown_lines, f"{summary}{self._left(count)}", self.latest])

    def _left(self, count: Mapping[str, int]) -> str:
        todo = count.get("waiting", 0) + count.get("running", 0)
        if not (self.fresh and todo):
            return ""
        return f"; about {duration((time.monotonic() - self.begun) / self.fresh * todo)} left"


def _result(row: Mapping[str, Any]) -> str:
    if row["status"] == "failed":
        return f"failed: {row['error']}"
    figure, costs = row["figures"].get("image_auroc"), row["costs"]
    auroc = "no image AUROC" if figure is None else f"image AUROC {figure:.3f}"
    memory = "" if costs["fit_peak_mb"] is None else f", {costs['fit_peak_mb']:.0f} MB"
    return f"{auroc}, fit {duration(costs['fit_seconds'])}{memory}, {costs['p50_ms']:.1f} ms an image"
