"""Federated fitting: plants that share a detector, not images.

``sites`` answer questions about their own images, ``rounds`` asks them and merges what they say, ``wire`` turns states
into bytes and back, ``checkpoint`` keeps a stopped server's rounds. Flower is one way to the sites (``flower_server``,
``flower_client``), this process another (:class:`InProcess`).
"""

from andon.federated.rounds import InProcess, default_aggregate, run
from andon.federated.sites import Site, sites_of_folders
from andon.federated.types import (
    Aggregate,
    Channel,
    Contribution,
    LocalTraining,
    Outcome,
    Plan,
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
    "Plan",
    "Question",
    "Refused",
    "Release",
    "Reply",
    "Report",
    "Site",
    "SiteCalibration",
    "default_aggregate",
    "run",
    "sites_of_folders",
]
