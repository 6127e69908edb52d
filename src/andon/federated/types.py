"""What the parts of federated fitting hand to each other.

A *site* is a plant that shows nobody its images. In each round the server asks every site one question; the answers are
contributions, which an aggregate makes one state of. No Flower here, and none in what uses these types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from andon.errors import SettingsError
from andon.image import Preprocessing
from andon.models.base import Detector, Phase, State
from andon.training import Source

QuestionKind = Literal["observe", "train", "finish"]


@dataclass(frozen=True)
class Contribution:
    """One site's answer in one round: its unclosed statistics, and how many images of its own they stand for."""

    site: str
    state: State
    images: int


@dataclass(frozen=True)
class Privacy:
    """What every site promises each of its images, and how: noise on what it sends (`andon.federated.privacy`).

    ``epsilon``, ``delta``: of the whole fit at one site, for adding or removing one image. ``centres``: of a memory bank,
    taken from public images; ``lloyd``: rounds in which they are moved. ``public_images``: drawn ones, from ``public_seed``,
    on which scales and centres are found. ``adders``: sites that each add their part of the noise, sound only where the
    server sees nothing but their sum (secure aggregation); 1: each site's answer is private by itself. ``clip``: of an
    image's gradient in private training. Raises :class:`SettingsError` for values that make no sense.
    """

    epsilon: float
    delta: float = 1e-5
    centres: int = 512
    lloyd: int = 1
    public_images: int = 32
    public_seed: int = 0
    adders: int = 1
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.epsilon <= 1e4 and 0 < self.delta < 1 and self.clip > 0):
            raise SettingsError(
                "epsilon must lie above 0 and at most at 10,000, delta between 0 and 1, clip above 0; got epsilon="
                f"{self.epsilon!r}, delta={self.delta!r}, clip={self.clip!r}"
            )
        for name in ("centres", "lloyd", "public_images", "adders"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)!r}")


# The contributions of one round, sorted by site -> one state. What is robust, private or fair about a federation.
Aggregate = Callable[[Sequence[Contribution]], State]
# Called at a site on what is about to leave it, for noise or masks that the server must not be trusted with.
Release = Callable[[Contribution], Contribution]
# One round of training at a site: the detector with the state of all sites, the site's own images, this round's part of a
# phase, and a seed that is new in every round. Changes the detector in place.
LocalTraining = Callable[[Detector, Source, Phase, int], None]


@dataclass(frozen=True)
class Plan:
    """What all sites fit together, and how. The server sets it; each site gets it with every question.

    Raises :class:`SettingsError` for values that make no sense.
    """

    method: str = "patchcore"
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the method, as for `andon.models.build`
    size: tuple[int, int] = (256, 256)  # (H, W) of the network's input, the same at every site
    resize: Literal["stretch", "letterbox"] = "stretch"
    rounds: int = 1  # of each training phase; closed-form methods take one, whatever is said here
    proximal: float = 0.0  # mu of FedProx (Li et al. 2020, eq. 2); 0 is FedAvg
    site_rows: int | None = (
        None  # rows of a memory bank that each site sends at most; None: its own whole bank
    )
    weigh_equally: bool = False  # sites count alike in the mean, not by their images
    target_rate: float = 0.01  # false alarms that each site asks for
    confidence: float = 0.95
    min_sites: int = 1  # answers without which a round is given up
    timeout: float = 600.0  # seconds that a round waits
    seed: int = 0
    privacy: Privacy | None = None  # what sites promise each of their images; None: they send what they found
    rule: Literal["mean", "trimmed-mean", "median", "krum"] = "mean"  # how sites' answers become one
    bad: int = 1  # sites that may be wrong, for the rules that reckon with such

    def __post_init__(self) -> None:
        for name in ("rounds", "min_sites"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("proximal", "timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(f"{name} must be a number of at least 0, got {getattr(self, name)!r}")
        Preprocessing(size=self.size)  # refuses sizes that networks cannot take
        if self.resize not in ("stretch", "letterbox"):
            raise SettingsError(f"resize must be stretch or letterbox in a federation, got {self.resize!r}")
        if self.rule not in ("mean", "trimmed-mean", "median", "krum") or self.bad < 0:
            raise SettingsError(
                "rule must be mean, trimmed-mean, median or krum, and bad at least 0; got "
                f"{self.rule!r} and {self.bad!r}"
            )
        if self.rule != "mean" and self.privacy is not None:
            raise SettingsError(
                "a rule that compares the sites would compare their noise; give privacy or a rule, not both"
            )
        if self.site_rows is not None and self.site_rows < 1:
            raise SettingsError(f"site_rows must be at least 1, got {self.site_rows!r}")


@dataclass(frozen=True)
class Question:
    """What the server asks all sites alike. ``plain`` holds what JSON can hold."""

    kind: QuestionKind
    plan: Plan
    state: State = field(default_factory=dict)  # to go on from; empty in the first round
    plain: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0  # of the round, counted from 1


@dataclass(frozen=True)
class Reply:
    """What one site answered; ``error`` says why there is no state, or is empty."""

    site: str
    state: State = field(default_factory=dict)
    images: int = 0
    plain: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    bytes_up: int = 0  # that travelled to the server
    bytes_down: int = 0  # that travelled to the site


class Channel(Protocol):
    """The way to the sites: in one process, simulated, or over a network."""

    def ask(self, question: Question, timeout: float) -> list[Reply]:
        """What the sites answered within ``timeout`` seconds, sorted by site; a silent site has a reply with ``error``."""
        ...


@dataclass(frozen=True)
class Refused:
    """A site whose answer did not count in a round, and why."""

    site: str
    reason: str


@dataclass(frozen=True)
class Report:
    """How one round went."""

    number: int  # counted from 1
    kind: str  # "observe", "train" or "finish"
    phase: str  # of the training, "" else
    answered: tuple[str, ...]
    refused: tuple[Refused, ...]
    images: Mapping[str, int]  # of each site that answered
    bytes_up: int
    bytes_down: int
    seconds: float


@dataclass(frozen=True)
class SiteCalibration:
    """What a site tells of its own threshold when all is done."""

    site: str
    threshold: float  # raw; nan where it has none
    target_rate: float
    promised_rate: float
    calibration_images: int
    statement: str
    artifact: str = ""  # the file's name at the site; "" where none was asked for


@dataclass(frozen=True)
class Outcome:
    """What a federation made."""

    detector: Detector  # the server's, closed
    state: State  # what every site closed its own detector on
    reports: tuple[Report, ...]
    calibrations: Mapping[str, SiteCalibration]
