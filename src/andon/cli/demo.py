"""``andon demo``: the main job from start to finish, on an inspection line that Andon draws itself."""

from __future__ import annotations

import time
from pathlib import Path

import click

from andon.cli.common import Bars, duration, verdict_line

CATEGORY = "bracket_line"


@click.command("demo", short_help="Try all of it on an inspection line that Andon draws.")
@click.option(
    "-o",
    "--output",
    default="andon-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for everything it makes.",
)
@click.option(
    "--images", default=120, show_default=True, type=click.IntRange(8), help="Good images to draw and fit on."
)
@click.option("--method", default="patchcore", show_default=True, help="See: andon methods")
@click.option("--seed", default=0, show_default=True, help="Another seed draws another line.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(output: Path, images: int, method: str, seed: int, quiet: bool) -> None:
    """Draw a small inspection line, fit a detector on its good parts, inspect, evaluate and report.

    Nothing is downloaded. Afterwards the folder holds the images, the detector, overlays and the report, to
    try the other commands on.
    """
    from andon.data.synthetic import write_line
    from andon.evaluate import format_table
    from andon.pipeline import fit, judge, write_judged_report
    from andon.runtime.picture import save_overlay
    from andon.types import Verdict

    start = time.perf_counter()
    line = output / f"line_{images}_{seed}"
    root, artifact, report = line / CATEGORY, output / "bracket.andon", output / "report.html"
    with Bars(quiet=quiet) as bars:
        if root.exists():
            click.echo(f"1. The inspection line is already drawn: {root}")
        else:
            click.echo(
                f"1. Drawing an inspection line: {images} good parts to learn from, others with and without defects"
            )
            write_line(line, train=images, test_good=20, per_defect=2, seed=seed, category=CATEGORY,
                       progress=lambda done, total: bars("draw", done, total))  # fmt: skip
        click.echo(f"2. Fitting {method} on the good parts alone")
        predictor = fit(root, artifact, method=method, seed=seed, progress=bars)
        click.echo(f"   {predictor.calibration.statement}")
        click.echo("3. Inspecting one part of each kind")
        for folder in sorted((root / "test").iterdir()):
            path = sorted(folder.glob("*.png"))[0]
            verdict: Verdict = predictor.inspect(path)
            save_overlay(predictor, path, verdict, output / "overlays" / f"{folder.name}.png")
            click.echo(
                f"   {folder.name:<20} {verdict_line(verdict).replace(str(path), '').replace('    ', '  ')}"
            )
        click.echo("4. Evaluating on all test parts")
        judged = judge(predictor, root, progress=bars)
    click.echo(format_table(judged.evaluation))
    write_judged_report(predictor, judged, report, title="Andon demo: bracket line")
    click.echo(f"\nDone in {duration(time.perf_counter() - start)}.")
    click.echo(f"  detector  {artifact}\n  overlays  {output / 'overlays'}\n  report    {report.resolve()}")
    click.echo(f"Next:  andon inspect {artifact} {root / 'test' / 'good'} --save-maps maps/")
