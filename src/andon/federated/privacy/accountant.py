"""How much noise a promise needs, and what promise some noise gives.

Differential privacy (Dwork, McSherry, Nissim, Smith 2006): with or without any one image, whatever is released looks
nearly the same, P[M(A) in S] <= e^epsilon P[M(B) in S] + delta for every S. The Gaussian mechanism adds N(0, (z Delta)^2)
to a vector that one image moves by at most Delta. Its exact curve (Balle and Wang 2018, "Improving the Gaussian Mechanism
for Differential Privacy", theorem 8), with Phi the normal distribution function:

    delta(epsilon) = Phi(1/(2z) - epsilon z) - e^epsilon Phi(-1/(2z) - epsilon z)

Several Gaussian releases, each chosen after seeing the earlier ones, are one with 1/z^2 = sum of 1/z_t^2 (Dong, Roth and Su
2022, "Gaussian Differential Privacy", corollary 3.3), so T equal ones need z sqrt(T). No series and no bound is involved:
the classic sigma = sqrt(2 ln(1.25/delta))/epsilon holds for epsilon below 1 alone and is not used. Where each step looks
at a random part of the images (DP-SGD) there is no closed form; then Opacus's accountant answers (PRV, Gopi, Lee and
Wutschitz 2021). dp-accounting's privacy loss distributions agree with both in the tests.

Letters: z the noise multiplier, q the share of images in a step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from andon.errors import MissingExtraError, SettingsError

MOST_NOISE = 1e6
MOST_TRAINING_NOISE = 512.0
MOST_EPSILON = 1e4


@dataclass(frozen=True)
class Spent:
    """``times`` releases with noise multiplier ``noise``, each of images taken with probability ``sampling``."""

    noise: float
    sampling: float = 1.0
    times: int = 1


def delta_of(epsilon: float, noise: float) -> float:
    """The smallest delta at ``epsilon`` for a Gaussian release with noise multiplier ``noise``; theorem 8.

    >>> round(delta_of(1.0, 3.7306), 7)
    1e-05
    """
    near, far = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
    return max(0.0, _phi(near) - math.exp(epsilon + _log_phi(far)))


def epsilon_of(noise: float, delta: float) -> float:
    """The smallest epsilon at ``delta`` for a Gaussian release with noise multiplier ``noise``; inf beyond 10,000.

    >>> round(epsilon_of(1.0, 1e-5), 3)
    4.377
    """
    if delta_of(0.0, noise) <= delta:
        return 0.0
    if delta_of(MOST_EPSILON, noise) > delta:
        return math.inf
    return _smallest(lambda epsilon: delta_of(epsilon, noise) <= delta, 0.0, MOST_EPSILON)


def noise_for(epsilon: float, delta: float, releases: int = 1) -> float:
    """The noise multiplier of each of ``releases`` Gaussian releases that together are (epsilon, delta)-private.

    Raises :class:`SettingsError` for values that promise nothing.

    >>> round(noise_for(1.0, 1e-5), 4), round(noise_for(8.0, 1e-5), 4)
    (3.7306, 0.6002)
    """
    require_promise(epsilon, delta)
    return _smallest(lambda z: delta_of(epsilon, z) <= delta, 1e-3, MOST_NOISE) * math.sqrt(releases)


def require_promise(epsilon: float, delta: float) -> None:
    """Raise :class:`SettingsError` unless 0 < epsilon <= 10,000 and 0 < delta < 1."""
    if not 0 < epsilon <= MOST_EPSILON:
        raise SettingsError(f"epsilon must lie above 0 and at most at {MOST_EPSILON:g}, got {epsilon!r}")
    if not 0 < delta < 1:
        raise SettingsError(
            f"delta must lie between 0 and 1, and far below 1 over the number of images; got {delta!r}"
        )


def epsilon_spent(spent: Sequence[Spent], delta: float) -> float:
    """What all of ``spent`` on the same images comes to at ``delta``; 0 for nothing.

    Exact where every release took all images; else Opacus's numerical upper bound, good to 0.01. Raises
    :class:`MissingExtraError` where that is needed and not installed.
    """
    if not spent:
        return 0.0
    if all(one.sampling == 1 for one in spent):
        return epsilon_of(sum(one.times / one.noise**2 for one in spent) ** -0.5, delta)
    try:
        from opacus.accountants import PRVAccountant
    except ImportError as error:
        raise MissingExtraError("opacus", extra="federated", purpose="counting private training") from error
    accountant = PRVAccountant()
    accountant.history = [(one.noise, one.sampling, one.times) for one in spent]
    return float(accountant.get_epsilon(delta, eps_error=0.01))


@lru_cache(maxsize=64)
def training_noise(epsilon: float, delta: float, sampling: float, steps: int) -> float:
    """The noise multiplier of each of ``steps`` that look at a random ``sampling`` of the images, together (epsilon, delta).

    To one part in a hundred, above: found by Opacus's quicker and looser accountant, then by the exact one below that.
    Raises :class:`SettingsError` for an epsilon below what can be counted.
    """
    require_promise(epsilon, delta)
    if sampling == 1:
        return noise_for(epsilon, delta, steps)
    loose = _looser(epsilon, delta, sampling, steps)
    return _smallest(
        lambda z: epsilon_spent([Spent(z, sampling, steps)], delta) <= epsilon, 0.7 * loose, loose, 1e-2
    )


def _looser(epsilon: float, delta: float, sampling: float, steps: int) -> float:
    """A multiplier that is enough, by Renyi divergences (Mironov 2017)."""
    try:
        from opacus.accountants.analysis import rdp
    except ImportError as error:
        raise MissingExtraError("opacus", extra="federated", purpose="private training") from error
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [128, 256, 512]

    def enough(z: float) -> bool:
        spent = rdp.compute_rdp(q=sampling, noise_multiplier=z, steps=steps, orders=orders)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # that the best order is the last one: looser still, and not wrong
            return float(rdp.get_privacy_spent(orders=orders, rdp=spent, delta=delta)[0]) <= epsilon

    if not enough(MOST_TRAINING_NOISE):
        raise SettingsError(
            f"{steps} steps at a share of {sampling:.3g} cannot be counted as epsilon {epsilon:g}; take fewer steps"
        )
    return _smallest(enough, 0.1, MOST_TRAINING_NOISE, precision=1e-3)


def _smallest(holds: Callable[[float], bool], low: float, high: float, precision: float = 1e-12) -> float:
    """The smallest value at which ``holds``, approached from above; it holds at ``high``, and above wherever it does."""
    for _ in range(200):
        if high - low <= precision * high:
            break
        middle = math.sqrt(low * high) if low > 0 else (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _log_phi(x: float) -> float:
    """ln Phi(x), also where Phi underflows (x < -8: the first terms of Mills' ratio)."""
    if x > -8:
        return math.log(_phi(x))
    square = x * x
    ratio = 1 - 1 / square + 3 / square**2 - 15 / square**3 + 105 / square**4
    return -square / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log(ratio)
