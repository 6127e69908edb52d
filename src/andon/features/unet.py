"""U-Nets for images of any size, how they learn to find small things, and the score of what they find.

Ronneberger, Fischer, Brox 2015, U-Net (arXiv:1505.04597), with padded convolutions and a normalisation; Lin, Goyal,
Girshick, He, Dollár 2017, Focal Loss for Dense Object Detection (arXiv:1708.02002).

Letters: B images, H and W the image, h and w the grid of a level, I and O channels into and out of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError

Norm = Callable[[int], nn.Module]  # channels -> a normalisation
FOCAL_GAMMA = 2.0  # the focal loss' exponent: the paper's choice
RARE = math.log(0.01 / 0.99)  # log-odds that a pixel is anomalous before anything was learnt


class UNet(nn.Module):
    """(B, I, H, W) -> (B, O, H, W). One level for each of ``widths``, its channels; every level halves the grid.

    ``skips``: whether the way up sees the levels of the way down. Without them all passes through the coarsest
    grid. Going up, the convolution comes before the interpolation, on the coarser grid: a quarter of the work.
    """

    def __init__(
        self, i: int, o: int, widths: Sequence[int], *, skips: bool, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.skips = skips
        finer, coarser = list(widths[:-1]), list(widths[1:])
        self.down = nn.ModuleList(pair(a, b, norm) for a, b in zip([i, *finer], widths, strict=True))
        self.up = nn.ModuleList(conv(b, a, norm) for a, b in zip(finer, coarser, strict=True))
        self.join = nn.ModuleList(pair(a * (1 + skips), a, norm) for a in finer)
        self.out = nn.Conv2d(widths[0], o, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers to ``x`` (B, I, H, W)."""
        levels = [self.down[0](x)]
        for down in list(self.down)[1:]:
            levels.append(down(F.max_pool2d(levels[-1], 2)))
        y = levels.pop()
        for up, join in zip(list(self.up)[::-1], list(self.join)[::-1], strict=True):
            beside = levels.pop()
            y = raised(up(y), beside)
            y = join(torch.cat([y, beside], 1) if self.skips else y)
        answer: Tensor = self.out(y)
        return answer


def conv(i: int, o: int, norm: Norm) -> nn.Module:
    """(B, I, h, w) -> (B, O, h, w): a 3x3 convolution, normalised, not negative."""
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), norm(o), nn.ReLU())


def pair(i: int, o: int, norm: Norm) -> nn.Module:
    """(B, I, h, w) -> (B, O, h, w): two of :func:`conv`."""
    return nn.Sequential(conv(i, o, norm), conv(o, o, norm))


def raised(x: Tensor, like: Tensor) -> Tensor:
    """``x`` brought up bilinearly to the grid of ``like``."""
    size = (int(like.shape[2]), int(like.shape[3]))
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def focal_loss(logits: Tensor, anomaly_mask: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """The mean over all pixels, (), of  - (1 - p)^gamma log p  (Lin et al., eq. 4, without weights of the classes).

    p is the probability given to the truth. ``logits`` (B, 1, H, W): log-odds that a pixel is anomalous;
    ``anomaly_mask`` (B, 1, H, W) bool, or 0 and 1.

    >>> focal_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) / torch.log(torch.tensor(2.0))
    tensor(0.2500)
    """
    towards = torch.where(anomaly_mask > 0.5, logits, -logits)  # log-odds of the truth
    return ((1 - towards.sigmoid()) ** gamma * -F.logsigmoid(towards)).mean()


def smooth(anomaly_map: Tensor, side: int) -> Tensor:
    """The means over ``side`` x ``side`` pixels of a map (B, 1, H, W), at the border over the pixels that exist.

    The same size where ``side`` is odd, else one pixel more a side.
    """
    return F.avg_pool2d(anomaly_map, side, stride=1, padding=side // 2, count_include_pad=False)


def falling(done: float) -> float:
    """The factor of the learning rate: 1, a fifth after 80 % of a phase, a 25th after 90 %.

    As in the code of DRAEM and of DSR's last phase.
    """
    return 1.0 if done < 0.8 else 0.2 if done < 0.9 else 0.04


def expect_nothing(network: UNet) -> None:
    """Set the bias of what ``network`` answers so that a pixel is anomalous with probability 0.01 to begin with.

    Lin et al., section 4.1: else the first steps are spent on learning that most pixels are nominal.
    """
    nn.init.constant_(network.out.bias, RARE)  # type: ignore[arg-type]


def require_size(images: Tensor, least: int) -> None:
    """Raise :class:`SettingsError` unless both sides of ``images`` (B, 3, H, W) are at least ``least`` pixels."""
    height, width = int(images.shape[2]), int(images.shape[3])
    if min(height, width) < least:
        raise SettingsError(
            f"the networks need images of at least {least} x {least} pixels, got {height} x {width}. Choose a "
            "larger size, or fewer levels."
        )
