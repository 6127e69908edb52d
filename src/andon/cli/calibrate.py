"""``andon calibrate``: another threshold for a detector that exists, without its training images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from andon.cli.common import Bars, check_outputs, group_lines, zone_lines

if TYPE_CHECKING:
    from andon.pipeline import Recalibration
    from andon.pipeline.recalibrating import Part
    from andon.report.calibration import CostTable


@click.command("calibrate", short_help="Set the threshold anew, from good images and, if any, bad.")
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
@click.option(
    "--strict", is_flag=True, help="No threshold unless the rate can be promised from these images."
)
@click.option("--extrapolate", is_flag=True,
              help="With too few images for the rate, estimate its threshold by the tail of their scores.")  # fmt: skip
@click.option("--group-by", metavar="PATTERN",
              help="A threshold for each group that PATTERN finds in the images' paths: {shift}/{lot}_*.png")  # fmt: skip
@click.option("--fall-back", is_flag=True,
              help="Groups with too few images: decide by the threshold of all groups, not by a person.")  # fmt: skip
@click.option("--criterion", type=click.Choice(["tpr", "f1", "cost", "youden"]), default="tpr", show_default=True,
              help="What the threshold is best for (with --bad).")  # fmt: skip
@click.option(
    "--required-tpr", default=0.99, show_default=True, help="Share of defects that must fail, for tpr."
)
@click.option("--review-tpr", type=float,
              help="Share of defects that must not pass: sets the review band from the defects (with --bad).")  # fmt: skip
@click.option(
    "--cost-escape", default=10.0, show_default=True, help="Cost of a defect that passes, for cost."
)
@click.option(
    "--cost-false-alarm", default=1.0, show_default=True, help="Cost of a good part that fails, for cost."
)
@click.option("--cost-review", type=float,
              help="Cost of a person's look at a part, for cost: sets the review band, too, where one pays.")  # fmt: skip
@click.option(
    "--defect-rate",
    type=float,
    help="Share of defective parts on the line, for cost. Default: as in the folders.",
)
@click.option(
    "--ignore",
    type=click.Path(path_type=Path),
    metavar="ZONES",
    help="Zones not to inspect from now on: a zones.json, or an image whose non-zero pixels mark them.",
)
@click.option("--plot", type=click.Path(path_type=Path),
              help="Draw the scores, the thresholds and what others would mean: a .png or .html.")  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write here. Default: into ARTIFACT, whose old threshold is kept in its history.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(artifact: Path, good: Path, bad: Path | None, output: Path | None, quiet: bool, criterion: str,
            required_tpr: float, review_tpr: float | None, cost_escape: float, cost_false_alarm: float,
            cost_review: float | None, defect_rate: float | None, target_rate: float | None, confidence: float | None, review_rate: float | None,
            strict: bool, extrapolate: bool, group_by: str | None, fall_back: bool, ignore: Path | None,
            plot: Path | None) -> None:  # fmt: skip
    """Set the threshold of ARTIFACT anew, from good images it has not seen and, if there are any, bad ones.

    PATTERN is compared with the last parts of each image's path: {name} is part of the group's name, * is any
    text, all else stands for itself. On the line the group is read from the path of the image in the same way.

    \b
    Examples:
      andon calibrate clip.andon --good photos/later_lot --target-rate 0.005 --strict
      andon calibrate clip.andon --good photos/later_lot --bad photos/rejects --plot calibration.html
      andon calibrate clip.andon --good photos/ --group-by "{shift}/*.png"
      andon calibrate clip.andon --good g/ --bad b/ --criterion cost --cost-escape 200
      andon calibrate clip.andon --good g/ --bad b/ --criterion cost --cost-escape 200 --cost-review 0.5 --defect-rate 0.002
      andon calibrate clip.andon --good photos/later_lot --ignore zones.json
    """
    from andon.files import check_writable, single_writer
    from andon.pipeline import Criterion, recalibrate
    from andon.runtime.predictor import Predictor

    if bad is None and (cost_review is not None or review_tpr is not None):
        raise click.UsageError(
            "--review-tpr and --cost-review are for thresholds from defects; give --bad, too"
        )
    wanted = Criterion(criterion, required_tpr, cost_escape, cost_false_alarm, defect_rate,  # type: ignore[arg-type]
                       review_tpr, cost_review)  # fmt: skip
    target = output or artifact
    check_outputs(output, detector=True)
    _check_plot(plot)
    check_writable(target)
    with single_writer(target):
        with Bars(quiet=quiet) as bars:
            done = recalibrate(Predictor.open(artifact), good, bad, wanted, target_rate=target_rate,
                               confidence=confidence, review_rate=review_rate, strict=strict, extrapolate=extrapolate,
                               group_by=group_by, fall_back=fall_back, ignore=ignore, progress=bars)  # fmt: skip
        done.predictor.save(target)
    _say(done, target)
    if plot is not None:
        _draw(done, plot, target)


def _check_plot(path: Path | None) -> None:
    """Raise before the work where the picture cannot be written."""
    if path is None:
        return
    from andon.files import check_writable
    from andon.report import check_report_extra
    from andon.report.calibration import check_kind

    check_kind(path)
    check_report_extra()
    check_writable(path)


def _say(done: Recalibration, target: Path) -> None:
    """The threshold, what it promises, and what it would have meant on the images that set it."""
    calibration = done.predictor.calibration
    click.echo(
        f"{target}: threshold {calibration.threshold:.6g}{' (all groups together)' if done.by_group else ''}"
    )
    click.echo(f"  {calibration.statement}")
    for line in zone_lines(done.predictor.manifest):
        click.echo(f"  {line}")
    if done.left_out:
        click.secho(
            f"  left out: {done.left_out} good images that the detector was fitted on", fg="yellow", err=True
        )
    for path, reason in done.skipped:
        click.secho(f"  skipped {path}: {reason}", fg="yellow", err=True)
    if done.by_group:
        click.echo("\n".join(group_lines(calibration)))
    click.echo("What it would have meant on these images (in brackets counts and 95 % intervals):")
    for part in done.parts():
        if done.by_group:
            click.echo(f"  {part.name}")
        for kind, cells in _outcomes(part):
            click.echo(f"  {kind:<10}" + ", ".join(f"{words} {share}" for words, share in cells))
        if costs := _costs(part):
            click.echo(f"  {costs.title}")
            for row in (costs.head, *costs.rows):
                click.echo(f"  {row[0]:<16}" + "".join(f"{cell:>14}" for cell in row[1:]))


def _outcomes(part: Part) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each kind of image the shares that pass, are reviewed and fail, with their intervals."""
    from andon.calibrate import measured

    words = {"pass": "passed", "review": "reviewed", "fail": "failed"}
    return [
        (
            kind,
            [(words[decision], measured(count, sum(counts.values()))) for decision, count in counts.items()],
        )
        for kind, counts in part.outcomes().items()
    ]


def _costs(part: Part) -> CostTable | None:
    """What a part of the line is expected to cost, as set and otherwise; None where costs did not set the threshold."""
    from andon.calibrate import percent
    from andon.report.calibration import CostTable

    found = part.costs()
    if found is None:
        return None
    costs, ways = found
    title = f"Expected cost a part, {percent(costs.defect_rate)} of them defective:"
    rows = tuple((way, *(f"{cost:.4g}" for cost in (*spent, spent.total))) for way, spent in ways.items())
    return CostTable(title, ("", "escapes", "false alarms", "reviews", "together"), rows)


def _draw(done: Recalibration, path: Path, target: Path) -> None:
    import numpy as np

    from andon.report.calibration import Part, write_calibration_figure

    parts = [
        Part(part.name, part.calibration, np.array(part.nominal), np.array(part.anomalous),
             tuple((kind, *(share for _, share in cells)) for kind, cells in _outcomes(part)),
             _costs(part))
        for part in done.parts()
    ]  # fmt: skip
    write_calibration_figure(path, f"The threshold of {target.name}", parts)
    click.echo(f"picture: {path}")
