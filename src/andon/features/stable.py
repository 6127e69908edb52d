"""StableAdamW: AdamW that takes a smaller step where the gradient is larger than it expects.

Wortsman et al. 2023, Stable and low-precision training for large-scale vision-language models (Algorithm 2), as
Dinomaly (Guo et al. 2025) trains with it, with AMSGrad.

    m <- b1 m + (1 - b1) g,    u <- b2 u + (1 - b2) g^2,    v <- max(v, u)
    s  = sqrt(v / (1 - b2^t)) + eps
    p <- p - lr wd p - lr / max(1, rms(g / s)) m / (1 - b1^t) / s

Letters: p a parameter tensor, g its gradient, t its step from 1, rms over the tensor's entries.

And the rate that transformers are trained with: rising at first, then falling along a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class StableAdamW(torch.optim.Optimizer):
    """Minimises by the rule above: ``lr``, ``betas`` (b1, b2), ``eps``, ``weight_decay`` wd."""

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient. ``closure`` is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _move(parameter, parameter.grad, self.state[parameter], group)


def _move(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Take the step of one parameter tensor."""
    if not state:
        state.update(t=0, m=torch.zeros_like(g), u=torch.zeros_like(g), v=torch.zeros_like(g))
    state["t"] += 1
    t, m, u, v = state["t"], state["m"], state["u"], state["v"]
    (b1, b2), lr = group["betas"], group["lr"]
    m.lerp_(g, 1 - b1)
    u.mul_(b2).addcmul_(g, g, value=1 - b2)
    torch.maximum(v, u, out=v)
    s = (v / (1 - b2**t)).sqrt_().add_(group["eps"])
    surprise = (g / s).square().mean().sqrt().clamp(min=1)
    p.mul_(1 - lr * group["weight_decay"])
    p.sub_(m / s * (lr / (1 - b1**t)) / surprise)


def rise_and_fall(done: float, rise: float, last: float) -> float:
    """The rate's factor when the share ``done`` of the training is: linear up to 1 over the share ``rise``, then half a
    cosine down to ``last``.

    >>> [round(rise_and_fall(done, 0.1, 0.2), 2) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.6, 0.2]
    """
    if done < rise:
        return done / rise
    return last + (1 - last) * (1 + math.cos(math.pi * min(1.0, (done - rise) / (1 - rise)))) / 2
