"""An autoencoder whose features are words of two codebooks, one for a coarse and one for a fine grid.

Razavi, van den Oord, Vinyals 2019, Generating Diverse High-Fidelity Images with VQ-VAE-2 (arXiv:1906.00446), in the
form that DSR gives it (Zavrtanik, Kristan, Skočaj 2022, arXiv:2208.01521, section 3.1).

    q(z)  = the nearest code of z;  forwards q, backwards as if q(z) = z            (straight through)
    n_k   = 0.9 n_k + 0.1 (number of z nearest to code k)                          (codes follow their features)
    s_k   = 0.9 s_k + 0.1 (their sum),   code k = s_k / n_k

Letters: B images, C ``width``, D ``dimensions`` of a code, K codes a book; lo the grid at 1/8 of the image, hi at 1/4;
e features, z what is quantised, q quantised.

Differences, for few steps: convolutions and what is quantised are batch-normalised; beside the fine encoder and the
decoder stands one linear map of 4 x 4 pixels, which learns in tens of steps what they learn in hundreds; a code that is
hardly used any more is put onto a feature drawn from the batch (Dhariwal et al. 2020, Jukebox, arXiv:2005.00341, section
3.1), which also sets all codes in the first step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.unet import conv, raised

DECAY = 0.9  # 0.99 in DSR's code, for a thousand times the steps
COMMITMENT = 0.25  # the weight that keeps features near their codes: DSR's code
DEAD = 0.1  # a code nearest to fewer features than this a step is put elsewhere


class Codebook(nn.Module):
    """K codes of D numbers, (K, D), and the nearest of them to each feature."""

    codes: Tensor  # (K, D)
    counts: Tensor  # (K,), n
    sums: Tensor  # (K, D), s

    def __init__(self, count: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(count, dimensions))
        self.register_buffer("counts", torch.zeros(count))
        self.register_buffer("sums", torch.zeros(count, dimensions))

    def reset_parameters(self) -> None:
        """Codes drawn at random, all of them unused."""
        self.codes = torch.randn_like(self.codes)
        self.counts, self.sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)

    def distances(self, z: Tensor) -> Tensor:
        """Squared distances (N, K) of features (N, D) to all codes, less each feature's own square."""
        return (self.codes**2).sum(1) - 2 * z @ self.codes.T

    def forward(self, z: Tensor) -> Tensor:
        """q (B, D, h, w) of z (B, D, h, w), straight through."""
        nearest = self.distances(rows(z)).argmin(1)
        q = F.embedding(nearest, self.codes).view(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
        return z + (q - z).detach() if z.requires_grad else q

    @torch.no_grad()
    def follow(self, z: Tensor) -> None:
        """Move the codes towards the features z (B, D, h, w) that are nearest to them."""
        found = rows(z)
        nearest = self.distances(found).argmin(1)
        count = torch.bincount(nearest, minlength=len(self.codes)).to(self.counts)
        total = torch.zeros_like(self.sums).index_add_(0, nearest, found)
        self.counts = DECAY * self.counts + (1 - DECAY) * count
        self.sums = DECAY * self.sums + (1 - DECAY) * total
        dead = self.counts < DEAD
        drawn = found[torch.randint(len(found), (len(dead),)).to(found.device)]
        self.counts = torch.where(dead, torch.ones_like(self.counts), self.counts)
        self.sums = torch.where(dead[:, None], drawn, self.sums)
        self.codes = self.sums / self.counts[:, None]


class QuantisedAutoencoder(nn.Module):
    """Images (B, 3, H, W) -> codes on two grids -> images. ``residuals`` blocks in each of its three parts."""

    def __init__(self, width: int, dimensions: int, codes: int, residuals: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        self.encode_hi = Beside(nn.Sequential(
            halved(3, half), halved(half, width),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), *residual_stack(width, residuals),
        ), nn.Conv2d(3, width, 4, 4))  # fmt: skip
        self.encode_lo = nn.Sequential(
            halved(width, width), conv(width, width, nn.BatchNorm2d), *residual_stack(width, residuals)
        )
        self.to_lo, self.to_hi = features(width, dimensions), features(width + dimensions, dimensions)
        self.raise_lo = nn.ConvTranspose2d(dimensions, dimensions, 4, 2, 1)
        self.lo, self.hi = Codebook(codes, dimensions), Codebook(codes, dimensions)
        self.decode = picture_decoder(2 * dimensions, width, residuals)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(e_hi, z_lo) of images in [0, 1]: (B, C, H/4, W/4), (B, D, H/8, W/8)."""
        e_hi = self.encode_hi(images - 0.5)
        return e_hi, self.to_lo(self.encode_lo(e_hi))

    def fine(self, e_hi: Tensor, q_lo: Tensor) -> Tensor:
        """z_hi (B, D, H/4, W/4), from e_hi and q_lo."""
        z_hi: Tensor = self.to_hi(self.join(q_lo, e_hi))
        return z_hi

    def join(self, q_lo: Tensor, hi: Tensor) -> Tensor:
        """q_lo brought up, and beside it what is on the fine grid."""
        up = self.raise_lo(q_lo)
        return torch.cat([up if up.shape[2:] == hi.shape[2:] else raised(up, hi), hi], 1)

    def quantised(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(q_lo, q_hi): (B, D, H/8, W/8), (B, D, H/4, W/4)."""
        e_hi, z_lo = self.encode(images)
        q_lo = self.lo(z_lo)
        return q_lo, self.hi(self.fine(e_hi, q_lo))

    def picture(self, q_lo: Tensor, q_hi: Tensor, like: Tensor) -> Tensor:
        """What the decoder paints from the codes, in about [0, 1], of the size of ``like``: (B, 3, H, W)."""
        return sized(self.decode(self.join(q_lo, q_hi)), like)

    def loss(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(l2 between images and their pictures, l2 between features and codes), (); the codes follow."""
        e_hi, z_lo = self.encode(images)
        self.lo.follow(z_lo)
        q_lo = self.lo(z_lo)
        z_hi = self.fine(e_hi, q_lo)
        self.hi.follow(z_hi)
        q_hi = self.hi(z_hi)
        apart = F.mse_loss(z_lo, q_lo.detach()) + F.mse_loss(z_hi, q_hi.detach())
        return F.mse_loss(self.picture(q_lo, q_hi, images), images), apart


def halved(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, h / 2, w / 2), not negative."""
    return nn.Sequential(nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


def features(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, h, w), each channel of mean 0 and variance 1 over what it has seen."""
    return nn.Sequential(nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o, affine=False))


class Beside(nn.Module):
    """What two networks make of the same x, added up."""

    def __init__(self, deep: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.deep, self.linear = deep, linear

    def forward(self, x: Tensor) -> Tensor:
        """deep(x) + linear(x)."""
        answer: Tensor = self.deep(x) + self.linear(x)
        return answer


class Residual(nn.Module):
    """x plus what two convolutions make of it: (B, C, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        self.block = nn.Sequential(
            nn.ReLU(), conv(width, inner, nn.BatchNorm2d), nn.Conv2d(inner, width, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """x + block(x)."""
        answer: Tensor = x + self.block(x)
        return answer


def residual_stack(width: int, count: int) -> list[nn.Module]:
    """``count`` residual blocks, what they leave not negative."""
    return [*(Residual(width) for _ in range(count)), nn.ReLU()]


def picture_decoder(i: int, width: int, residuals: int) -> nn.Module:
    """(B, I, h, w) -> (B, 3, 4 h, 4 w), about 0 where the picture is mid-grey."""
    half = max(width // 2, 1)
    return Beside(nn.Sequential(
        nn.Conv2d(i, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), *residual_stack(width, residuals),
        nn.ConvTranspose2d(width, half, 4, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
        nn.ConvTranspose2d(half, 3, 4, 2, 1),
    ), nn.ConvTranspose2d(i, 3, 4, 4))  # fmt: skip


def sized(painted: Tensor, like: Tensor) -> Tensor:
    """A decoder's answer as an image in about [0, 1] of the size of ``like``."""
    return (painted if painted.shape[2:] == like.shape[2:] else raised(painted, like)) + 0.5


def rows(z: Tensor) -> Tensor:
    """Each position's vector as a row: (B, D, h, w) -> (B h w, D)."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
