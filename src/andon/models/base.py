"""The contract that every detector keeps.

A detector is a statistic of good images that merges. Fitting is ``observe* -> loss* -> close``; federated
and distributed fitting put ``merge`` before ``close``. The engine around it (one process, Ray, Flower) is
the only thing that changes.

Shapes: images (B, 3, H, W) float32 RGB in [0, 1]; B images, H rows, W columns.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from andon.errors import ArtifactError, NotFittedError, SettingsError

State = dict[str, Tensor]
Progress = Callable[[float], None]  # told the fraction done, 0 to 1


class Scores(NamedTuple):
    """What a detector answers: raw numbers, higher is more anomalous."""

    anomaly_map: Tensor  # (B, 1, H, W) float32, at the input's H, W
    image_score: Tensor  # (B,) float32, never squashed
    reconstruction: Tensor | None = None  # (B, 3, H, W) float32 in [0, 1], for methods that make one
    nearest: Tensor | None = (
        None  # (B, h, w) int64: each patch's row of the memory bank, for methods with one
    )


@dataclass(frozen=True)
class Turn:
    """One optimiser's turn in a training step: it minimises ``loss(images, frozen)`` over ``parameters``."""

    loss: Callable[[Tensor, State], Tensor]  # images (B, 3, H, W), what `Detector.frozen` makes of them -> ()
    parameters: Sequence[nn.Parameter]
    optimiser: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
    clip: float | None = None  # the gradient's norm is cut to it; None: never


@dataclass(frozen=True)
class Phase:
    """``steps`` training steps, in each of which every turn is taken once, in order."""

    name: str
    steps: int
    turns: Sequence[Turn]
    rate: Callable[[float], float] = lambda done: 1.0  # share of the phase done -> factor of the rates
    adversarial: bool = False  # its turns work against each other: their losses tell nothing of progress


@dataclass(frozen=True)
class Look:
    """One pass over all training images without gradients, such as a normalisation needs after training."""

    name: str
    look: Callable[[Tensor], None]  # images (B, 3, H, W); what it finds is part of `Detector.statistics`


