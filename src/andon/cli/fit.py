"""``andon fit``: a folder of good photographs in, a detector out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from andon.cli.common import Bars, Size, assigned, check_outputs, duration, group_lines, zone_lines
from andon.errors import AndonError, SettingsError
from andon.runtime.words import LANGUAGES
from andon.types import Calibration


@click.command("fit")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The .andon file to write."
)
@click.option(
    "--method",
    default="patchcore",
    show_default=True,
    help="See: andon methods. Several as one detector: patchcore+fre. With auto, a few cheap ones are tried on "
    "invented defects first.",
)
@click.option(
    "--backbone",
    help="Network that looks at the image; default andon-s, which ships with Andon. See: andon backbones",
)
@click.option(
    "--size",
    type=Size(),
    help="Input size, rows x columns. Default: near 256x256, in the photographs' own shape; 512x512 of tiles.",
)
@click.option("--resize", type=click.Choice(["stretch", "letterbox", "tiles"]), default="stretch", show_default=True,
              help="How a photograph is brought to that size.")  # fmt: skip
@click.option(
    "--overlap",
    default=0.25,
    show_default=True,
    help="Of neighbouring tiles, share of a tile, with --resize tiles.",
)
@click.option(
    "--tile-scale",
    default=1.0,
    show_default=True,
    help="Scale the photograph by this before it is cut into tiles: 0.5 for half its rows and columns.",
)
@click.option(
    "--white-level",
    default=65535,
    show_default=True,
    help="The value that is white in 16-bit images (4095 for 12-bit cameras).",
)
@click.option(
    "--limit", type=int, help="Fit on so many of the good images at most, drawn by the seed. Default: all."
)
@click.option("--target-rate", default=0.01, show_default=True, help="Share of good parts that may fail.")
@click.option("--confidence", default=0.95, show_default=True, help="Confidence of that promise.")
@click.option("--calibration", default="0.25", show_default=True,
              help="Share of the good images kept for the threshold, or a folder of further good ones.")  # fmt: skip
@click.option(
    "--group-by",
    metavar="PATTERN",
    help="Pattern of the end of the path, such as {shift}/{lot}_*.png: images of one group stay together.",
)
@click.option(
    "--threshold-by",
    metavar="PATTERN",
    help="A threshold for each group that PATTERN finds in the images' paths, such as {shift}/*.png; each group is "
    "divided into images to fit on and images for its threshold. Default: one threshold for all.",
)
@click.option(
    "--fall-back",
    is_flag=True,
    help="With --threshold-by, groups with too few images: decide by the threshold of all groups, not by a person.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="No fit unless the rate can be promised with that confidence from the images for the threshold.",
)
@click.option(
    "--latest",
    is_flag=True,
    help="Calibrate on the last images by name, not on random ones: later lots differ.",
)
@click.option(
    "--layout", default="auto", show_default=True, help="How DIR is laid out. See: andon data layouts"
)
@click.option("--category", help="Which part, where DIR holds several.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with the method's settings.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="One setting of the method. See: andon methods NAME",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same images: same detector.")
@click.option("--workers", default=2, show_default=True, help="Threads that read images.")
@click.option(
    "--minutes",
    type=float,
    help="Train for at most so long; the learning rates fall accordingly. Default: no limit.",
)
@click.option(
    "--early-stop",
    type=int,
    metavar="PATIENCE",
    help="End training after so many evaluations (20 a phase) without a lower loss on images held out for it, "
    "and keep the best state. Not in phases where networks play against each other.",
)
@click.option(
    "--augment",
    default="",
    metavar="KINDS",
    help="Vary the good images: 'study' (rotation, noise), or some of flip, flip-vertical, crop, rotation, light, noise.",
)
@click.option(
    "--copies",
    default=1,
    show_default=True,
    help="With --augment, varied versions of an image that a method without training sees besides it.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of training; the lower ones on a GPU, bfloat16 on processors that know it.",
)
@click.option(
    "--cache-gb",
    default=4.0,
    show_default=True,
    help="Disk for what frozen networks make of the images, so that only the first epoch pays for them; 0: none.",
)
@click.option(
    "--cache-folder",
    type=click.Path(path_type=Path),
    help="Where that is. Default: where temporary files go.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Compute the network's convolutions in 8 bits: smaller, quicker on most processors, a little less exact.",
)
@click.option(
    "--keep-patches/--no-keep-patches",
    default=False,
    show_default=True,
    help="Keep up to 1 MB of small pictures of good parts in the file, so that andon inspect --explain can show what "
    "an odd place should look like. Whoever gets the file can look at them.",
)
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    help="Of the verdicts. Default: that of the computer that inspects.",
)
@click.option(
    "--ignore",
    type=click.Path(path_type=Path),
    metavar="ZONES",
    help="Zones not to look at, such as printed labels: a zones.json, or an image whose non-zero pixels mark them.",
)
@click.option(
    "--leave-out",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="LIST",
    help="Images of DIR not to use: the CSV of andon audit (its rows to leave out), or a text with one path a line.",
)
@click.option(
    "--align",
    is_flag=True,
    help="With --ignore: find where the part lies in each photograph, so that the zones follow it (andon[nuisance]).",
)
@click.option(
    "--print-into",
    type=click.Path(path_type=Path),
    metavar="ZONES",
    help="Zones into which random labels, codes and text are drawn while fitting, so that new prints count as good. "
    "Unlike with --ignore, they are inspected.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Look at the good images on this Ray cluster, which sees them at the same path (andon[ray]); local: on one of its "
    "own, on this machine. Training, if any, stays here.",
)
@click.option(
    "--shards",
    type=int,
    help="With --ray, parts that the images are cut into; the same number gives the same detector. Default: by the number "
    "of images, 64 at most.",
)
@click.option(
    "--mlflow",
    is_flag=False,
    flag_value="andon-runs",
    metavar="[URI]",
    help="Record the fit, the detector and its card: in a folder (andon-runs if none is named), or at an MLflow server "
    "(andon[mlflow]).",
)
@click.option("--resume", is_flag=True, help="Go on from where an interrupted fit of this output stopped.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars, no summary.")
def command(source: Path, output: Path, method: str, backbone: str | None, calibration: str, config: Path | None,
            assignments: tuple[str, ...], mlflow: str | None, resume: bool, quiet: bool, **options: Any) -> None:  # fmt: skip
    """Fit a detector on the good photographs in DIR.

    DIR is a plain folder of good images (folders inside are searched too) or the root of a known data set, of
    which only the good training images are used.

    \b
    Examples:
      andon fit photos/good -o clip.andon
      andon fit photos/good -o clip.andon --target-rate 0.001
      andon fit data/mvtec --category transistor -o t.andon --method padim
      andon fit photos/good -o clip.andon --set coreset_fraction=0.05
      andon fit photos/good -o clip.andon --method patchcore+fre --set patchcore.bank_limit=1000
      andon fit photos/good -o clip.andon --method autoencoder --minutes 30 --augment study
      andon fit photos/good -o clip.andon --threshold-by "{shift}/*.png"
      andon fit photos/good -o clip.andon --ignore zones.json
      andon fit photos/good -o clip.andon --resume
      andon fit /shared/good -o clip.andon --ray head.plant:6379
    """
    from andon.pipeline import fit, unfinished

    settings = {**_by_member(_config(config), method), **assigned(assignments)}
    _check_settings(settings)
    check_outputs(output, detector=True)
    if mlflow is not None:
        from andon.tracking import require_usable

        require_usable(mlflow)
    if not resume and (left := unfinished(output)):
        click.secho(f"{left} of an interrupted fit is left aside and will be replaced; "
                    "with --resume it would be gone on with.", fg="yellow", err=True)  # fmt: skip
    if backbone:
        settings["backbone"] = backbone
    try:
        with Bars(quiet=quiet) as bars:
            predictor = fit(source, output, method=method, resume=resume, progress=bars, on_loss=bars.loss,
                            calibration=_share_or_folder(calibration), **options, **settings)  # fmt: skip
    except (KeyboardInterrupt, AndonError):
        if left := unfinished(output):
            click.echo(f"{left} keeps what was seen so far: go on with the same command and --resume.",
                       err=True)  # fmt: skip
        raise
    if not quiet:
        _say(predictor.manifest, predictor.calibration, output)
    if mlflow is not None:
        _track(output, mlflow, quiet=quiet)


def _track(output: Path, uri: str, *, quiet: bool) -> None:
    """Record the fit. The detector is saved already, and stays whatever happens here."""
    from andon.tracking import track

    try:
        place = track(output, uri)
    except AndonError as error:
        again = f'python -c "from andon.tracking import track; track({str(output)!r}, {uri!r})"'
        raise AndonError(f"{error}\n{output} is saved. Record it later with: {again}") from error
    if not quiet:
        click.echo(f"  recorded: {place}")


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse what is said by an option of its own, and a backbone that is no name."""
    options = {name.lstrip("-").replace("-", "_") for p in command.params for name in p.opts}
    for name in sorted(settings.keys() & {"source", "options", "progress", "on_loss"}):
        raise SettingsError(f"{name} is not a setting of the method. See: andon methods NAME")
    for name in sorted(settings.keys() & options - {"backbone"}):
        raise SettingsError(
            f"{name} is not a setting of the method; give it as an option of andon fit: --{name.replace('_', '-')}"
        )
    if not isinstance(settings.get("backbone", ""), str):
        raise SettingsError(
            f"backbone must be a name in quotes, got {settings['backbone']!r}. See: andon backbones"
        )
    for name, value in settings.items():
        if isinstance(value, dict):
            raise SettingsError(
                f"[{name}] is a table; expected the method's settings at the top of the file, NAME = VALUE a line"
            )


