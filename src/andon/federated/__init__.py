"""Federated fitting: plants that share a detector, not images.

``sites`` answer questions about their own images, ``rounds`` asks them and merges what they say, ``wire`` turns states
into bytes and back, ``checkpoint`` keeps a stopped server's rounds. Flower is one way to the sites (``flower_server``,
``flower_client``), this process another (:class:`InProcess`).
``partitions`` divide a data set among sites, ``comparing`` fits them alone, together and in one place, ``fairness`` weighs them.
"""

from andon.federated.comparing import cells_of, compare
from andon.federated.fairness import Spread, pareto, spread_of, weighted, weights_by
from andon.federated.partition_files import read_partition, write_folders, write_partition
from andon.federated.partitions import Partition, Recipe, Share, draw_partition
from andon.federated.rounds import InProcess, default_aggregate, run
from andon.federated.sites import Site, sites_of_folders
from andon.federated.types import (
    Aggregate,
    Channel,
    Contribution,
    LocalTraining,
    Outcome,
    Plan,
    Privacy,
    Question,
    Refused,
    Release,
    Reply,
    Report,
    SiteCalibration,
)

__all__ = [
    "Aggregate",
    "Channel",
    "Contribution",
    "InProcess",
    "LocalTraining",
    "Outcome",
    "Partition",
    "Plan",
    "Privacy",
    "Question",
    "Recipe",
    "Refused",
    "Release",
    "Reply",
    "Report",
    "Share",
    "Site",
    "SiteCalibration",
    "Spread",
    "cells_of",
    "compare",
    "default_aggregate",
    "draw_partition",
    "pareto",
    "read_partition",
    "run",
    "sites_of_folders",
    "spread_of",
    "weighted",
    "weights_by",
    "write_folders",
    "write_partition",
]
