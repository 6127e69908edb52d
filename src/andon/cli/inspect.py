"""``andon inspect``: verdicts on new photographs."""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from andon.calibrate import calibration_for
from andon.cli import CANNOT
from andon.cli.common import Bars, check_outputs, images_of, language_here, shown, verdict_line
from andon.errors import AndonError
from andon.files import check_folder
from andon.runtime.explain_picture import save_comparison
from andon.runtime.picture import save_overlay
from andon.runtime.predictor import Predictor, chosen_language
from andon.runtime.providers import PRECISIONS, PROVIDERS
from andon.runtime.words import DEFAULT, LANGUAGES, Words, counted, decimal, rated, retold, words_of
from andon.types import Failure, Verdict

if TYPE_CHECKING:
    from andon.runtime.monitor import Follower

MOST_BYTES = 200  # of a file name that Andon makes; file systems take 255


@click.command("inspect")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path),
    help="Write a table, one row an image; '-' prints it instead of the verdict lines.",
)
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
@click.option(
    "--explain",
    type=click.Path(path_type=Path),
    help="Folder for pictures (PNG) of what failed or wants a review: the odd place beside a good one, and the sentence.",
)
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    help="Of verdicts, and of the CSV's headings. Default: the detector's, else this computer's; headings English.",
)
@click.option(
    "--monitor",
    type=click.Path(path_type=Path),
    metavar="STATE.json",
    help="Watch for drift; the file goes on from call to call, and is begun where there is none. See: andon monitor",
)
@click.option("--threads", type=click.IntRange(1), help="Processor threads; default: the machine's cores.")
@click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    default=PROVIDERS[0],
    show_default=True,
    help="What runs the detector's network.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=PRECISIONS[0],
    show_default=True,
    help="Of its numbers; bf16 with openvino, on processors that have it. Thresholds were set in f32.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only the exit status and the files asked for.")
