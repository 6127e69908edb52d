"""Secure aggregation of statistics of fixed size: a server that sees sums of sites, and nothing of a single one.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 4, without its secret
shares. Every two sites u < v agree on a seed s_uv that the server does not know (X25519). Each turns its numbers into
whole ones, round(x / grid) modulo 2^64, and sends

    y_u = x_u + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_vu)      modulo 2^64

each y by itself is uniformly random; in the sum of all sites the masks cancel, exactly. A sum must stay within 2^63 grid
steps. Where a site is missing nothing cancels, so all sites must answer: `unmasked` refuses others. Without secret shares a
site that is lost costs the round. PRG is SHAKE-256 of the seed, the round and the entry's name. Entries that are whole numbers
(an image's size) are the same at all sites and stay as they are.

What it does not do: keys that pass through the server must be known to be the sites' own (from ``andon federate keys``, or by
telephone), for else it could put itself between any two. Sums still tell something: use it with noise (``adders``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import DataError, MissingExtraError, SettingsError
from andon.federated.types import Contribution
from andon.federated.wire import Expected
from andon.models.base import State

GRID = 2.0**-24  # of the whole numbers that are added
LARGEST = 2.0**62  # steps of the grid; half of what a sum may come to


def key_pair() -> tuple[bytes, bytes]:
    """A new private key, which stays at the site, and the public one that belongs to it, 32 bytes each."""
    x25519 = _x25519()
    private = x25519.X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def agreed_seeds(site: str, private: bytes, public: Mapping[str, bytes]) -> dict[str, bytes]:
    """What ``site`` shares with each other site and with nobody else: 32 bytes from its private key and their public ones."""
    x25519 = _x25519()
    own = x25519.X25519PrivateKey.from_private_bytes(private)
    seeds = {}
    for other, key in public.items():
        if other != site:
            shared = own.exchange(x25519.X25519PublicKey.from_public_bytes(key))
            seeds[other] = hashlib.sha256(b"andon masks " + shared).digest()
    return seeds


@dataclass(frozen=True)
class Masked:
    """A site's release: its statistics, each number hidden. ``seeds``: of :func:`agreed_seeds`; ``nonce``: new every round.

    ``grid``: what a step of the whole numbers stands for; the same at all sites.
    """

    seeds: Mapping[str, bytes]
    nonce: bytes = b""
    grid: float = GRID

    def __call__(self, contribution: Contribution) -> Contribution:
        """``contribution`` as it leaves. Raises :class:`SettingsError` for numbers beyond the grid."""
        if not self.seeds:
            raise SettingsError(
                "a site alone has nobody to hide among; secure aggregation needs at least two"
            )
        state = {
            name: self._hidden(name, tensor, contribution.site) if tensor.is_floating_point() else tensor
            for name, tensor in contribution.state.items()
        }
        return replace(contribution, state=state)

    def _hidden(self, name: str, tensor: Tensor, site: str) -> Tensor:
        scaled = np.rint(tensor.detach().cpu().double().numpy() / self.grid)
        if not np.abs(scaled).max(initial=0.0) < LARGEST:
            raise SettingsError(
                f"{name!r} holds numbers of {LARGEST * self.grid:.3g} or more, or not finite; take a coarser grid"
            )
        out = scaled.astype(np.int64).view(np.uint64)
        for other, seed in self.seeds.items():
            mask = _stream(seed, self.nonce + name.encode(), scaled.shape)
            out = out + mask if site < other else out - mask  # modulo 2^64
        return torch.from_numpy(np.asarray(out).view(np.int64).reshape(scaled.shape).copy())


def masked_expected(expected: Expected) -> Expected:
    """What masked states of that look look like: whole numbers in the same shapes."""
    free = [name for name, (_, shape) in expected.items() if None in shape]
    if free:
        raise SettingsError(
            f"secure aggregation adds numbers at the same places, and the rows of {', '.join(free)} are of any number. Use "
            "private statistics on public centres."
        )
    return {
        name: (torch.int64 if dtype.is_floating_point else dtype, shape)
        for name, (dtype, shape) in expected.items()
    }


def unmasked(merge: Callable[[Sequence[Contribution]], State], dtypes: Mapping[str, torch.dtype], sites: Sequence[str],
             grid: float = GRID) -> Callable[[Sequence[Contribution]], State]:  # fmt: skip
    """An aggregate that adds up masked states of all ``sites`` and hands the sum to ``merge`` as one contribution.

    ``dtypes`` of the entries before they were masked. Raises :class:`DataError` where a site is missing.
    """

    def add(contributions: Sequence[Contribution]) -> State:
        names = sorted(one.site for one in contributions)
        if names != sorted(sites):
            missing = ", ".join(sorted(set(sites) - set(names))) or "none"
            raise DataError(
                f"masks cancel only where all of {', '.join(sorted(sites))} answer; missing: {missing}. Begin again with "
                "those that are there."
            )
        state = dict(contributions[0].state)
        for name, dtype in dtypes.items():
            if dtype.is_floating_point:  # int64 wraps around
                whole = torch.stack([one.state[name] for one in contributions]).sum(0)
                state[name] = (whole.double() * grid).to(dtype)
        return merge([Contribution("all", state, sum(one.images for one in contributions))])

    return add


def _stream(seed: bytes, label: bytes, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Uniform numbers in ``shape`` that nobody without ``seed`` can tell from random ones."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(hashlib.shake_256(seed + label).digest(8 * count), np.uint64).reshape(shape)


def _x25519():  # type: ignore[no-untyped-def]
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
    except ImportError as error:
        raise MissingExtraError("cryptography", extra="federated", purpose="secure aggregation") from error
    return x25519
