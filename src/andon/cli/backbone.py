"""``andon backbone train``: distil a small backbone of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from andon.cli.common import Bars, check_outputs, duration
from andon.errors import MissingExtraError, SettingsError

STEPS = 12000  # the shipped backbone's


class Numbers(click.ParamType):
    """Whole numbers between commas."""

    name = "N,N,..."

    def __init__(self, count: int) -> None:
        self.count = count

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if len(parts) != self.count or not all(part.strip().isdigit() for part in parts):
            self.fail(f"{value!r} is not {self.count} whole numbers between commas", param, ctx)
        return tuple(int(part) for part in parts)


@click.group("backbone")
def command() -> None:
    """Make a backbone of one's own. To see those that are there: andon backbones"""


@command.command("train")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path),
              help="The file of weights to write, .safetensors.")  # fmt: skip
@click.option("--images", multiple=True, metavar="DIR", type=click.Path(exists=True, file_okay=False),
              help="A folder of photographs of anything but the parts to inspect; may be repeated.")  # fmt: skip
@click.option("--teacher", "teachers", multiple=True, required=True, metavar="BACKBONE",
              help="A backbone to learn from, by name or file; may be repeated. See: andon backbones")  # fmt: skip
@click.option("--widths", type=Numbers(4), default="16,24,48,96", show_default=True,
              help="Channels at stride 2, 4, 8 and 16.")  # fmt: skip
@click.option("--blocks", type=Numbers(3), default="1,2,2", show_default=True,
              help="Residual blocks at stride 4, 8 and 16.")  # fmt: skip
@click.option("--crops", default=16384, show_default=True, help="Different crops to learn on.")
@click.option("--crops-in", type=click.Path(path_type=Path), metavar="DIR",
              help="Where crops and teachers' features are kept, about 150 kB a crop; another backbone may use them "
              "again. Default: OUTPUT.crops")  # fmt: skip
@click.option(
    "--drawn", default=0.25, show_default=True, help="Share of crops that are drawn, not photographed."
)
@click.option("--steps", type=int, help=f"Training steps; default {STEPS} unless --minutes is given.")
@click.option("--minutes", type=float, help="End the training after so many minutes instead.")
@click.option("--batch", default=24, show_default=True, help="Crops a step.")
@click.option("--learning-rate", default=2e-3, show_default=True, help="At its highest.")
@click.option(
    "--seed", default=0, show_default=True, help="Same seed, same images, same machine: same bytes."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, or a GPU such as cuda.")
@click.option("--threads", type=int, help="Processor threads.")
@click.option(
    "--resume", is_flag=True, help="Go on from where an interrupted training of this output stopped."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def train(output: Path, images: tuple[str, ...], teachers: tuple[str, ...], widths: tuple[int, ...],
          blocks: tuple[int, ...], crops_in: Path | None, steps: int | None, minutes: float | None, device: str,
          threads: int | None, resume: bool, quiet: bool, **recipe: Any) -> None:  # fmt: skip
    """Distil a small, quick backbone from larger ones.

    The teachers look at crops of photographs and of drawn surfaces once; the small network learns to give their
    features. It takes hours on a processor and minutes on a GPU, and goes on with --resume.

    \b
    Example:
      andon backbone train --images photographs --teacher resnet18 --teacher mobilenet_v2 -o mine.safetensors
      andon fit photos/good -o part.andon --backbone mine.safetensors
    """
    check_outputs(output)
    try:
        import torch

        from andon.features.distill import Recipe, distill
        from andon.features.student import Shape
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", extra="fit", purpose="training a backbone") from error

    if steps is None and minutes is None:
        steps = STEPS
    if threads:
        torch.set_num_threads(threads)
    shape = Shape((widths[0], widths[1], widths[2], widths[3]), (blocks[0], blocks[1], blocks[2]))
    first = min(Recipe.first, recipe["crops"])
    plan = Recipe(images, teachers, shape, first=first, steps=steps, minutes=minutes, **recipe)
    with Bars(quiet=quiet) as bars:
        run = distill(plan, output, crops=crops_in, resume=resume, device=_device(device), say=bars)
    left = ", ".join(f"{layer} {value:.3f}" for layer, value in run.errors.items())
    click.echo(
        f"{output}  ({output.stat().st_size / 1e6:.1f} MB): {run.done} steps in {duration(run.seconds)}"
    )
    click.echo(f"  variance of the teachers' features not explained: {left}")
    click.echo(f"Next:  andon fit PHOTOS -o part.andon --backbone {output}")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return name