def command(artifact: Path, paths: tuple[str, ...], csv_path: Path | None, jsonl_path: Path | None,
            save_maps: Path | None, save_raw: Path | None, explain: Path | None, language: str | None,
            monitor: Path | None, threads: int | None, provider: str, precision: str, quiet: bool) -> int:  # fmt: skip
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
      andon inspect clip.andon photos/ --explain why/ --language de
      andon inspect clip.andon "line3/**/*.jpg" --jsonl -
      find /camera -newer last | andon inspect clip.andon -
      andon inspect clip.andon photos/today --monitor line3.state.json
    """
    predictor = Predictor.open(artifact, threads=threads, provider=provider, precision=precision)
    predictor = predictor.speaking(language or chosen_language(predictor.manifest) or language_here())
    headings = predictor.words if language else None
    if explain is not None and not predictor.shows_good_parts:
        click.echo(
            f"{artifact} has no picture of a good part to set beside; andon fit --keep-patches keeps some",
            err=True,
        )
    images = images_of(paths)
    lines_out, table_out = str(jsonl_path) == "-", str(csv_path) == "-"
    if lines_out and table_out:
        raise click.UsageError("only one of --csv and --jsonl can be printed; give the other a file")
    to_stdout = lines_out or table_out
    tables = [None if table_out else csv_path, None if lines_out else jsonl_path]
    check_outputs(*tables, monitor)
    for folder in (save_maps, save_raw, explain):
        if folder is not None:
            check_folder(folder)
    answers: list[Verdict | Failure] = []
    try:
        with Bars(quiet=quiet or len(images) < 2) as bars, _followed(monitor, predictor) as follower:
            for done, answer in enumerate(
                _answers(predictor, images, save_maps, save_raw, explain, follower), 1
            ):
                answers.append(answer)
                bars("inspect", done, len(images))
                if lines_out:
                    _write([answer], [None, sys.stdout], None)
                elif not quiet and not table_out:
                    with bars.paused():
                        _say(answer, predictor.words)
    except (KeyboardInterrupt, OSError, AndonError) as error:
        _write(answers, tables, headings)
        if any(tables) or not isinstance(error, BrokenPipeError):
            click.echo(f"Stopped after {len(answers)} of {len(images)} images{_kept(tables)}.", err=True)
        raise
    _write(answers, tables, headings)
    if table_out:
        _write(answers, [sys.stdout, None], headings)
    if not quiet and not to_stdout and len(answers) > 1:
        click.echo(summary(answers, predictor.words))
        for line in threshold_lines(answers, predictor):
            click.echo(line)
    if follower is not None and not quiet:
        from andon.cli.monitor import say_drift

        say_drift(follower.monitor, predictor.words)
    return status_of(answers)


def _followed(state: Path | None, predictor: Predictor) -> AbstractContextManager[Follower | None]:
    """What inspects with ``--monitor``; None without it."""
    if state is None:
        return nullcontext()
    from andon.runtime.monitor import following

    return following(state, predictor)


def _write(
    answers: list[Verdict | Failure], tables: Sequence[Path | TextIO | None], headings: Words | None
) -> None:
    """Write ``tables``, a CSV and one of JSON lines; None for one that was not asked for."""
    if not any(tables):
        return
    from andon.report import write_csv, write_jsonl

    csv_table, jsonl_table = tables
    if csv_table:
        write_csv(answers, csv_table, headings)
    if jsonl_table:
        write_jsonl(answers, jsonl_table)


def _kept(tables: list[Path | None]) -> str:
    names = [str(path) for path in tables if path is not None]
    return f"; their answers are in {' and '.join(names)}" if names else ""


def _answers(
    predictor: Predictor, images: list[Path], maps: Path | None, raw: Path | None, explain: Path | None,
    follower: Follower | None,
) -> Iterator[Verdict | Failure]:  # fmt: skip
    """One answer an image; its pictures are saved and its map let go before the next one."""
    from dataclasses import replace

    names = unique_names(images)
    for path, answer in zip(images, (follower or predictor).inspect_many(images)):
        if isinstance(answer, Failure):
            yield answer
            continue
        if maps is not None:
            save_overlay(predictor, path, answer, maps / f"{names[path]}.png")
        if raw is not None:
            _save_raw(answer, raw / f"{names[path]}.npy")
        if explain is not None:
            save_comparison(predictor, path, answer, explain / f"{names[path]}.png")
        yield replace(answer, anomaly_map=None)


def unique_names(images: list[Path]) -> dict[Path, str]:
    """A file stem for each image: its own where it is the only one, with its folders and ending where it is not.

    >>> list(unique_names([Path("a/1.png"), Path("b/1.png"), Path("b/1.jpg"), Path("b/2.png")]).values())
    ['a_1_png', 'b_1_png', 'b_1_jpg', '2']
    """
    stems = Counter(path.stem for path in set(images))
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(images):
        parts = [part.strip("/\\:.") for part in path.parts]
        name = path.stem if stems[path.stem] == 1 else "_".join(filter(None, parts)).replace(".", "_")
        name = os.fsdecode(os.fsencode(name)[-MOST_BYTES:])
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        names[path] = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(names[path])
    return names


def _save_raw(verdict: Verdict, target: Path) -> None:
    import io

    import numpy as np

    from andon.files import atomic_write
    from andon.image import resize_map

    if verdict.anomaly_map is not None:
        buffer = io.BytesIO()  # NumPy has words of its own for a full disk
        np.save(buffer, resize_map(verdict.anomaly_map, verdict.size), allow_pickle=False)
        with atomic_write(target) as file:
            file.write(buffer.getvalue())


def _say(answer: Verdict | Failure, words: Words) -> None:
    error = click.style("ERROR ", fg="magenta", bold=True)
    click.echo(
        f"{error} -----  {shown(answer.path)}  {shown(answer.reason)}"
        if isinstance(answer, Failure)
        else verdict_line(answer, words)
    )


def summary(answers: list[Verdict | Failure], words: Words | None = None) -> str:
    """The counts in one line, in English unless there are other ``words``."""
    words = words or words_of(DEFAULT)
    decisions = [answer.decision for answer in answers if isinstance(answer, Verdict)]
    times = sorted(answer.milliseconds for answer in answers if isinstance(answer, Verdict))
    middle = f"{times[len(times) // 2]:.1f}" if times else ""
    counts = words["summary.counts"].format(
        images=counted(words, "summary.images", len(answers)),
        passed=decisions.count("pass"),
        review=decisions.count("review"),
        failed=decisions.count("fail"),
        unread=len(answers) - len(decisions),
    )
    if not decisions:
        return counts
    failed = rated(words, "summary.rate", decisions.count("fail"), len(decisions))
    return counts + failed + words["summary.median"].format(milliseconds=decimal(words, middle))


def threshold_lines(answers: list[Verdict | Failure], predictor: Predictor) -> list[str]:
    """With thresholds by group, how many images each of them decided, and how many none did; else no line."""
    paths = [answer.path for answer in answers if isinstance(answer, Verdict)]
    notes = Counter(calibration_for(predictor.calibration, path)[1] for path in paths)
    words = predictor.words
    return [
        "  "
        + words["summary.threshold"].format(
            images=counted(words, "summary.images", count), note=retold(note, words)
        )
        for note, count in notes.most_common()
        if note
    ]


def status_of(answers: list[Verdict | Failure]) -> int:
    """The exit status: 2 where an image could not be inspected, else 1 where one did not pass, else 0."""
    if any(isinstance(answer, Failure) for answer in answers):
        return CANNOT
    return int(any(answer.decision != "pass" for answer in answers if isinstance(answer, Verdict)))
