"""``andon evaluate``: figures on photographs whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from andon.cli import CANNOT
from andon.cli.common import Bars, check_outputs, shown


@click.command("evaluate", short_help="Measure a detector on test images whose answers are known.")
@click.argument(
    "arguments", metavar="[ARTIFACT] ROOT", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--maps",
    type=click.Path(path_type=Path),
    help="Score the anomaly maps in this folder (.tiff, .npy, 16-bit .png) instead of a detector's.",
)
@click.option(
    "--layout", default="auto", show_default=True, help="How ROOT is laid out. See: andon data layouts"
)
@click.option("--category", help="Which part, where ROOT holds several.")
@click.option(
    "--bootstrap", default=1000, show_default=True, help="Resamples for the confidence intervals; 0 for none."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the resampling.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything as JSON.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write the metrics as a table.")
@click.option(
    "--scores", "scores_path", type=click.Path(path_type=Path), help="Write the raw scores, one row an image."
)
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write the report.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; default: the machine's cores.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(arguments: tuple[Path, ...], maps: Path | None, layout: str, category: str | None, bootstrap: int,
            seed: int, json_path: Path | None, csv_path: Path | None, scores_path: Path | None,
            html_path: Path | None, threads: int | None, quiet: bool) -> int:  # fmt: skip
    """Measure a detector on the test images of a data set: ROOT in any known layout, or folders good/ and bad/.

    With --maps, measure anomaly maps that any other tool wrote; they lie as the test images do:
    MAPS/<defect type>/<image name>.tiff

    Exit status: 0 every image was scored, 2 at least one could not be (the figures are those of the others).

    \b
    Examples:
      andon evaluate clip.andon data/clip
      andon evaluate clip.andon data/clip --html report.html --json figures.json
      andon evaluate --maps other_tool/maps data/clip
    """
    from andon.evaluate import format_table, metrics_csv, scores_csv, to_json
    from andon.files import atomic_write
    from andon.pipeline import evaluate_maps, judge, write_judged_report
    from andon.runtime.predictor import Predictor

    if len(arguments) != (1 if maps else 2):
        raise click.UsageError(
            "expected ROOT with --maps DIR, or ARTIFACT and ROOT. See: andon evaluate --help"
        )
    root = arguments[-1]
    if maps is not None and html_path is not None:
        raise click.UsageError("--html needs a detector; with --maps use --json, --csv and --scores")
    check_outputs(json_path, csv_path, scores_path, html_path)
    judged = None
    with Bars(quiet=quiet) as bars:
        how: dict[str, Any] = {
            "layout": layout,
            "category": category,
            "bootstrap": bootstrap,
            "seed": seed,
            "progress": bars,
        }
        if maps is not None:
            found = evaluate_maps(maps, root, **how)
        else:
            predictor = Predictor.open(arguments[0], threads=threads)
            judged = judge(predictor, root, **how)
            found = judged.evaluation
    click.echo(format_table(found))
    for row in found.rows:
        if row.error:
            click.secho(f"could not be scored: {shown(row.path)}: {row.error}", fg="yellow", err=True)
    for path, text in ((json_path, to_json), (csv_path, metrics_csv), (scores_path, scores_csv)):
        if path is not None:
            with atomic_write(path, "w") as file:
                file.write(text(found))
    if html_path is not None and judged is not None:
        write_judged_report(predictor, judged, html_path)
        click.echo(f"report: {html_path}")
    return CANNOT if any(row.error for row in found.rows) else 0
