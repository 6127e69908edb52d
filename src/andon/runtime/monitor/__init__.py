"""Drift of the line, noticed with a stated probability of false alarms, and named in words.

``martingale`` the capital of bets against "nothing changes", ``conformal`` the p-values bet on, ``charts`` EWMA and
CUSUM with their run lengths, ``appearance`` a photograph in seven numbers, ``reference`` those of good photographs,
``watch`` one measure, ``line`` all of them, ``state`` the file, ``following`` inspection with a monitor, ``events`` what was noticed, ``drawing`` a picture of it.
"""

from andon.runtime.monitor.events import MEASURES, DriftEvent
from andon.runtime.monitor.following import Follower, following
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.reference import Reference, ReferenceMaker
from andon.runtime.monitor.state import begin_monitor, identity_of, read_monitor, resume_monitor, save_monitor

__all__ = [
    "MEASURES",
    "DriftEvent",
    "Follower",
    "Monitor",
    "Reference",
    "ReferenceMaker",
    "begin_monitor",
    "following",
    "identity_of",
    "read_monitor",
    "resume_monitor",
    "save_monitor",
]
