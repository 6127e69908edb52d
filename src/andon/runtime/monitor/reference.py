"""How good photographs look: what the line's photographs are compared with.

Taken at the fit and kept in the manifest, or learned from the first photographs of the line. The grey picture comes from
other photographs than the numbers do (those that the detector was fitted on): a photograph lies nearer to a mean that it
is part of.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from andon.errors import DataError, ImageError
from andon.image import decode
from andon.runtime.monitor.appearance import NAMES, SIDE, Grey, appearance

if TYPE_CHECKING:
    from andon.runtime.predictor import Measurement

PICTURED = 16  # photographs whose mean is the grey picture; fewer than 258, so that their sum fits 16 bits
MEASURED = 128  # good photographs whose numbers are kept
MANIFEST_KEY = "appearance"


@dataclass
class Picture:
    """The sum of the small grey pictures of some photographs, (64, 64) uint16."""

    total: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.uint16))
    count: int = 0

    def learn(self, grey: Grey) -> None:
        """Add one, unless there are enough."""
        if self.count < PICTURED:
            self.total = self.total + np.clip(np.rint(grey), 0, 255).astype(np.uint16)
            self.count += 1

    def grey(self) -> Grey | None:
        """Their mean, or None while there are too few."""
        return (self.total / self.count).astype(np.float32) if self.count >= PICTURED else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"count": self.count, "total": base64.b64encode(self.total.astype("<u2").tobytes()).decode()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Picture:
        """What :meth:`to_dict` wrote. Raises KeyError, TypeError or ValueError on anything else."""
        total = np.frombuffer(base64.b64decode(content["total"], validate=True), "<u2")
        return cls(total.reshape(SIDE, SIDE).astype(np.uint16), int(content["count"]))


@dataclass(frozen=True)
class Reference:
    """The numbers of good photographs by their names, and a grey picture of others."""

    values: Mapping[str, Sequence[float]]
    picture: Picture

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "values": {name: list(values) for name, values in self.values.items()},
            "picture": self.picture.to_dict(),
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Reference | None:
        """The reference in an artefact's manifest; None where it has none. Raises :class:`DataError`."""
        content = manifest.get(MANIFEST_KEY)
        if content is None:
            return None
        try:
            values = {name: [float(value) for value in content["values"][name]] for name in NAMES}
            return cls(values, Picture.from_dict(content["picture"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the detector's record of how good photographs look is damaged ({error!r}). Fit it again."
            ) from error


class ReferenceMaker:
    """Makes a reference in passing, shown the measurement of each good photograph that the detector was not fitted on.

    ``picture``: of photographs that it was fitted on; with too few of them there is no reference.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.rows: list[dict[str, float]] = []

    @classmethod
    def from_fitted(cls, paths: Sequence[Path], *, white_level: int = 65535) -> ReferenceMaker:
        """One that begins with the picture of some of the photographs at ``paths``; unreadable ones are passed over."""
        picture = Picture()
        for path in [paths[index * len(paths) // PICTURED] for index in range(PICTURED)] if paths else []:
            try:
                picture.learn(appearance(decode(path, white_level=white_level).pixels)[1])
            except ImageError:
                continue  # said already, where it was to be fitted on
        return cls(picture)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ReferenceMaker:
        """One that keeps the picture in ``manifest`` and takes new numbers."""
        reference = Reference.from_manifest(manifest)
        return cls(reference.picture if reference else Picture())

    def __call__(self, measured: Measurement) -> None:
        """Take the numbers of this good photograph, unless there are enough."""
        grey = self.picture.grey()
        if grey is not None and len(self.rows) < MEASURED:
            self.rows.append(appearance(measured.photo.pixels, grey)[0])

    def manifest_entry(self) -> dict[str, Any]:
        """The manifest's part that holds the reference; empty where there is none."""
        values = {name: [row[name] for row in self.rows] for name in NAMES}
        return {MANIFEST_KEY: Reference(values, self.picture).to_dict()} if self.rows else {}
