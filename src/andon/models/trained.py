"""What the detectors that train have in common: weights drawn from a seed, kept, merged and loaded as one state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from andon.errors import DataError, NotFittedError
from andon.models.base import ClosingDetector, Progress, State
from andon.models.checks import require_images

SEEN = "images_seen"


class TrainedDetector(ClosingDetector):
    """Abstract. Its statistics are all parameters and buffers that are not the backbone's, and how many images were
    observed: so a checkpoint continues, and several sites' weights are averaged (federated averaging).

    A subclass makes its modules in ``__init__``, calls :meth:`reset` at its end, draws weights in :meth:`draw`, and
    implements ``loss`` and ``forward``. Letters as in :mod:`andon.models.base`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images_seen = 0

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """The weighted mean of all entries; the images observed are added up."""
        return {
            **super().merge(states, weights),
            SEEN: sum((state[SEEN] for state in states), torch.tensor(0)),
        }

    @abstractmethod
    def draw(self) -> None:
        """Draw the weights anew and forget all that was learnt. Torch's generator has been seeded."""

    def look(self, images: Tensor) -> None:
        """Take statistics of nominal ``images`` (B, 3, H, W) before training. Here none."""

    def settle(self, held_out: Iterable[Tensor]) -> None:
        """Take from ``held_out`` batches what scoring needs, such as the range of a map. Here nothing.

        Without held-out images, leave what is there from an earlier fit.
        """

    def reset(self) -> None:
        """Forget everything that was observed and learnt: weights as drawn from the seed."""
        with seeded(self.seed):
            self.draw()
        self.images_seen = 0
        self.mark(fitted=False)
        self.eval()

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Count nominal ``images`` (B, 3, H, W) and take the statistics that training starts from."""
        require_images(images)
        self.look(images)
        self.images_seen += len(images)

    def statistics(self) -> State:
        """Everything learnt so far, and ``images_seen`` () int64."""
        own = self.state_dict()
        learnt = {name: own[name].detach().cpu().clone() for name in self._names()}
        return {**learnt, SEEN: torch.tensor(self.images_seen)}

    def load_statistics(self, state: State) -> None:
        """Take over ``state``. Raises :class:`DataError` when its entries are not this detector's."""
        if set(self._names()) | {SEEN} != set(state):
            differing = sorted((set(self._names()) | {SEEN}) ^ set(state))
            raise DataError(
                f"the statistics are not those of {type(self).__name__} with these settings; differing entries: "
                f"{', '.join(differing[:6])}. Use the settings that the state was made with."
            )
        self.load_state_dict({name: state[name] for name in self._names()}, strict=False)
        self.images_seen = int(state[SEEN])
        self.mark(fitted=False)

    def _names(self) -> list[str]:
        return [name for name in self.state_dict() if not name.startswith("backbone.") and name != "closed"]

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Take from ``held_out`` what scoring needs. Without any, an earlier fit's is left."""
        if not self.images_seen:
            raise NotFittedError(
                f"{self.title} has seen no image: show it good images with observe() before close()"
            )
        self.settle(held_out)
        self.mark(fitted=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator as seeded with ``seed``; it goes on afterwards as if nothing had been drawn.

    >>> with seeded(3): first = torch.rand(2)
    >>> with seeded(3): print(torch.equal(torch.rand(2), first))
    True
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def learning(*networks: nn.Module) -> Iterator[None]:
    """Put ``networks`` in training mode, so that batch normalisation and dropout learn, and back."""
    for network in networks:
        network.train(True)
    try:
        yield
    finally:
        for network in networks:
            network.train(False)


def redraw(*networks: nn.Module) -> None:
    """Draw the weights of every layer in ``networks`` anew, each in PyTorch's own way, from the global generator."""
    for network in networks:
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
