"""A site's own account of what was told about its images, and the end of it.

A server that asks twice gets two answers with noise of their own, and their mean has less noise: promises add up over
questions. So a site keeps a file of what it has told, beside the images, written before the answer leaves, and answers no more
once the next answer would break the promise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from andon.errors import AndonError, DataError
from andon.federated.privacy.accountant import Spent, epsilon_spent, require_promise
from andon.files import atomic_write, single_writer

ACCOUNT = "andon-told.json"  # the file's name, in the folder of the images that it is about


class SpentError(AndonError):
    """A site has told all that its promise to its images allows."""


@dataclass(frozen=True)
class Budget:
    """At most ``epsilon`` at ``delta`` for adding or removing one image, over all that is ever told; kept in ``path``."""

    epsilon: float
    delta: float
    path: Path

    def __post_init__(self) -> None:
        require_promise(self.epsilon, self.delta)

    def spent(self) -> list[Spent]:
        """What was told so far. Raises :class:`DataError` for a file that is none of these."""
        if not self.path.exists():
            return []
        try:
            return [Spent(**one) for one in json.loads(self.path.read_text(encoding="utf-8"))["spent"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path} is not an account of privacy ({error}). Without it nothing can be told about these images: "
                "bring it back from a copy."
            ) from error

    def spend(self, more: Spent) -> float:
        """Write ``more`` down, before it is told; the epsilon that all comes to. Raises :class:`SpentError`."""
        with single_writer(self.path):
            now = [*self.spent(), more]
            epsilon = epsilon_spent(now, self.delta)
            if epsilon > self.epsilon * (1 + 1e-3):
                raise SpentError(
                    f"another answer would bring what was told about these images to epsilon {epsilon:.3g} at delta "
                    f"{self.delta:g}, and {self.epsilon:g} is this site's limit. Take part with new images, or decide to "
                    f"tell more ({self.path} has what was told)."
                )
            with atomic_write(self.path, "w") as file:
                json.dump(
                    {"epsilon": epsilon, "delta": self.delta, "spent": [asdict(one) for one in now]},
                    file,
                    indent=1,
                )
        return epsilon
