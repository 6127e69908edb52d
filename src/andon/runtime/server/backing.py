"""What takes note of each inspection besides the one who asked."""

from __future__ import annotations

from dataclasses import dataclass

from andon.runtime.server.drifting import Monitors
from andon.runtime.server.recording import Recorder


@dataclass(frozen=True)
class Backing:
    """Monitors of drift, and records; None for what there is none of. Whoever made them closes them."""

    monitors: Monitors | None = None
    recorder: Recorder | None = None
