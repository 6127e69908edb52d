"""PatchCore: a memory bank of patches of good images; the distance to it is the anomaly.

K. Roth, L. Pemula, J. Zepeda, B. Schölkopf, T. Brox, P. Gehler, "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022. Implemented: locally aware patch features (eq. 1 to 3), the coreset-reduced memory bank
(eq. 5, Algorithm 1), the image score (eq. 6 and 7), the anomaly map (section 3.3).

What we do differently:

- Channels are joined as they are; the paper pools each patch to 1,024 of them first.
- The coreset is exact (the same centres as Algorithm 1), so there is no random projection. Its first centre is the
  patch farthest along a random direction, so that the order of the images does not matter.
- ``bank_limit`` caps the bank, because the bank is what a prediction waits for; and while observing, at most
  ``buffer_limit`` patches are held: a full buffer is thinned out by the same coreset. From then on a patch is held only
  if it lies farther from every centre kept than the last of these lay from the others when it was taken: all nearer ones
  are covered as well as the buffer is. So a stream is thinned out a few times, not once a buffer, as in the doubling
  algorithm (M. Charikar, C. Chekuri, T. Feder, R. Motwani, "Incremental Clustering and Dynamic Information Retrieval",
  STOC 1997), whose distance only ever grows (docs/scale.md has what it costs in coverage and accuracy).
- Eq. 7 is kept as printed, exponentials of unscaled distances. The authors' code leaves it out (score = s*). With b
  neighbours, m* among them, the factor lies between 1 - 1/b and 1. ``neighbours=1`` switches it off.
- A patch's nearest row is looked for in two stages; rarely, another row that is nearly as near is found. ``search="exact"``
  finds the nearest always.
- ``dimensions`` above 0 compares patches along so many principal directions of the bank, and by nothing else.

``odd_patches`` above 0 makes it SoftPatch (X. Jiang et al., "SoftPatch: Unsupervised Anomaly Detection with Noisy Data",
NeurIPS 2022), for good images among which there may be bad ones. Each patch gets a weight W, its local outlier factor
among the patches at the same place of the other images (Breunig et al. 2000, definition 7; section 3 of SoftPatch); the
share of patches with the largest weights is discarded before the coreset is taken; and a distance counts as many times
as the weight of the row of the bank that it leads to: W_m* |m_test - m*| in eq. 6 and in the map. Patches that are
thinned out are weighed first, among those that came since the last time, so all of them are held until then. Where two
rows of the bank are equally near, the last bit decides whose weight counts.

Letters: B images, N patches held, M rows of the bank, D dimensions, P = h w patches an image, b neighbours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from andon.errors import ArtifactError, DataError, NotFittedError, SettingsError
from andon.features.neighbours import greedy_k_centre, nearest, principal_axes
from andon.features.oddness import oddness
from andon.features.patches import aggregate, join, joined_channels, to_map
from andon.features.two_stage import TwoStageSearch
from andon.models.base import Detector, Progress, Scores, State
from andon.models.checks import fraction, number, one_of, open_backbone, require_images, share, whole

SEARCHES = ("two_stage", "exact")


class PatchCore(Detector):
    """Scores by the distance of each patch to the nearest patch of good images.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones).
    ``coreset_fraction``: share of all patches seen that the memory bank keeps, at most ``bank_limit`` rows.
    ``neighbours``: b of eq. 7. ``blur_sigma``: of the map, in pixels of the input; 0 for none.
    ``buffer_limit``: patches held while observing (4 D bytes each). ``seed``: of the coreset's first centre.
    ``dimensions``: principal directions of the bank along which patches are compared; 0, or D and more: all there are.
    ``search``: "two_stage": rows are named by a product of 8-bit numbers, exact distances decide among three of them
    (:mod:`andon.features.two_stage`); "exact": by a product of floats.
    ``odd_patches``: share of the patches that are discarded as odd, for sets that are not clean; 0: PatchCore as it is.
    """

    title = "PatchCore"
    paper = "Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection"
    memory_bank: Tensor  # (M, D) float32
    support: Tensor  # (M, b) int64: for each row of the bank, the rows nearest to it, itself first
    bank_weights: Tensor | None  # (M,) float32: W of each row; None without odd_patches
    axes: Tensor | None  # (D, d) float32: the directions along which patches are compared; None for all

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        coreset_fraction: float = 0.1,
        bank_limit: int = 2000,
        neighbours: int = 9,
        blur_sigma: float = 4.0,
        buffer_limit: int = 200_000,
        seed: int = 0,
        odd_patches: float = 0.0,
        dimensions: int = 0,
        search: str = "two_stage",
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.coreset_fraction = fraction("coreset_fraction", coreset_fraction)
        self.bank_limit = whole("bank_limit", bank_limit, 1)
        self.neighbours = whole("neighbours", neighbours, 1)
        self.blur_sigma = number("blur_sigma", blur_sigma)
        self.buffer_limit = whole("buffer_limit", buffer_limit, 2)
        self.seed = whole("seed", seed)
        self.odd_patches = share("odd_patches", odd_patches)
        if self.odd_patches == 1:
            raise SettingsError("odd_patches must be a share below 1: with 1 no patch is left for the bank")
        if self.buffer_limit < 2 * self.bank_limit:
            raise SettingsError(
                f"buffer_limit must be at least twice bank_limit ({self.bank_limit}), got {self.buffer_limit}"
            )
        self.dimensions = whole("dimensions", dimensions)
        self.search = one_of("search", search, SEARCHES)
        self.two_stage = TwoStageSearch()
        columns = joined_channels(self.backbone, self.layers)
        self.register_buffer("memory_bank", torch.empty(0, columns))
        self.register_buffer("support", torch.empty(0, 0, dtype=torch.int64))
        self.register_buffer("bank_weights", torch.empty(0) if self.odd_patches else None)
        along = torch.empty(columns, 0) if 0 < self.dimensions < columns else None
        self.register_buffer("axes", along)
        self._forget()

    def _forget(self) -> None:
        self._buffer = torch.empty(0, self.memory_bank.shape[1])  # on the CPU; its first _held rows count
        self._places = torch.empty(0, dtype=torch.int64)  # of each row, the number of its place in the grid
        self._weights = torch.empty(0)  # of each row, W; 0 where it is not known yet
        self._held = self._images_seen = self._patches_seen = 0
        self._cover(0)

    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""
        self._forget()
        self.memory_bank, self.support = self.memory_bank[:0], self.support[:0, :0]
        if self.bank_weights is not None:
            self.bank_weights = self.bank_weights[:0]
        if self.axes is not None:
            self.axes = self.axes[:, :0]
        self.two_stage.forget()

    def patches(self, images: Tensor) -> Tensor:
        """Locally aware patch features (B, D, h, w) of ``images`` (B, 3, H, W): eq. 1 to 3."""
        features = self.backbone(images)
        return join({layer: aggregate(features[layer]) for layer in self.layers}, self.layers)

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Hold the patches of nominal ``images``. A full buffer is thinned out at a fixed count of patches, so the
        result does not depend on how the images were batched."""
        require_images(images)
        rows = self.patches(images).float().permute(0, 2, 3, 1).flatten(0, 2).cpu()  # (B P, D)
        self._images_seen += len(images)
        self._patches_seen += len(rows)
        places = torch.arange(len(rows) // len(images)).repeat(len(images))
        self._hold(rows, places, torch.zeros(len(rows)))

    def _hold(self, rows: Tensor, places: Tensor, weights: Tensor) -> None:
        if not len(self._buffer):  # whole at once: what was never written takes no memory
            self._buffer = torch.empty(self.buffer_limit, rows.shape[1])
            self._places = torch.empty(self.buffer_limit, dtype=torch.int64)
            self._weights = torch.empty(self.buffer_limit)
        while len(rows):
            new = self._uncovered(rows)[: self.buffer_limit - self._held]
            to = slice(self._held, self._held + len(new))
            self._buffer[to], self._places[to], self._weights[to] = rows[new], places[new], weights[new]
            self._held = to.stop
            if self._held < self.buffer_limit:
                break
            self._thin_out()
            after = int(new[-1]) + 1
            rows, places, weights = rows[after:], places[after:], weights[after:]

    def _uncovered(self, rows: Tensor) -> Tensor:
        """Numbers of those of ``rows`` (N, D) that lie farther than ``_reach`` from all centres; of all before there are any."""
        if not self._centres:
            return torch.arange(len(rows))
        device = self.memory_bank.device
        distance, _ = nearest(rows.to(device), self._buffer[: self._centres].to(device))
        return (distance[:, 0] > self._reach).nonzero()[:, 0].cpu()

    def _cover(self, centres: int) -> None:
        """Take the first ``centres`` rows held, in the order chosen, for what new patches are measured against; 0: nothing."""
        self._centres, self._reach = centres, 0.0
        if centres > 1:
            kept = self._buffer[:centres]
            self._reach = float(nearest(kept[-1:], kept[:-1])[0])

    def _thin_out(self) -> None:
        """Keep twice as many patches as the bank may have rows, at most half the buffer: the greedy k-centres."""
        picks, weights = self._coreset(min(self.buffer_limit // 2, 2 * self.bank_limit))
        self._held = len(picks)
        self._buffer[: self._held] = self._buffer[picks]
        self._places[: self._held], self._weights[: self._held] = self._places[picks], weights[picks]
        self._cover(0 if self.odd_patches else self._held)

    def _coreset(self, count: int, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Numbers (at most ``count``,) of the greedy k-centres of the patches held, odd ones left out, and W (N,)."""
        rows, weights = self._buffer[: self._held], self._weights[: self._held]
        sound = torch.arange(self._held)
        if self.odd_patches:
            sound, weights = self._weighed(rows, weights)
            rows = rows[sound]
        centres = min(count, len(rows))
        picks = greedy_k_centre(rows.to(self.memory_bank.device), centres, seed=self.seed, progress=progress)
        return sound[picks.cpu()], weights

    def _weighed(self, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Which of ``rows`` (N, D) are not odd, and W (N,) of all. Those weighed before were found not odd then."""
        new = weights == 0
        weights = weights.clone()
        weights[new] = oddness(rows[new], self._places[: len(rows)][new])
        odd = new.clone()
        odd[new] = weights[new] > torch.quantile(weights[new], 1 - self.odd_patches) if new.any() else False
        return (~odd).nonzero()[:, 0], weights

    def statistics(self) -> State:
        """``patches`` (N, D) float32 held; ``seen`` and ``patches_seen`` () int64, how many images and patches.

        Once thinned out, ``centres`` () int64: so many of the first rows are what new patches are measured against. With
        ``odd_patches`` also ``places`` (N,) int64 in the grid and ``weights`` (N,) float32, 0 where not weighed.
        """
        state = {**self._counts(), "patches": self._buffer[: self._held].clone()}
        if self._centres:
            state["centres"] = torch.tensor(self._centres)
        if not self.odd_patches:
            return state
        notes = {"places": self._places, "weights": self._weights}
        return state | {name: of[: self._held].clone() for name, of in notes.items()}

    def kept_statistics(self) -> State:
        """As :meth:`statistics`, with the memory bank for the patches: it stands for all that were seen."""
        self.require_fitted()
        state = {**self._counts(), "patches": self.memory_bank.cpu().clone()}
        if self.bank_weights is None:
            return state
        rows = len(self.memory_bank)
        return state | {
            "places": torch.zeros(rows, dtype=torch.int64),
            "weights": self.bank_weights.cpu().clone(),
        }

    def _counts(self) -> State:
        return {"seen": torch.tensor(self._images_seen), "patches_seen": torch.tensor(self._patches_seen)}

    def load_statistics(self, state: State) -> None:
        """Take over ``state``; more patches than ``buffer_limit`` are thinned out as in ``observe``.

        Raises :class:`DataError` when its patches have other dimensions, or no weights where odd ones are to be left out.
        """
        patches = state["patches"]
        if patches.ndim != 2 or patches.shape[1] != self.memory_bank.shape[1]:
            raise DataError(
                f"patches must be (N, {self.memory_bank.shape[1]}) with this backbone and these layers, "
                f"got {tuple(patches.shape)}. Use the settings that the state was made with."
            )
        if self.odd_patches and "weights" not in state:
            raise DataError(
                "odd_patches needs the places and weights of the patches, and this state has none. Use the settings that "
                "the state was made with."
            )
        self._forget()
        self._images_seen, self._patches_seen = int(state["seen"]), int(state["patches_seen"])
        places = state.get("places", torch.zeros(len(patches), dtype=torch.int64))
        weights = state.get("weights", torch.zeros(len(patches)))
        self._hold(patches.cpu().float(), places.cpu(), weights.cpu())
        if (
            "centres" in state and not self._centres
        ):  # else these patches were too many, and thinned out again
            self._cover(int(state["centres"]))

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """All patches of all states, one after the other. ``weights`` play no part: patches count for themselves.

        What one state's centres cover another's may not: the merged one has none until it is thinned out itself.
        """
        rows = [name for name in ("patches", "places", "weights") if name in states[0]]
        return {
            **{name: torch.cat([state[name] for state in states]) for name in rows},
            "seen": sum((state["seen"] for state in states), torch.tensor(0)),
            "patches_seen": sum((state["patches_seen"] for state in states), torch.tensor(0)),
        }

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Reduce the patches held to the memory bank (eq. 5). ``held_out`` is not looked at."""
        if not self._held:
            raise NotFittedError(
                "PatchCore has seen no image: show it good images with observe() before close()"
            )
        wanted = math.ceil(self.coreset_fraction * self._patches_seen)
        picks, weights = self._coreset(min(wanted, self.bank_limit, self._held), progress)
        bank = self._buffer[picks]
        self.memory_bank = bank.to(self.memory_bank.device)
        if self.bank_weights is not None:
            self.bank_weights = weights[picks].to(self.bank_weights.device)
        if self.axes is not None:
            self.axes = principal_axes(self.memory_bank, self.dimensions)
        compared = self._compared(self.memory_bank)
        self.support = nearest(compared, compared, min(self.neighbours, len(bank)))[1]
        self._prepare_search()

    def _prepare_search(self) -> None:
        if self.search == "two_stage":
            self.two_stage.prepare(self._compared(self.memory_bank))

    def load_fitted_state(self, state: State) -> None:
        """Take over ``state``, as :meth:`fitted_state` gave it to a detector of the same settings.

        Raises :class:`ArtifactError` when it is another method's, or its bank has other dimensions.
        """
        columns = self.memory_bank.shape[1]
        if "memory_bank" in state and state["memory_bank"].shape[1:] != (columns,):
            raise ArtifactError(
                f"memory_bank must be (M, {columns}) with this backbone and these layers, "
                f"got {tuple(state['memory_bank'].shape)}. Use the settings that the state was made with."
            )
        super().load_fitted_state(state)
        self._prepare_search()

    @property
    def is_fitted(self) -> bool:
        """Whether there is a memory bank."""
        return self.memory_bank.shape[0] > 0

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): distances in feature space."""
        self.require_fitted()
        require_images(images)
        patches = self.patches(images)
        h, w = int(patches.shape[2]), int(patches.shape[3])
        rows = self._compared(patches.permute(0, 2, 3, 1).flatten(0, 2))  # (B P, D)
        bank = self._compared(self.memory_bank)
        search = self.two_stage if self.two_stage.ready else nearest
        distance, index = search(rows, bank)  # (B P, 1) each
        if self.bank_weights is not None:
            distance = distance * self.bank_weights[index]
        grid = distance.reshape(-1, h * w)
        image_score = self._image_score(
            rows.reshape(-1, h * w, rows.shape[1]), bank, grid, index.reshape(-1, h * w)
        )
        size = (int(images.shape[2]), int(images.shape[3]))
        anomaly_map = to_map(grid.reshape(-1, 1, h, w), size, self.blur_sigma)
        return Scores(anomaly_map, image_score, nearest=index.reshape(-1, h, w))

    def _compared(self, rows: Tensor) -> Tensor:
        """``rows`` (N, D) along the directions that count (N, d)."""
        return rows if self.axes is None else rows @ self.axes

    @torch.no_grad()
    def bank_sources(self, batches: Iterable[Tensor]) -> Tensor:
        """(M, 4) float32: for each row of the bank, the patch of these images that is nearest to it.

        Its own source where that is among them. Raises :class:`DataError` without a batch.
        """
        self.require_fitted()
        best = torch.full((len(self.memory_bank), 1), torch.inf)
        sources = torch.zeros(len(self.memory_bank), 4)
        number = -1
        for number, images in enumerate(batches):
            patches = self.patches(images).float()
            h, w = int(patches.shape[2]), int(patches.shape[3])
            distance, index = nearest(self.memory_bank, patches.permute(0, 2, 3, 1).flatten(0, 2))
            image, place = index[:, 0] // (h * w), index[:, 0] % (h * w)
            found = torch.stack([torch.full_like(image, number), image, place // w, place % w], dim=1).float()
            found[:, 2:] = (found[:, 2:] + 0.5) / torch.tensor([h, w])
            sources = torch.where(distance < best, found, sources)
            best = torch.minimum(distance, best)
        if number < 0:
            raise DataError("bank_sources needs at least one batch of images")
        return sources

    def _image_score(self, rows: Tensor, bank: Tensor, grid: Tensor, index: Tensor) -> Tensor:
        """s (B,) of eq. 7 from patches (B, P, D), the bank (M, D), distances (B, P) and nearest rows of the bank (B, P).

        s* = max over patches of the distance to the bank, of the patch m_test to its nearest row m* (eq. 6);
        s = (1 - exp |m_test - m*| / sum over m in N_b(m*) of exp |m_test - m|) s*. The grid may be weighted; |.| is not.
        """
        s_star, peak = grid.max(dim=1, keepdim=True)  # (B, 1)
        if self.support.shape[1] == 1:
            return s_star[:, 0]
        m_test = rows.gather(1, peak[:, :, None].expand(-1, 1, rows.shape[2]))  # (B, 1, D)
        near = bank[self.support[index.gather(1, peak)[:, 0]]]  # (B, b, D): N_b(m*)
        distances = torch.linalg.vector_norm(m_test - near, dim=2)  # (B, b)
        least = distances.amin(1, keepdim=True)  # |m_test - m*|
        quotient = 1 / torch.exp(distances - least).sum(1).clamp(min=1)
        return (1 - quotient) * s_star[:, 0]
