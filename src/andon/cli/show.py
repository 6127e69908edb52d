"""``andon show``: what an artefact says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from andon.artifact import read_artifact
from andon.cli.common import zone_lines


@click.command("show", short_help="Show what an .andon file is, was made from and promises.")
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
    rows: dict[str, Any] = {
        "method": f"{detector.get('title')} ({detector.get('paper')})",
        "settings": json.dumps(detector.get("settings", {})),
        "input": f"{manifest['preprocessing'].get('size')} {manifest['preprocessing'].get('resize')}",
        "good images": f"{data.get('train')} to fit, {data.get('calibration')} for the threshold",
        "threshold": f"{calibration.get('threshold')} for a target rate of {calibration.get('target_rate')}",
        "guarantee": calibration.get("statement"),
        "made": f"{manifest.get('created')} by andon {manifest.get('andon_version')}",
        "before": _history(manifest),
        "pictures": _pictures(manifest.get("explain", {})),
        "members": ", ".join(
            f"{name} {entry['bytes'] / 1e6:.1f} MB"
            for name, entry in manifest["members"].items()
            if not name.startswith("good/")
        ),
    }
    rows |= _groups(calibration)
    for key, value in rows.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            click.echo(f"{'' if number else key:<13} {line}")
    for line in zone_lines(manifest):
        click.echo(f"{'zones':<13} {line}")


def _pictures(explain: Mapping[str, Any]) -> str:
    """What is said of the pictures of good parts in an artefact."""
    if not explain.get("pictures"):
        return "none of good parts"
    return f"{explain['pictures']} of good parts, {explain['bytes'] / 1e6:.2f} MB: who has the file can look at them"


def _history(manifest: Mapping[str, Any]) -> list[str]:
    """The thresholds before the present one, the first one first, and what each of them promised."""
    former = [entry["calibration"] for entry in manifest.get("history", [])]
    return [_line(number, entry) for number, entry in enumerate(former, 1)] or ["no other threshold"]


def _line(number: int, calibration: Mapping[str, Any]) -> str:
    groups = len(calibration.get("groups", {}))
    by_group = f", and {groups} groups by {calibration['group_by']}" if groups else ""
    return f"{number}. {calibration.get('threshold')}{by_group}: {calibration.get('statement')}"


def _groups(calibration: Mapping[str, Any]) -> dict[str, list[str]]:
    """The groups with a threshold of their own, and those without."""
    groups = calibration.get("groups", {})
    if not groups:
        return {}
    lines = [calibration["group_by"]]
    for name, own in groups.items():
        threshold = "" if own["threshold"] is None else f"{own['threshold']}: "
        lines.append(f"{name}: {threshold}{own['statement']}")
    otherwise = "by the threshold above" if calibration["fall_back"] else "for review"
    return {"groups by": [*lines, f"images of all other groups: {otherwise}"]}