def _share_or_folder(value: str) -> float | Path:
    try:
        return float(value)
    except ValueError:
        return Path(value)


def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the settings in {path}: {error}") from error


def _by_member(settings: dict[str, Any], method: str) -> dict[str, Any]:
    """``settings`` with the tables of a fusion's members, such as [patchcore], as ``patchcore.bank_limit`` and the like."""
    members = method.split("+") if "+" in method else []
    tables = [name for name in members if isinstance(settings.get(name), dict)]
    flat = {f"{name}.{setting}": value for name in tables for setting, value in settings[name].items()}
    return {name: value for name, value in settings.items() if name not in tables} | flat


def _say(manifest: dict[str, Any], calibration: Calibration, output: Path) -> None:
    data, seconds = manifest["data"], manifest["fit"]["seconds"]
    size = "x".join(str(n) for n in manifest["preprocessing"]["size"])
    size = f"tiles of {size}" if manifest["preprocessing"]["resize"] == "tiles" else size
    megabytes = output.stat().st_size / 1e6
    click.echo(
        f"{output}  ({megabytes:.1f} MB): {manifest['detector']['title']}, {size}, fitted in {duration(seconds)}"
    )
    click.echo(f"  good images: {data['train']} to fit, {data['calibration']} for the threshold")
    if kept := manifest["explain"]["pictures"]:
        click.echo(
            f"  keeps {kept} pictures of good parts ({manifest['explain']['bytes'] / 1e6:.2f} MB): whoever gets the "
            "file can look at them"
        )
    click.echo(f"  {calibration.statement}{' (all groups together)' if calibration.groups else ''}")
    if calibration.groups:
        click.echo("\n".join(f"  {line}" for line in group_lines(calibration)))
        _say_refused(calibration)
    if "left_out" in data:
        click.echo(f"  left out, as listed: {data['left_out']}")
    if "calibration_left_out" in data:
        click.secho(f"  {data['calibration_left_out']} images given for the threshold were left out: they are among "
                    "those to fit or to test on, too", fg="yellow", err=True)  # fmt: skip
    for line in zone_lines(manifest):
        click.echo(f"  {line}")
    if "auto" in manifest["fit"]:
        click.echo(f"  chosen: {manifest['fit']['auto']['reason']}")
    for record in manifest["fit"].get("curve", []):
        if "ended" in record:
            click.echo(
                f"  {record['phase']}: {record['done']} of {record['planned']} steps, as {record['ended']}"
            )
    for note in manifest["fit"].get("notes", []):
        click.secho(f"  {note}", fg="yellow", err=True)
    for name, reason in data["skipped"]:
        click.secho(f"  skipped {name}: {reason}", fg="yellow", err=True)
    if data["calibration"] == 0:
        click.echo(f"Next:  andon calibrate {output} --good FURTHER_GOOD_PHOTOS")
    else:
        click.echo(f"Next:  andon inspect {output} PHOTOS")


def _say_refused(calibration: Calibration) -> None:
    """What to do for the groups without a threshold of their own, if there are any."""
    refused = [name for name, own in calibration.groups.items() if own.method == "none"]
    if refused:
        click.secho(f"  {len(refused)} of {len(calibration.groups)} groups have no threshold of their own: give more good "
                    "images of them, keep more for the threshold (--calibration), or, later, andon calibrate --group-by",
                    fg="yellow", err=True)  # fmt: skip
