"""The nearest row of a bank in two stages: products of 8-bit numbers name a few rows, exact distances decide among them.

The product of all queries with all rows is what a search costs, and processors multiply 8-bit integers several times as fast
as floats. So in the first stage everything is rounded to whole steps, and |b|^2 / 2 - x b is computed in integers:

    q(x) = round((x - m) / s) in -128..127,  q(b) = round((b - m) / t) in -63..63
    remoteness = round(|b - m|^2 / 2 s t) - q(x) q(b)

m is the bank's mean, s and t the steps with which its largest number is 127 and 63. The rows are cut into G groups; the least remote row of each of
the ``CANDIDATES`` least remote groups is looked at in the second stage, in floats and along all dimensions. So a distance is that of a
row of the bank, never less than the least one, and the same where the nearest row is among those named.

Rows have 7 bits and not 8, so that pairs of products fit into the 16 bits in which processors without VNNI add them. The first term
is part of the product: queries have further columns of 127 and 1, rows its digits there.

Letters: Q queries, M rows of D dimensions, K columns of the product, G groups of rows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.neighbours import CHUNK

CANDIDATES = 3  # groups from which a row is looked at exactly
LEAST = 256, 32  # rows and dimensions: where there are fewer of either, an exact search takes no longer
QUERY, ROW = 127, 63  # the largest whole numbers of each
ZERO = 128  # what stands for 0 in a query's bytes


class TwoStageSearch(nn.Module):
    """Distances (Q, 1) and indices (Q, 1) of the rows found for queries (Q, D), as :func:`andon.features.neighbours.nearest` gives them.

    :meth:`prepare` takes the bank; nothing of it is part of a state. PyTorch multiplies floats on whole steps, which is no faster;
    of the ONNX graph, ONNX Runtime and OpenVINO multiply bytes, where the processor can.
    """

    middle: Tensor  # m: (D,) float32
    step: Tensor  # s: () float32
    zero: Tensor  # () uint8: what stands for 0 in a query's bytes
    row_step: Tensor  # t: () float32
    row_zero: Tensor  # () int8: 0
    further: Tensor  # (1, K - D) float32: a query's further columns
    table: Tensor  # (K, G size) int8: the rows, negative, with their further columns

    def __init__(self) -> None:
        super().__init__()
        for name in ("middle", "step", "zero", "row_step", "row_zero", "further", "table"):
            self.register_buffer(name, torch.empty(0), persistent=False)
        self.groups = 0

    @property
    def ready(self) -> bool:
        """Whether there is a bank to search, large enough for two stages to pay."""
        return self.groups > 0

    def forget(self) -> None:
        """As just built."""
        self.groups = 0

    def prepare(self, bank: Tensor) -> None:
        """Take over ``bank`` (M, D); a smaller one than ``LEAST`` is not taken."""
        self.forget()
        if len(bank) < LEAST[0] or bank.shape[1] < LEAST[1]:
            return
        rows = bank.detach().cpu().double()
        middle = rows.mean(0)
        rows = rows - middle
        largest = float(rows.abs().max().clamp(min=1e-12))
        numbers = (rows / (largest / ROW)).round()
        half = (rows.square().sum(1) / 2 / (largest / ROW * largest / QUERY)).round()
        digits, weights = _digits(half)
        table = torch.cat([-numbers, digits], 1)
        groups = math.ceil(math.sqrt(len(table)))
        filling = table[-1:].expand(-len(table) % groups, -1)  # the last row once more
        self.middle = middle.float()
        self.step, self.row_step = torch.tensor(largest / QUERY), torch.tensor(largest / ROW)
        self.zero, self.row_zero = torch.tensor(ZERO, dtype=torch.uint8), torch.tensor(0, dtype=torch.int8)
        self.further = (weights * (largest / QUERY)).float()[None]
        self.table = torch.cat([table, filling]).T.contiguous().to(torch.int8)
        self.to(bank.device)
        self.groups = groups

    def forward(self, query: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """What was found in ``bank`` (M, D), the one that was prepared. Long queries go in parts (in the ONNX graph at once)."""
        if torch.compiler.is_exporting():
            return self._search(query, bank)
        parts = query.split(max(1, CHUNK // self.table.shape[1]))
        distances, indices = zip(*(self._search(part, bank) for part in parts), strict=True)
        return torch.cat(distances), torch.cat(indices)

    def _search(self, query: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        table = self._remoteness(query).reshape(query.shape[0], self.groups, -1)  # (Q, G, size)
        best = table.amin(2).topk(CANDIDATES, dim=1, largest=False, sorted=False).indices  # (Q, c)
        places = torch.arange(query.shape[0], device=query.device)[:, None] * self.groups + best
        index = best * table.shape[2] + F.embedding(places, table.flatten(0, 1)).argmin(2)
        index = index.clamp(max=bank.shape[0] - 1)
        distance = torch.linalg.vector_norm(query[:, None] - F.embedding(index, bank), dim=2)
        which = distance.argmin(1, keepdim=True)
        return distance.gather(1, which), index.gather(1, which)

    def _remoteness(self, query: Tensor) -> Tensor:
        """(Q, M and filling), in s t, or in the ONNX graph times s t."""
        columns = torch.cat([query - self.middle, self.further.expand(query.shape[0], -1)], 1)
        if not torch.compiler.is_exporting():
            numbers = (columns / self.step).round().clamp(-ZERO, QUERY)
            return numbers @ self.table.to(columns.dtype)
        numbers = _on_steps(columns, self.step, self.zero)
        rows = _onnx("DequantizeLinear", self.table, self.row_step, self.row_zero, torch.float32)
        return numbers @ rows


def _on_steps(x: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """``x`` rounded to whole steps, by way of bytes."""
    return _onnx(
        "DequantizeLinear", _onnx("QuantizeLinear", x, step, zero, torch.uint8), step, zero, torch.float32
    )


def _onnx(operator: str, x: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """An operator of ONNX that PyTorch has none for."""
    from torch.onnx.ops import symbolic

    return symbolic(operator, (x, scale, zero), dtype=dtype, shape=x.shape)


def _digits(values: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (M,) from 0 on as digits (M, n) of 0 to 63, and their weights (n,), each 127 or 1.

    >>> digits, weights = _digits(torch.tensor([0.0, 130.0, 9000.0]))
    >>> (digits @ weights).tolist()
    [0.0, 130.0, 9000.0]
    """
    found, weights, left = [], [], values.clone()
    for _ in range(math.ceil(float(values.max()) / (QUERY * ROW))):
        found.append((left / QUERY).floor().clamp(max=ROW))
        weights.append(float(QUERY))
        left -= QUERY * found[-1]
    for _ in range(2):  # what is left is below 127
        found.append(left.clamp(max=ROW))
        weights.append(1.0)
        left -= found[-1]
    return torch.stack(found, 1), torch.tensor(weights, dtype=values.dtype)
