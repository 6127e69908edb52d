"""``andon annotate``: what a detector found, as annotations to be corrected in a labelling tool."""

from __future__ import annotations

from pathlib import Path

import click

from andon.cli import CANNOT
from andon.cli.common import Bars, shown
from andon.runtime.annotate import FORMATS, TOLERANCE
from andon.runtime.annotate.label_studio import LOCAL_FILES
from andon.runtime.explain import MIN_AREA, MOST

SHAPES = sorted({shape for entry in FORMATS.values() for shape in entry.shapes})


@click.command("annotate", short_help="Write what is found as annotations, for a person to correct.")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write into."
)
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="coco", show_default=True,
              help="Whose format.")  # fmt: skip
@click.option("--shape", type=click.Choice(SHAPES),
              help="How a region is written. coco: polygon, mask (compressed run lengths) or counts (plain ones); "
              "yolo: polygon or box; labelstudio, cvat: polygon, mask or box; voc: box; mask: mask (0 and 255) or "
              "instances (numbers). Default: the first named.")  # fmt: skip
@click.option("--label", default="defect", show_default=True, help="The name of the regions' class.")
@click.option("--verdict", "whose", type=click.Choice(["fail", "review", "all"]), default="review", show_default=True,
              help="Whose regions: of images that fail; also of those for review; of all.")  # fmt: skip
@click.option("--threshold", type=float,
              help="Raw value of the anomaly map above which pixels belong to a region. Default: the detector's.")  # fmt: skip
@click.option("--level", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Where to cut, as a share of the threshold's height above the photograph's median; lower marks more.")  # fmt: skip
@click.option("--min-area", default=MIN_AREA, show_default=True, type=click.FloatRange(0, 1),
              help="Leave out regions below this share of the image; the strongest stays.")  # fmt: skip
@click.option(
    "--most", default=MOST, show_default=True, type=click.IntRange(1, 255), help="Regions an image at most."
)
@click.option("--tolerance", default=TOLERANCE, show_default=True, type=click.FloatRange(0),
              help="Pixels by which a polygon may leave the region's edge; 0 is exact.")  # fmt: skip
@click.option("--url", default=LOCAL_FILES, show_default=True,
              help="What Label Studio finds an image by, before its name.")  # fmt: skip
@click.option("--copy", is_flag=True, help="Copy the images into OUTPUT/images.")
@click.option("--no-empty", is_flag=True, help="Leave out images without a region.")
@click.option("--overwrite", is_flag=True, help="Replace annotations that are there and say something else.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; default: the machine's cores.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no summary.")
def command(artifact: Path, folder: Path, output: Path, format_: str, shape: str | None, label: str, whose: str,
            threshold: float | None, level: float, min_area: float, most: int, tolerance: float, url: str, copy: bool,
            no_empty: bool, overwrite: bool, threads: int | None, quiet: bool) -> int:  # fmt: skip
    """Write what the detector finds in the photographs of DIR as annotations, to be corrected by a person.

    Coordinates are those of the upright photograph. A file that is there and says something else is left alone
    unless --overwrite, so that corrections are not lost; an interrupted run is simply run again.

    \b
    Exit status: 0 every image was looked at, 2 at least one could not be.

    \b
    Examples:
      andon annotate clip.andon photos/ -o todo/
      andon annotate clip.andon photos/ -o todo/ --format yolo --copy
      andon annotate clip.andon photos/ -o todo/ --format labelstudio --shape mask
      andon annotate clip.andon photos/ -o masks/ --format mask --verdict all
    """
    from andon.files import check_folder, single_writer
    from andon.pipeline import AnnotateOptions, annotate
    from andon.runtime.predictor import Predictor

    options = AnnotateOptions(format=format_, shape=shape, label=label, whose=whose, threshold=threshold, level=level,  # type: ignore[arg-type]
                              min_area=min_area, most=most, tolerance=tolerance, url=url, copy=copy,
                              empty=not no_empty, overwrite=overwrite)  # fmt: skip
    check_folder(output)
    with single_writer(output), Bars(quiet=quiet) as bars:
        done = annotate(Predictor.open(artifact, threads=threads), folder, output, options, bars)
    for failure in done.failures:
        click.secho(f"left out {shown(failure.path)}: {shown(failure.reason)}", fg="yellow", err=True)
    if not quiet:
        where = ", ".join(str(output / name) for name in done.files) or str(output)
        click.echo(f"{where}: {len(done.images)} images, {done.marked} of them with {done.marks} regions")
        if done.turned:
            click.echo(
                f"  {done.turned} are stored turned (EXIF): open them in a tool that shows them upright"
            )
    return CANNOT if done.failures else 0
