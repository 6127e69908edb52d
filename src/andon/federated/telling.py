"""What a server and a site are told to do, and what a server tells of it, as JSON files; no Flower needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from andon.federated.types import Outcome, Plan, Privacy
from andon.files import atomic_write


def plan_from(plain: Mapping[str, Any]) -> Plan:
    """The :class:`Plan` that ``asdict`` made ``plain`` of."""
    privacy = Privacy(**plain["privacy"]) if plain.get("privacy") else None
    return Plan(**{**plain, "size": tuple(plain["size"]), "privacy": privacy})


def write_job(path: Path, plan: Plan, sites: int, *, resume: bool, good: Path | None = None) -> None:
    """Say in ``path`` what the server is to do, ``good`` being its own good images; its outcome is written beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_outcome(
        path,
        {
            "plan": asdict(plan),
            "sites": sites,
            "resume": resume,
            "good": str(good.resolve()) if good else None,
        },
    )


def add_names(path: Path, names: Mapping[int, str]) -> None:
    """Add to the job in ``path`` which of Flower's nodes has which site's key."""
    told = json.loads(path.read_text(encoding="utf-8"))
    write_outcome(path, {**told, "names": {str(node): name for node, name in names.items()}})


def outcome_path(job: Path) -> Path:
    """Where the outcome of ``job`` is written: {"reports", "calibrations"}, or {"error"}."""
    return job.with_suffix(".outcome.json")


def rounds_path(job: Path) -> Path:
    """Where the state after each round of ``job`` is kept."""
    return job.with_suffix(".rounds")


def described(outcome: Outcome) -> dict[str, Any]:
    """What is told of ``outcome``: each round's report, and each site's threshold."""
    return {
        "reports": [asdict(report) for report in outcome.reports],
        "calibrations": {name: asdict(one) for name, one in outcome.calibrations.items()},
    }


def write_outcome(path: Path, plain: dict[str, Any]) -> None:
    """Write ``plain`` as JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(plain, file, indent=1)


def write_settings(path: Path, name: str, images: Path, output: Path, promise: tuple[float, float] | None = None) -> None:  # fmt: skip
    """Say in ``path`` what the site is: its name, its folder of good images, and the .andon file that it ends with.

    ``promise``: epsilon and delta beyond which it tells nothing; None: it tells what it is asked.
    """
    told = {
        "name": name,
        "images": str(images.resolve()),
        "output": str(output.resolve()),
        "promise": promise,
    }
    write_outcome(path, told)
