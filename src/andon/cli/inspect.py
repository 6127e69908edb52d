"""``andon inspect``: verdicts on new photographs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from andon.cli import CANNOT
from andon.cli.common import Bars, images_of, verdict_line
from andon.runtime.picture import save_overlay
from andon.runtime.predictor import Predictor
from andon.types import Failure, Verdict


@click.command("inspect")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write a table, one row an image.")
@click.option(
    "--jsonl",
    "jsonl_path",
    type=click.Path(path_type=Path),
    help="Write JSON lines; '-' prints them instead of the verdict lines.",
)
@click.option("--save-maps", type=click.Path(path_type=Path), help="Folder for heatmap overlays (PNG).")
@click.option(
    "--save-raw",
    type=click.Path(path_type=Path),
    help="Folder for raw anomaly maps (.npy), at the photograph's size.",
)
@click.option("--threads", type=click.IntRange(1), help="Processor threads; default: the machine's cores.")
@click.option("-q", "--quiet", is_flag=True, help="Only the exit status and the files asked for.")
def command(artifact: Path, paths: tuple[str, ...], csv_path: Path | None, jsonl_path: Path | None,
            save_maps: Path | None, save_raw: Path | None, threads: int | None, quiet: bool) -> int:  # fmt: skip
    """Say pass, fail or review of each photograph, where, and why.

    PATH is a file, a folder, a glob in quotes, or - for a list on standard input.

    \b
    Exit status: 0 every image passed
                 1 at least one failed or wants a person's review
                 2 at least one could not be inspected

    \b
    Examples:
      andon inspect clip.andon new.png
      andon inspect clip.andon photos/ --save-maps maps/ --csv today.csv
      andon inspect clip.andon "line3/**/*.jpg" --jsonl -
      find /camera -newer last | andon inspect clip.andon -
    """
    from andon.report import write_csv, write_jsonl

    predictor = Predictor.open(artifact, threads=threads)
    images = images_of(paths)
    to_stdout = jsonl_path is not None and str(jsonl_path) == "-"
    answers: list[Verdict | Failure] = []
    with Bars(quiet=quiet or len(images) < 2) as bars:
        for done, answer in enumerate(_answers(predictor, images, save_maps, save_raw), 1):
            answers.append(answer)
            bars("inspect", done, len(images))
            if not quiet and not to_stdout:
                _say(answer)
    if csv_path:
        write_csv(answers, csv_path)
    if to_stdout:
        write_jsonl(answers, sys.stdout)
    elif jsonl_path:
        write_jsonl(answers, jsonl_path)
    if not quiet and not to_stdout and len(answers) > 1:
        click.echo(summary(answers))
    return status_of(answers)


def _answers(
    predictor: Predictor, images: list[Path], maps: Path | None, raw: Path | None
) -> Iterator[Verdict | Failure]:
    """One answer an image; its pictures are saved and its map let go before the next one."""
    from dataclasses import replace

    names = unique_names(images)
    for path, answer in zip(images, predictor.inspect_many(images)):
        if isinstance(answer, Failure):
            yield answer
            continue
        if maps is not None:
            save_overlay(predictor, path, answer, maps / f"{names[path]}.png")
        if raw is not None:
            _save_raw(answer, raw / f"{names[path]}.npy")
        yield replace(answer, anomaly_map=None)


def unique_names(images: list[Path]) -> dict[Path, str]:
    """A file stem for each image: its own where it is the only one, with its folders where it is not.

    >>> unique_names([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")])[Path("b/1.png")]
    'b_1'
    """
    stems = [path.stem for path in images]
    single = {path: path.stem for path in images if stems.count(path.stem) == 1}
    return {
        path: single.get(path)
        or "_".join(part.strip("/\\:.") for part in path.with_suffix("").parts if part.strip("/\\:."))
        for path in images
    }


def _save_raw(verdict: Verdict, target: Path) -> None:
    import numpy as np

    from andon.files import atomic_write
    from andon.image import resize_map

    if verdict.anomaly_map is not None:
        with atomic_write(target) as file:
            np.save(file, resize_map(verdict.anomaly_map, verdict.size), allow_pickle=False)


def _say(answer: Verdict | Failure) -> None:
    from tqdm import tqdm

    error = click.style("ERROR ", fg="magenta", bold=True)
    with tqdm.external_write_mode():
        click.echo(
            f"{error} -----  {answer.path}  {answer.reason}"
            if isinstance(answer, Failure)
            else verdict_line(answer)
        )


def summary(answers: list[Verdict | Failure]) -> str:
    """The counts in one line."""
    decisions = [answer.decision for answer in answers if isinstance(answer, Verdict)]
    times = sorted(answer.milliseconds for answer in answers if isinstance(answer, Verdict))
    middle = f"; {times[len(times) // 2]:.1f} ms an image (median)" if times else ""
    return (f"{len(answers)} images: {decisions.count('pass')} pass, {decisions.count('review')} review, "
            f"{decisions.count('fail')} fail, {len(answers) - len(decisions)} could not be inspected{middle}")  # fmt: skip


def status_of(answers: list[Verdict | Failure]) -> int:
    """The exit status: 2 where an image could not be inspected, else 1 where one did not pass, else 0."""
    if any(isinstance(answer, Failure) for answer in answers):
        return CANNOT
    return int(any(answer.decision != "pass" for answer in answers if isinstance(answer, Verdict)))
