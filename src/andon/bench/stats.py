"""What repeated runs say: mean and spread, whether two differ, which are as good as the best.

B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
Biometrika 34, 1947.

Letters: n runs, m mean, v variance (divided by n - 1), s = v / n; t and d of Student's distribution, d its degrees of
freedom. A value that is None, NaN or infinite is left out of every statistic here, and :class:`Summary` counts it. The
answers do not depend on the order of the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from andon.errors import MetricError, SettingsError
from andon.metrics.holm import holm

Values = Iterable[float | None]
_TINY = 1e-300
_STIRLING = 30.0  # from here on, three terms of the series are exact to 1e-16


@dataclass(frozen=True)
class Summary:
    """Repeated runs in short: ``mean`` None without values, ``std`` (divided by n - 1) None with fewer than two."""

    mean: float | None
    std: float | None
    n: int
    left_out: int = 0  # values that are None, NaN or infinite


@dataclass(frozen=True)
class Band:
    """A mean with its interval of confidence; ``low`` and ``high`` None with fewer than two values."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Several samples against the one with the best mean.

    ``marked``: the best, whatever ties with it, and all that do not differ significantly from it. ``p_values``: of each
    name against ``reference``, after Holm's correction where it was asked for; None where no test was possible.
    ``untested``: names with values for which that is so.
    """

    reference: str | None
    marked: frozenset[str]
    p_values: Mapping[str, float | None] = field(default_factory=dict)
    untested: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether every sample with values could be tested against the best."""
        return not self.untested


def summarise(values: Values) -> Summary:
    """Mean, standard deviation and number of ``values``; those that are no number are left out and counted.

    Equal values have a spread of exactly 0. Raises :class:`MetricError` for what is not a number at all, such as text.

    >>> summarise([1.0, 2.0, 3.0, None])
    Summary(mean=2.0, std=1.0, n=3, left_out=1)
    >>> summarise([0.5])
    Summary(mean=0.5, std=None, n=1, left_out=0)
    """
    given = list(values)
    kept = _finite(given)
    if not kept:
        return Summary(None, None, 0, len(given))
    mean, variance = _moments(kept)
    std = None if len(kept) < 2 else math.sqrt(variance)
    return Summary(mean, std, len(kept), len(given) - len(kept))


def welch_p(first: Values, second: Values) -> float | None:
    """The two-sided p-value of Welch's t-test: how likely means so far apart are when the true ones are equal.

        t = (m1 - m2) / sqrt(s1 + s2),   d = (s1 + s2)^2 / (s1^2 / (n1 - 1) + s2^2 / (n2 - 1))

    None where either has fewer than two values: no test is possible. Where neither varies, 1 for equal means and 0 for
    others.

    >>> round(welch_p([0.90, 0.91, 0.92], [0.95, 0.96, 0.97]), 4)
    0.0036
    >>> welch_p([0.9], [0.95, 0.96]) is None
    True
    """
    one, two = _finite(first), _finite(second)
    if len(one) < 2 or len(two) < 2:
        return None
    (m1, v1), (m2, v2) = _moments(one), _moments(two)
    s1, s2 = v1 / len(one), v2 / len(two)
    if s1 + s2 == 0:
        return 1.0 if m1 == m2 else 0.0
    part1, part2 = s1 / (s1 + s2), s2 / (s1 + s2)
    degrees = 1 / (part1**2 / (len(one) - 1) + part2**2 / (len(two) - 1))
    return t_two_sided((m1 - m2) / math.sqrt(s1 + s2), degrees)


def compare(
    samples: Mapping[str, Iterable[float | None]],
    *,
    level: float = 0.05,
    higher_is_better: bool = True,
    holm_corrected: bool = False,
) -> Comparison:
    """Which of ``samples`` (name -> values of repeated runs) are as good as the best: p >= ``level`` against it.

    The reference has the best mean; among equal means the most values, then the first name. With a single value a
    name cannot be tested: it is marked only when it is, or ties with, the best. A name without values is never marked.

    >>> compare({"a": [0.90, 0.92], "b": [0.91, 0.93], "c": [0.1, 0.11]}).marked == {"a", "b"}
    True
    """
    if not 0 < level < 1:
        raise SettingsError(f"level must lie between 0 and 1, such as 0.05 for 5 %, not {level}")
    values = {name: _finite(given) for name, given in sorted(samples.items())}
    means = {name: _moments(own)[0] for name, own in values.items() if own}
    if not means:
        return Comparison(None, frozenset(), dict.fromkeys(values))
    sign = 1.0 if higher_is_better else -1.0
    best_mean = max(sign * mean for mean in means.values())
    tied = [name for name, mean in means.items() if sign * mean == best_mean]
    reference = max(tied, key=lambda name: len(values[name]))  # the first of equals
    others = [name for name in values if name != reference]
    found = [welch_p(values[name], values[reference]) for name in others]
    p_values = dict(zip(others, holm(found) if holm_corrected else found, strict=True))
    same = {name for name, p in p_values.items() if p is not None and p >= level}
    untested = tuple(name for name, p in p_values.items() if p is None and name in means and name not in tied)
    return Comparison(reference, frozenset(same.union(tied)), {reference: 1.0, **p_values}, untested)


def best(
    samples: Mapping[str, Iterable[float | None]],
    *,
    level: float = 0.05,
    higher_is_better: bool = True,
    holm: bool = False,
) -> set[str]:
    """The names to print in bold: :func:`compare`'s ``marked``. Its ``tested`` says whether single runs stood in the way.

    >>> best({"patchcore": [0.97], "padim": [0.96]})
    {'patchcore'}
    """
    found = compare(samples, level=level, higher_is_better=higher_is_better, holm_corrected=holm)
    return set(found.marked)


