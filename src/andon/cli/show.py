"""``andon show``: what an artefact says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from andon.artifact import read_artifact


@click.command("show")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
def command(artifact: Path, as_json: bool) -> None:
    """Show what is in an .andon file: method, data, threshold and its guarantee.

    Every member is checked against its hash first.
    """
    manifest = read_artifact(artifact).manifest
    if as_json:
        click.echo(json.dumps(manifest, indent=1, sort_keys=True))
        return
    detector, data, calibration = manifest["detector"], manifest.get("data", {}), manifest["calibration"]
    rows = {
        "method": f"{detector.get('title')} ({detector.get('paper')})",
        "settings": json.dumps(detector.get("settings", {})),
        "input": f"{manifest['preprocessing'].get('size')} {manifest['preprocessing'].get('resize')}",
        "good images": f"{data.get('train')} to fit, {data.get('calibration')} for the threshold",
        "threshold": f"{calibration.get('threshold')} for a target rate of {calibration.get('target_rate')}",
        "guarantee": calibration.get("statement"),
        "made": f"{manifest.get('created')} by andon {manifest.get('andon_version')}",
        "recalibrated": f"{len(manifest.get('history', []))} times",
        "members": ", ".join(
            f"{name} {entry['bytes'] / 1e6:.1f} MB" for name, entry in manifest["members"].items()
        ),
    }
    for key, value in rows.items():
        click.echo(f"{key:<13} {value}")
