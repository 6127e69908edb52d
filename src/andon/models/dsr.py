"""DSR: an image painted from its codes, and from the codes a good part would have: where the two pictures differ.

Zavrtanik, Kristan, Skočaj 2022, DSR - A dual subspace re-projection network for surface anomaly detection
(arXiv:2208.01521).

    1. autoencoder   10 l2(I, G(Q)) + 0.25 (l2(F_lo, Q_lo) + l2(F_hi, Q_hi));  the codes K_lo, K_hi follow F
    2. restriction   l2(S_lo(A_lo), Q_lo) + l2(S_hi(A_hi), Q_hi) + 10 l2(I, D(q(S(A)))) + focal(M, M_a)     (eq. 2 to 4)
    3. upsampling    focal(M, U(D, G, M_a)) on images with smudges of one colour
    score            max of (M_a * f),  f a mean over pixels (``score="peak"``);  map = U(D, G, M_a)

The image score here is how unusual U * f is at its most unusual place (:mod:`andon.features.unusual`).

Letters: I a good image, F its features on two grids (lo 1/8 of the image, hi 1/4), Q = q(F) the nearest codes of the
books K, M a mask of Perlin noise, A the codes Q with others put in where M is, S the subspace restriction modules, D the
object-specific decoder, G the general one, M_a what the anomaly detection module makes of (D, G), U the upsampling module.
A code put in is drawn by its rank among the codes nearest to F: beyond the nearest 5 %, up to a share lambda_s ~ U(0.2, 1)
drawn for each image (eq. 1; the figures are those of the authors' code, as are the weights of the losses).

Differences from the paper: the autoencoder is not trained on ImageNet, but on drawn textures and the good images, half
and half, or taken from an earlier fit (``pretrained``); it, its books and all modules are far smaller (``width``,
``dimensions`` 128, ``codes`` 4096, ``segment_width`` 64 in the paper), because they run on CPUs; the object-specific
decoder is a U-Net without skips and then the general decoder's form; one logit in place of two under a softmax, which
begins by expecting nothing; the upsampling module answers what is to be added to M_a's log-odds, at first nothing; f is
over 9 x 9 pixels (the code: 21 x 21, of images of 256), at the border over those that exist; good images are not turned
unless ``rotation`` says so (the code: 90 degrees, four images in ten); far fewer steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.planting import as_images, numpy_generator, plant, random_masks, turn
from andon.features.textures import DRAWN, TextureSource
from andon.features.unet import UNet, expect_nothing, falling, focal_loss, require_size, smooth
from andon.features.vqvae import COMMITMENT, Codebook, QuantisedAutoencoder, picture_decoder, sized
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

IMAGE_WEIGHT = 10.0  # of the images' l2: the authors' code
STRENGTH = (0.2, 1.0)  # lambda_s
TOO_NEAR = 0.05  # share of the nearest codes that are not put in: the authors' code
TURNED = 0.4  # share of the images that are turned where `rotation` is not 0: the authors' code
SHARES = (0.45, 0.4, 0.15)  # of the steps, for the three phases


class DSR(ReconstructingDetector):
    """Scores by two decoders of quantised features, one of which has only ever painted good parts. Gives its picture.

    ``width`` channels of the autoencoder, ``dimensions`` of a code, ``codes`` a book, ``residuals`` blocks a part;
    ``segment_width`` channels of the finest level where pictures are compared; ``levels`` of the restriction (comparing
    has one more); ``textures`` "drawn" or a folder of pictures; ``pretrained`` an artefact of DSR (.andon), or the state
    in one (.safetensors), whose autoencoder is taken over, the first phase left out; ``rotation`` degrees by which good
    images may be turned; ``score``: "unusual" or "peak" (above); ``smoothing`` pixels: the side of f. ``steps`` are those of all phases together, 9 : 8 : 3.
    """

    title = "DSR"
    paper = "Zavrtanik, Kristan, Skočaj 2022, DSR - A dual subspace re-projection network for surface anomaly detection"  # fmt: skip
    quantises = True

    def __init__(
        self,
        width: int = 32,
        dimensions: int = 16,
        codes: int = 256,
        residuals: int = 2,
        segment_width: int = 8,
        levels: int = 3,
        textures: str | os.PathLike[str] = DRAWN,
        pretrained: str | os.PathLike[str] | None = None,
        rotation: float = 0.0,
        smoothing: int = 9,
        steps: int = 1000,
        batch_size: int = 4,
        learning_rate: float = 1e-3,
        seed: int = 0,
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.width, self.dimensions = whole("width", width, 1), whole("dimensions", dimensions, 1)
        self.codes, self.residuals = whole("codes", codes, 2), whole("residuals", residuals)
        self.segment_width, self.levels = whole("segment_width", segment_width, 1), whole("levels", levels, 1)
        self.textures = os.fspath(textures)
        self.pretrained = None if pretrained is None else os.fspath(pretrained)
        self.rotation, self.smoothing = number("rotation", rotation), whole("smoothing", smoothing, 1)
        self.steps, self.batch_size = whole("steps", steps, 3), whole("batch_size", batch_size, 1)
        self.learning_rate, self.seed = number("learning_rate", learning_rate), whole("seed", seed)
        self._source = TextureSource(textures)
        self.autoencoder = QuantisedAutoencoder(width, dimensions, codes, residuals)
        self.restrict_lo, self.restrict_hi = (self._funnel(dimensions, dimensions) for _ in range(2))
        self.repaint = nn.Sequential(
            self._funnel(2 * dimensions, width), picture_decoder(width, width, residuals)
        )
        compared = [min(2**level, 4) * segment_width for level in range(levels + 1)]
        self.detect = UNet(6, 1, compared, skips=True, norm=nn.InstanceNorm2d)
        self.refine = UNet(7, 1, compared, skips=True, norm=nn.InstanceNorm2d)
        self.reset()

    def _funnel(self, i: int, o: int) -> UNet:
        """A U-Net without skips, as wide as what it takes."""
        return UNet(i, o, [2**level * i for level in range(self.levels)], skips=False, norm=nn.InstanceNorm2d)

    def draw(self) -> None:
        """Draw the weights and codes anew; the autoencoder's are ``pretrained``'s where it is given."""
        redraw(self.autoencoder, *self._second(), self.refine)
        expect_nothing(self.detect)
        for parameter in self.refine.out.parameters():
            nn.init.zeros_(parameter)
        if self.pretrained is not None:
            take_over(self.autoencoder, Path(self.pretrained))

    def _second(self) -> list[nn.Module]:
        return [self.restrict_lo, self.restrict_hi, self.repaint, self.detect]

    def look(self, images: Tensor) -> None:
        """Refuse images too small to be halved so often."""
        require_size(images, 2 ** (self.levels + 3))

    # Learning

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The losses of the three phases together, (). Training takes them one after the other."""
        return self.autoencoder_loss(images) + self.restriction_loss(images) + self.upsampling_loss(images)

    def phases(self) -> Sequence[Phase | Look]:
        """The three phases of Adam, without the first where the autoencoder was given; then a look at what is usual."""
        second = [parameter for network in self._second() for parameter in network.parameters()]
        found = [
            ("autoencoder", self.autoencoder_loss, list(self.autoencoder.parameters())),
            ("restriction", self.restriction_loss, second),
            ("upsampling", self.upsampling_loss, list(self.refine.parameters())),
        ]
        shares = list(SHARES)
        if self.pretrained is not None:
            found, shares = found[1:], shares[1:]
        ends = [round(self.steps * sum(shares[:n]) / sum(shares)) for n in range(len(shares) + 1)]
        training = (
            Phase(name, end - start, (Turn(loss, learned, adam(self.learning_rate)),), falling)
            for (name, loss, learned), start, end in zip(found, ends, ends[1:], strict=False)
        )
        return (*training, *self.looks())

    def autoencoder_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The first phase's, (); every other image gives way to a texture."""
        size, rng = (int(images.shape[2]), int(images.shape[3])), numpy_generator()
        shown = images.clone()
        for number_ in range(0, len(images) - 1, 2):
            shown[number_] = as_images(self._source.draw(rng, size)[None]).to(images)[0]
        with learning(self.autoencoder):
            apart, from_codes = self.autoencoder.loss(shown)
        return IMAGE_WEIGHT * apart + COMMITMENT * from_codes

    def restriction_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The second phase's, ()."""
        good = turn(images, self.rotation, TURNED)
        mask = random_masks(numpy_generator(), good)
        q_lo, q_hi, a_lo, a_hi, truth = self._anomalous_codes(good, mask)
        with torch.no_grad():
            general = self.autoencoder.picture(a_lo, a_hi, good)
        with learning(*self._second()):
            s_lo, s_hi = self.restrict_lo(a_lo), self.restrict_hi(a_hi)
            special = self._repainted(s_lo, s_hi, good)
            found = self.detect(_compared(special.detach(), general))
        restored = F.mse_loss(s_lo, q_lo) + F.mse_loss(s_hi, q_hi) + IMAGE_WEIGHT * F.mse_loss(special, good)
        return restored + focal_loss(found, truth)

    def upsampling_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The third phase's, ()."""
        spoiled, mask = plant(turn(images, self.rotation, TURNED), None)
        with torch.no_grad():
            special, general = self.pictures(spoiled)
            coarse = self.detect(_compared(special, general))
        with learning(self.refine):
            return focal_loss(self.refined(special, general, coarse), mask)

    @torch.no_grad()
    def _anomalous_codes(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Q_lo, Q_hi, A_lo, A_hi, and where A differs as seen on its grids: (B, 1, H, W).

        Half of the images are spoiled on both grids, the others on one.
        """
        net = self.autoencoder
        e_hi, z_lo = net.encode(images)
        q_lo = net.lo(z_lo)
        z_hi = net.fine(e_hi, q_lo)
        q_hi = net.hi(z_hi)
        both, lo = (torch.randint(2, (2, len(images), 1, 1, 1)) > 0).to(images.device)
        lo, hi = lo | both, ~lo | both
        on_lo, on_hi = on_grid(mask & lo, z_lo), on_grid(mask & hi, z_hi)
        a_lo = torch.where(on_lo, random_codes(net.lo, z_lo, on_lo), q_lo)
        below = torch.where(both, net.fine(e_hi, a_lo), z_hi)
        a_hi = torch.where(on_hi, random_codes(net.hi, below, on_hi), torch.where(both, net.hi(below), q_hi))
        size = (int(images.shape[2]), int(images.shape[3]))
        seen = [F.interpolate(grid.float(), size=size, mode="nearest") for grid in (on_lo, on_hi)]
        return q_lo, q_hi, a_lo, a_hi, torch.maximum(*seen)

    # Scoring

    def _repainted(self, s_lo: Tensor, s_hi: Tensor, like: Tensor) -> Tensor:
        """D: the picture of the codes nearest to what the restriction modules answered."""
        net = self.autoencoder
        return sized(self.repaint(net.join(net.lo(s_lo), net.hi(s_hi))), like)

    def pictures(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """D and G: what a good part's codes, and the images' own, are painted as, (B, 3, H, W) each."""
        q_lo, q_hi = self.autoencoder.quantised(images)
        special = self._repainted(self.restrict_lo(q_lo), self.restrict_hi(q_hi), images)
        return special, self.autoencoder.picture(q_lo, q_hi, images)

    def refined(self, special: Tensor, general: Tensor, coarse: Tensor) -> Tensor:
        """The log-odds of the map U, from D, G and the log-odds of M_a: (B, 1, H, W)."""
        correction: Tensor = self.refine(_compared(special, general, coarse.sigmoid()))
        return coarse + correction

    def left_over(self, images: Tensor) -> Tensor:
        """U * f."""
        return smooth(self._maps(images)[0], self.smoothing)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U and M_a, each (B, 1, H, W), and D."""
        special, general = self.pictures(images)
        coarse = self.detect(_compared(special, general))
        return self.refined(special, general, coarse).sigmoid(), coarse.sigmoid(), special

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and the object-specific decoder's picture."""
        self.require_fitted()
        require_images(images)
        anomaly_map, coarse, special = self._maps(images)
        image_score = self.image_score(*(smooth(found, self.smoothing) for found in (anomaly_map, coarse)))
        return Scores(anomaly_map, image_score, special.clamp(0, 1))


def _compared(*pictures: Tensor) -> Tensor:
    """What the U-Nets see: pictures and maps side by side, about 0."""
    return torch.cat(pictures, 1) - 0.5


def on_grid(mask: Tensor, like: Tensor) -> Tensor:
    """``mask`` (B, 1, H, W) bool on the grid of ``like``: (B, 1, h, w) bool, true where any of its pixels is."""
    grid: Tensor = F.adaptive_max_pool2d(mask.float(), (int(like.shape[2]), int(like.shape[3]))) > 0
    return grid


def random_codes(book: Codebook, z: Tensor, where: Tensor) -> Tensor:
    """Codes of anomalies (B, D, h, w), zero unless ``where`` (B, 1, h, w); z (B, D, h, w) as they are near to it.

    Eq. 1: each is one of the nearest to z, from a rank of 5 % of the book on, up to lambda_s of it.
    """
    count = len(book.codes)
    strength = STRENGTH[0] + (STRENGTH[1] - STRENGTH[0]) * torch.rand(len(z), device=z.device)
    image = where[:, 0].nonzero()[:, 0]  # (N,), the image of each place
    least = int(TOO_NEAR * count)
    most = (strength[image] * count).int().clamp(least + 1, count)
    rank = least + (torch.rand(len(image), device=z.device) * (most - least)).long()
    order = book.distances(z.permute(0, 2, 3, 1)[where[:, 0]]).argsort(1)
    codes = torch.zeros_like(z).permute(0, 2, 3, 1).contiguous()
    codes[where[:, 0]] = book.codes[order.gather(1, rank[:, None])[:, 0]]
    return codes.permute(0, 3, 1, 2)


def take_over(autoencoder: QuantisedAutoencoder, path: Path) -> None:
    """Load the autoencoder's weights and codes out of DSR's artefact or state at ``path``.

    Raises :class:`SettingsError` when there is none of these widths.
    """
    from safetensors.torch import load

    from andon.artifact import STATE, read_artifact

    if not path.is_file():
        raise SettingsError(f"pretrained must be a file (.andon or .safetensors), there is none at {path}")
    content = read_artifact(path).members[STATE] if path.suffix == ".andon" else path.read_bytes()
    prefix = "autoencoder."
    found = {
        name.removeprefix(prefix): value for name, value in load(content).items() if name.startswith(prefix)
    }
    own = autoencoder.state_dict()
    if {name: value.shape for name, value in found.items()} != {n: value.shape for n, value in own.items()}:
        raise SettingsError(
            f"{path} does not hold DSR's autoencoder of this width, dimensions, codes and residuals: use the settings "
            "that it was fitted with"
        )
    autoencoder.load_state_dict(found)
