"""Early stopping: the loss on held-out images now and then, the best state so far, and when to stop.

The held-out loss changes nothing: random numbers come from fixed seeds, and all parameters and buffers (the running
means of batch normalisation among them) are written back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from andon.models.base import State
from andon.training.packing import copies, restore

EVALUATIONS = 20  # in each phase


@dataclass
class Best:
    """The best held-out loss of a phase, and the state that had it."""

    loss: float = float("inf")
    step: int = 0
    waited: int = 0  # evaluations since
    mark: int = 0  # evaluations that were due so far
    state: State = field(default_factory=dict)

    def due(self, share: float) -> bool:
        """Whether an evaluation is due when ``share`` of the phase is done; then it is counted as held."""
        mark = int(min(share, 1.0) * EVALUATIONS + 1e-9)
        due, self.mark = mark > self.mark, max(mark, self.mark)
        return due

    def weigh(self, loss: float, step: int, detector: nn.Module) -> None:
        """Keep the state of ``detector`` if ``loss`` is the best so far."""
        if loss < self.loss:
            self.loss, self.step, self.waited, self.state = loss, step, 0, copies(detector)
        else:
            self.waited += 1

    def give_back(self, detector: nn.Module) -> None:
        """Put the best state back into ``detector``."""
        if self.state:
            restore(detector, self.state)