class Detector(nn.Module, ABC):
    """A method: what it learns from good images, and how it scores a new one.

    The keywords of ``__init__`` are the configuration: each is kept as an attribute of the same name, so
    that :meth:`settings` can give them back and ``build(**settings)`` can make the same detector again.
    """

    title: str = ""  # the method's name as people write it
    paper: str = ""  # authors, year, title
    reconstructs: bool = False  # whether its scores come with the good part that it expected
    quantises: bool = False  # whether it takes the nearest of some codes, so that its answer can jump
    steps: int = 0  # gradient steps; 0 = closed form
    batch_size: int = 8  # images read together, and in a training step
    uses_held_out: bool = False  # whether `close` looks at held-out images
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """The constructor keywords of this detector, as plain values that JSON can hold."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: _plain(getattr(self, name)) for name in names}

    @abstractmethod
    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""

    @abstractmethod
    def observe(self, images: Tensor) -> None:
        """Take statistics from nominal ``images``: one pass, any order, bounded memory."""

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """One batch's training loss, a scalar; called ``steps`` times after ``observe``.

        ``frozen``: what :meth:`frozen` made of these images, where the caller has kept it. Random numbers come
        from torch's global generator, which the caller seeds before every step.
        """
        raise SettingsError(f"{type(self).__name__} is closed form: it has no training loss (steps = 0)")

    def frozen(self, images: Tensor) -> State:
        """What training reads of ``images`` through parts that never change, one row an image: may be kept between
        epochs. Here nothing."""
        return {}

    def phases(self) -> Sequence[Phase | Look]:
        """How training goes, in order. Here one phase of ``steps``: Adam at 1e-4 on :meth:`loss`."""
        if not self.steps:
            return ()
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return (Phase("train", self.steps, (Turn(self.loss, learned, adam(1e-4)),)),)

    @abstractmethod
    def statistics(self) -> State:
        """What was observed so far, not closed: what checkpoints keep and sites exchange."""

    @abstractmethod
    def load_statistics(self, state: State) -> None:
        """Take over ``state``, as :meth:`statistics` or :meth:`merge` gave it."""

    def kept_statistics(self) -> State:
        """What an artefact keeps, so that a closed fit can be continued or merged: here all of :meth:`statistics`."""
        return self.statistics()

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """Several sites' or ranks' unclosed states as one: here their weighted mean, entry by entry, in float64."""
        total = float(sum(weights))
        merged = {}
        for name, first in states[0].items():
            mean = torch.zeros(first.shape, dtype=torch.float64, device=first.device)
            for state, weight in zip(states, weights, strict=True):
                mean += state[name].double() * (weight / total)
            merged[name] = mean.to(first.dtype) if first.is_floating_point() else mean.round().to(first.dtype)
        return merged

    @abstractmethod
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Turn the statistics into what ``forward`` needs. ``held_out``: batches of nominal images not observed.

        Raises :class:`NotFittedError` when nothing was observed. The statistics stay: one may observe more and
        close again.
        """

    def bank_sources(self, batches: Iterable[Tensor]) -> Tensor | None:
        """Where in these nominal images the rows of a memory bank are found again; here None, for there is no bank.

        (M, 4) float32: batch, image in the batch, and the patch's row and column, as shares of the image from 0 to 1.
        """
        return None

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether ``close`` has been called."""

    @abstractmethod
    def forward(self, images: Tensor) -> Scores:
        """Score ``images``. Pure, the same in ``train()`` and ``eval()``: this is what the ONNX graph holds."""

    def train(self, mode: bool = True) -> Self:
        """The detector itself, as it was: it answers alike in either mode. Networks learn inside ``loss`` alone,
        under :func:`learning`."""
        return super().train(False)

    def fitted_state(self) -> State:
        """Copies of what ``close`` left and ``forward`` reads, on the CPU, without the backbone.

        Here every parameter and buffer that is not the backbone's. Raises :class:`NotFittedError`.
        """
        self.require_fitted()
        own, names = self.state_dict(), self.fitted_names()
        return {name: tensor.detach().cpu().clone() for name, tensor in own.items() if name in names}

    def fitted_names(self) -> set[str]:
        """The entries of :meth:`fitted_state`."""
        return {name for name in self.state_dict() if not name.startswith("backbone.")}

    def load_fitted_state(self, state: State) -> None:
        """Take over ``state``, as :meth:`fitted_state` gave it to a detector of the same settings.

        Raises :class:`ArtifactError` when its entries are not the ones that this detector keeps.
        """
        self.require_entries(state)
        for name, tensor in state.items():
            path, _, leaf = name.rpartition(".")
            _replace(self.get_submodule(path), leaf, tensor.detach().clone())

    def require_entries(self, state: State) -> None:
        """Raise :class:`ArtifactError` unless ``state`` has the entries of :meth:`fitted_state`."""
        own = self.fitted_names()
        if own != set(state):
            raise ArtifactError(
                f"the fitted state of {type(self).__name__} holds {sorted(own)}, got {sorted(state)}: it comes from "
                "another method or version. Fit again, or open it with the version that wrote it."
            )

    def require_fitted(self) -> None:
        """Raise :class:`NotFittedError` unless ``close`` has been called."""
        if not self.is_fitted:
            raise NotFittedError(
                f"{type(self).__name__} has not been fitted: show it good images with observe() and call close(), "
                "or use andon.fit(folder)"
            )


class ClosingDetector(Detector):
    """Abstract. A detector whose state says by a buffer of its own that it is closed, for nothing else in it does."""

    closed: Tensor  # () bool

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("closed", torch.zeros((), dtype=torch.bool))
        self._fitted = False

    def mark(self, *, fitted: bool) -> None:
        """Note whether ``close`` has been called."""
        self.closed, self._fitted = torch.full_like(self.closed, fitted), fitted

    def load_fitted_state(self, state: State) -> None:
        """Take over ``state``, as :meth:`fitted_state` gave it to a detector of the same settings."""
        super().load_fitted_state(state)
        self._fitted = bool(self.closed)

    @property
    def is_fitted(self) -> bool:
        """Whether ``close`` has been called."""
        return self._fitted


def adam(rate: float, **keywords: Any) -> Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]:
    """A maker of Adam optimisers for :class:`Turn`: learning ``rate``, and keywords of ``torch.optim.Adam``."""
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, **keywords)


def _replace(module: nn.Module, leaf: str, tensor: Tensor) -> None:
    """Put ``tensor`` in the place of a parameter or buffer, whose shape may differ, on its device."""
    old = getattr(module, leaf)
    tensor = tensor.to(old.device, old.dtype)
    new = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    setattr(module, leaf, new)


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return getattr(value, "name", type(value).__name__)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
