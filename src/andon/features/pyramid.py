"""A student for any backbone: a small residual network that gives every layer's channels at that layer's stride.

Letters: B images, C channels of a layer, H and W the image, h and w a layer's grid, k halvings so far.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from andon.features.pdn import centred, halvings, on_grid
from andon.features.student import ConvNorm, Residual, Stage
from andon.features.trunk import LayerInfo

WIDEST = 8  # channels double at each halving after the second, up to so many times the first ones


class PyramidStudent(nn.Module):
    """images (B, 3, H, W) in [0, 1] -> {layer: (B, C, about H / stride, about W / stride)}, linear.

    ``width`` channels at strides 2 and 4, then twice as many at each halving; ``blocks`` residual blocks before each
    layer's output and after each halving beyond stride 2. With ``width=64, blocks=2``: ResNet18's.

    >>> student = PyramidStudent({"a": LayerInfo(16, 4), "b": LayerInfo(24, 8)}, width=4, blocks=1)
    >>> import torch
    >>> {layer: tuple(f.shape) for layer, f in student.eval()(torch.zeros(1, 3, 64, 96)).items()}
    {'a': (1, 16, 16, 24), 'b': (1, 24, 8, 12)}
    """

    def __init__(self, layers: Mapping[str, LayerInfo], width: int, blocks: int) -> None:
        super().__init__()
        self.names = tuple(layers)
        stages, heads = [], []
        i, k = 3, 0
        for info in layers.values():
            stage: list[nn.Module] = []
            if i == 3 and halvings(info.stride) == 0:  # on the image's own grid
                stage, i = [ConvNorm(3, width, 1, norm=True), nn.ReLU()], width
            elif halvings(info.stride) <= k:  # deeper on the same grid
                stage = [Residual(i, norm=True) for _ in range(blocks)]
            while k < halvings(info.stride):
                k += 1
                o = width * min(2 ** max(k - 2, 0), WIDEST)
                stage.append(Stage(i, o, blocks if k > 1 else 0, norm=True))
                i = o
            stages.append(nn.Sequential(*stage))
            heads.append(nn.Conv2d(i, info.channels, 1))
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{layer: (B, C, h, w)}."""
        x, features = centred(images), {}
        for name, stage, head in zip(self.names, self.stages, self.heads, strict=True):
            x = stage(x)
            features[name] = head(x)
        return features


def on_grids(features: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``features`` of a student, each brought to the grid that its layer has in ``like``."""
    return {
        name: on_grid(value, (int(like[name].shape[2]), int(like[name].shape[3])))
        for name, value in features.items()
    }
