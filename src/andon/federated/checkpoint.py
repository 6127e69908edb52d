"""A federation's own checkpoint: the state after each round, so that a server that was stopped goes on at the next one.

Flower's server forgets a run that it was killed in; sites keep nothing between rounds, so this is all there is to keep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from andon.errors import SettingsError
from andon.federated.types import Plan, Refused, Report
from andon.models.base import State
from andon.training.checkpoint import read_checkpoint, write_checkpoint


class Kept(NamedTuple):
    """What a checkpoint holds."""

    state: State  # after the rounds that are done
    reports: list[Report]  # one a round


@dataclass(frozen=True)
class RoundKeeper:
    """Writes the state after each round to ``path``; nothing without one. ``resume``: go on from what is there."""

    path: Path | None
    plan: Plan
    resume: bool = False

    def found(self) -> Kept | None:
        """What to go on from. Raises :class:`DataError` for a damaged file, :class:`SettingsError` for another plan's."""
        if self.path is None or not self.resume or not self.path.exists():
            return None
        state, header = read_checkpoint(self.path)
        if header.get("fingerprint") != self.fingerprint:
            raise SettingsError(
                f"{self.path} belongs to a federation with another plan. Give the same method, settings, size and rounds to "
                "resume, or start over without --resume."
            )
        return Kept(state, [report_from(report) for report in header["reports"]])

    def save(self, state: State, reports: Sequence[Report]) -> None:
        """Write it, atomically."""
        if self.path is not None:
            header = {"fingerprint": self.fingerprint, "reports": [asdict(report) for report in reports]}
            write_checkpoint(self.path, state, header)

    def done(self) -> None:
        """Remove the file: everything is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def fingerprint(self) -> str:
        """A hash of what must be the same to go on; who must answer, and for how long one waits, may change."""
        own = {
            name: value for name, value in asdict(self.plan).items() if name not in ("min_sites", "timeout")
        }
        return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()


def report_from(plain: dict[str, Any]) -> Report:
    """The :class:`Report` that ``asdict`` made ``plain`` of."""
    refused = tuple(Refused(**one) for one in plain["refused"])
    return Report(**{**plain, "answered": tuple(plain["answered"]), "refused": refused})
