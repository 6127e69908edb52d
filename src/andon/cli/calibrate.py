"""``andon calibrate``: another threshold for a detector that exists, without its training images."""

from __future__ import annotations

from pathlib import Path

import click

from andon.cli.common import Bars, check_outputs


@click.command("calibrate")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.option(
    "--good",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of good images that the detector was not fitted on.",
)
@click.option("--bad", type=click.Path(path_type=Path), help="Folder of defective images, if there are some.")
@click.option(
    "--target-rate", type=float, help="Share of good parts that may fail (without --bad). Default: as before."
)
@click.option("--confidence", type=float, help="Confidence of the promise. Default: as before.")
@click.option(
    "--review-rate", type=float, help="Share of good parts that a person may be asked to look at. 0: none."
)
@click.option("--criterion", type=click.Choice(["tpr", "f1", "cost", "youden"]), default="tpr", show_default=True,
              help="What the threshold is best for (with --bad).")  # fmt: skip
@click.option(
    "--required-tpr", default=0.99, show_default=True, help="Share of defects that must fail, for tpr."
)
@click.option(
    "--cost-escape", default=10.0, show_default=True, help="Cost of a defect that passes, for cost."
)
@click.option(
    "--cost-false-alarm", default=1.0, show_default=True, help="Cost of a good part that fails, for cost."
)
@click.option(
    "--defect-rate",
    type=float,
    help="Share of defective parts on the line, for cost. Default: as in the folders.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write here. Default: into ARTIFACT, whose old threshold is kept in its history.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(artifact: Path, good: Path, bad: Path | None, output: Path | None, quiet: bool, criterion: str,
            required_tpr: float, cost_escape: float, cost_false_alarm: float, defect_rate: float | None,
            target_rate: float | None, confidence: float | None, review_rate: float | None) -> None:  # fmt: skip
    """Set the threshold of ARTIFACT anew, from good images it has not seen and, if there are any, bad ones.

    \b
    Examples:
      andon calibrate clip.andon --good photos/later_lot --target-rate 0.005
      andon calibrate clip.andon --good photos/later_lot --bad photos/rejects
      andon calibrate clip.andon --good g/ --bad b/ --criterion cost --cost-escape 200
    """
    from andon.calibrate import outcome_table
    from andon.files import check_writable, single_writer
    from andon.pipeline import Criterion, recalibrate
    from andon.runtime.predictor import Predictor

    wanted = Criterion(criterion, required_tpr, cost_escape, cost_false_alarm, defect_rate)  # type: ignore[arg-type]
    target = output or artifact
    check_outputs(output, detector=True)
    check_writable(target)
    with single_writer(target):
        with Bars(quiet=quiet) as bars:
            done = recalibrate(Predictor.open(artifact), good, bad, wanted, target_rate=target_rate,
                               confidence=confidence, review_rate=review_rate, progress=bars)  # fmt: skip
        done.predictor.save(target)
    calibration = done.predictor.calibration
    click.echo(f"{target}: threshold {calibration.threshold:.6g}")
    click.echo(f"  {calibration.statement}")
    if done.left_out:
        click.secho(
            f"  left out: {done.left_out} good images that the detector was fitted on", fg="yellow", err=True
        )
    for path, reason in done.skipped:
        click.secho(f"  skipped {path}: {reason}", fg="yellow", err=True)
    click.echo("What it would have meant on these images:")
    for name, counts in outcome_table(calibration, done.nominal, done.anomalous or None).items():
        click.echo(f"  {name:<10}" + ", ".join(f"{count} {decision}" for decision, count in counts.items()))
