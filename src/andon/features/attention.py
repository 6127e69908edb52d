"""Blocks of transformers: attention over tokens, where each token is, and the layers around them.

Letters: B images, N tokens, D channels of a token, n heads; h and w the grid that the tokens come from, row by row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-6


class LinearAttention(nn.Module):
    """Attention without softmax, whose cost is linear in the tokens: (B, N, D) -> (B, N, D).

    Katharopoulos et al. 2020, Transformers are RNNs: with phi(x) = elu(x) + 1 the output of a head is
    phi(q) (phi(k)^T v) / (phi(q) sum phi(k)).
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(d, 3 * d)
        self.project = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=2))
        q, k = F.elu(q) + 1, F.elu(k) + 1  # (B, n, N, D / n)
        k = k / k.shape[2]  # so that sums stay means
        context = k.transpose(2, 3) @ v  # (B, n, D / n, D / n)
        weight = q @ k.sum(2)[..., None]  # (B, n, N, 1)
        y: Tensor = self.project(merged((q @ context) / weight.clamp(min=TINY)))
        return y


class FeatureAttention(nn.Module):
    """Softmax attention whose queries and keys are nonlinear functions of a token: (B, N, D) -> (B, N, D).

    Multihead feature self-attention of Pirnay, Chai 2021: q, k = MLP(x) with 2 D hidden and D / 2 output channels.
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = mlp(d, 2 * d, d // 2), mlp(d, 2 * d, d // 2)
        self.value = nn.Linear(d, d, bias=False)
        self.project = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k = split(self.query(x), self.heads), split(self.key(x), self.heads)
        y = F.scaled_dot_product_attention(q, k, split(self.value(x), self.heads))
        out: Tensor = self.project(merged(y))
        return out


class Block(nn.Module):
    """``attention`` and a two-layer network, each on normalised tokens and added to them: (B, N, D) -> (B, N, D)."""

    def __init__(self, d: int, attention: nn.Module, eps: float = 1e-6) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(d, eps), attention
        self.between, self.network = nn.LayerNorm(d, eps), mlp(d, 4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        y: Tensor = x + self.network(self.between(x))
        return y


class Positions(nn.Module):
    """A learnt vector for each position of an image of any size: a grid (D, G, G), read bilinearly.

    ``waves``: whether the vectors start as sines and cosines of row and column, from which attention finds neighbours
    at once, instead of as small random numbers.
    """

    def __init__(self, d: int, grid: int = 16, *, waves: bool = False) -> None:
        super().__init__()
        self.waves = waves
        self.vectors = nn.Parameter(torch.zeros(1, d, grid, grid))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        if self.waves:
            self.vectors.data = sines(*self.vectors.shape[1:3]).to(self.vectors)
        else:
            nn.init.trunc_normal_(self.vectors, std=0.02)

    def forward(self, h: int, w: int) -> Tensor:
        """(1, D, h, w)."""
        return F.interpolate(self.vectors, size=(h, w), mode="bilinear", align_corners=False)


def sines(d: int, grid: int) -> Tensor:
    """(1, D, G, G): half sines and cosines of rows and columns, wavelengths from the whole side down to three cells."""
    count = -(-d // 4)
    lengths = grid * (3 / grid) ** torch.linspace(0, 1, count)
    phase = 2 * torch.pi / lengths[:, None] * (torch.arange(grid) + 0.5)  # (count, G)
    along = torch.cat([torch.sin(phase), torch.cos(phase)]) / 2  # (2 count, G)
    rows, columns = along[:, :, None].expand(-1, -1, grid), along[:, None].expand(-1, grid, -1)
    return torch.stack([rows, columns], 1).flatten(0, 1)[None, :d]


def mlp(i: int, hidden: int, o: int) -> nn.Sequential:
    """(..., I) -> (..., O) through ``hidden`` channels."""
    return nn.Sequential(nn.Linear(i, hidden), nn.GELU(), nn.Linear(hidden, o))


def split(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, n, N, D / n)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """(B, n, N, D / n) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(2)


def as_tokens(grid: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h w, D)."""
    return grid.flatten(2).transpose(1, 2)


def as_grid(tokens: Tensor, h: int, w: int) -> Tensor:
    """(B, h w, D) -> (B, D, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, (h, w))
