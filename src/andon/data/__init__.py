"""Images on disk -> samples, splits, masks and batches. No torch.

``layouts`` reads public data sets and plain folders, ``split`` makes the disjoint sets, ``masks`` reads annotations,
``loader`` makes batches, ``check`` looks for what is wrong, ``fetch`` downloads, ``synthetic`` draws.
"""

from andon.data.check import CheckReport, check, format_check
from andon.data.layouts import LAYOUTS, Layout, detect_layout, read_samples
from andon.data.listing import list_images
from andon.data.loader import batches
from andon.data.masks import anomaly_mask, read_channels
from andon.data.split import NominalSplit, split_nominal

__all__ = [
    "LAYOUTS",
    "CheckReport",
    "Layout",
    "NominalSplit",
    "anomaly_mask",
    "batches",
    "check",
    "detect_layout",
    "format_check",
    "list_images",
    "read_channels",
    "read_samples",
    "split_nominal",
]