def ranks(
    samples: Mapping[str, Iterable[float | None]], *, higher_is_better: bool = True
) -> dict[str, int | None]:
    """Each name's place by its mean, from 1; equal means share the better place; None without values.

    >>> ranks({"a": [0.9], "b": [0.8], "c": [0.9], "d": [None]})
    {'a': 1, 'b': 3, 'c': 1, 'd': None}
    """
    sign = 1.0 if higher_is_better else -1.0
    means = {name: summarise(values).mean for name, values in samples.items()}
    keys = [sign * mean for mean in means.values() if mean is not None]
    return {
        name: None if mean is None else 1 + sum(key > sign * mean for key in keys)
        for name, mean in means.items()
    }


def band(values: Values, confidence: float = 0.95) -> Band:
    """The mean of ``values`` and the interval that holds the true one with ``confidence``, by Student's distribution.

    m -+ t(confidence, n - 1) * sqrt(v / n). Raises :class:`SettingsError` for a confidence outside (0, 1).

    >>> found = band([0.90, 0.92, 0.94])
    >>> round(found.low, 4), round(found.high, 4)
    (0.8703, 0.9697)
    """
    kept = _finite(values)
    if len(kept) < 2:
        _check_confidence(confidence)
        return Band(kept[0] if kept else None, None, None, len(kept))
    mean, variance = _moments(kept)
    half = t_quantile(confidence, len(kept) - 1) * math.sqrt(variance / len(kept))
    return Band(mean, mean - half, mean + half, len(kept))


def t_two_sided(t: float, degrees: float) -> float:
    """P(abs(T) >= abs(t)) for Student's T with ``degrees`` of freedom, whole or not: I_x(d/2, 1/2), x = d / (d + t^2).

    >>> round(t_two_sided(2.0, 7.5), 6)
    0.082897
    """
    if not degrees > 0 or math.isnan(t):
        raise MetricError(f"expected a number t and degrees of freedom above 0, got {t} and {degrees}")
    if math.isinf(degrees):
        return math.erfc(abs(t) / math.sqrt(2))
    if t == 0 or math.isinf(t):
        return 1.0 if t == 0 else 0.0
    log_ratio = 2 * math.log(abs(t)) - math.log(degrees)  # of t^2 / d
    log_x = -_log1p_exp(log_ratio)
    return _beta_tail(degrees / 2, 0.5, log_x, log_x + log_ratio)


def t_quantile(confidence: float, degrees: float) -> float:
    """The t with P(abs(T) < t) = ``confidence``, by bisection on :func:`t_two_sided`.

    >>> round(t_quantile(0.95, 7), 4)
    2.3646
    """
    _check_confidence(confidence)
    low, high = 0.0, 1.0
    while t_two_sided(high, degrees) > 1 - confidence:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        above = t_two_sided(middle, degrees) > 1 - confidence
        low, high = (middle, high) if above else (low, middle)
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a and b above 0 and x from 0 to 1.

    Relative error below 1e-10 for b = 1/2 and a to 1e6, and for b to 100 and a to 1e4.

    >>> round(incomplete_beta(2.0, 3.0, 0.4), 6)
    0.5248
    """
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise MetricError(f"expected a > 0, b > 0 and 0 <= x <= 1, got {a}, {b} and {x}")
    if x in (0.0, 1.0):
        return x
    return _beta_tail(a, b, math.log(x), math.log1p(-x))


def _beta_tail(a: float, b: float, log_x: float, log_y: float) -> float:
    """I_x(a, b), with log x and log y = log(1 - x) apart, so that neither end loses digits."""
    if math.exp(log_x) > (a + 1) / (a + b + 2):
        return 1 - _beta_tail(b, a, log_y, log_x)
    front = math.exp(a * log_x + b * log_y - _log_beta(a, b)) / a
    return min(1.0, front * _fraction(a, b, math.exp(log_x)))


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b) (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            c, d = _off_zero(1 + step / c), 1 / _off_zero(1 + step * d)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            return value
    raise MetricError(f"the incomplete beta function did not settle at a = {a}, b = {b}, x = {x}")


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _log_beta(a: float, b: float) -> float:
    """log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b), without their cancellation where one is large."""
    small, large = min(a, b), max(a, b)
    if large < _STIRLING:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    total = large + small
    rise = (large - 0.5) * math.log1p(small / large) + small * (math.log(total) - 1)
    return math.lgamma(small) - rise - _stirling(total) + _stirling(large)


def _stirling(z: float) -> float:
    """log Gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), for large z."""
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * z * z)) / (z * z)) / (z * z)) / z


def _log1p_exp(value: float) -> float:
    """log(1 + exp(value)), which neither overflows nor loses small values."""
    return value + math.log1p(math.exp(-value)) if value > 0 else math.log1p(math.exp(value))


def _finite(values: Values) -> list[float]:
    """What is a finite number, smallest first."""
    kept = []
    for value in values:
        if value is None:
            continue
        try:
            is_finite = math.isfinite(value)
        except TypeError as error:
            raise MetricError(f"expected numbers, or None for what is not known; got {value!r}") from error
        if is_finite:
            kept.append(float(value))
    return sorted(kept)


def _moments(ordered: Sequence[float]) -> tuple[float, float]:
    """Mean and variance (divided by n - 1; 0 for one value); as differences from the first, so that equal values give 0."""
    first, n = ordered[0], len(ordered)
    shift = math.fsum(value - first for value in ordered) / n
    if n < 2:
        return first, 0.0
    squares = math.fsum((value - first - shift) ** 2 for value in ordered)
    return first + shift, squares / (n - 1)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence must lie between 0 and 1, not {confidence}")
