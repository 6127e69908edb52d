"""What goes into a fit of the page *Teach*, and what comes out of it: photographs, first results, the artefact. No Streamlit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from andon.app.saving import put_in_place, summary
from andon.app.teaching import Fit, discard
from andon.artifact import read_artifact
from andon.data import list_images
from andon.errors import DataError, ImageError
from andon.files import atomic_write
from andon.image import decode
from andon.pipeline.parts import FITTED_ON, short_digest
from andon.records import ArtifactName, Session
from andon.runtime.predictor import Predictor

if TYPE_CHECKING:
    from andon.records import Records

MOST_PHOTOS = 5000  # uploaded for one fit


def keep_photos(
    fit: Fit, uploads: Iterable[tuple[str, bytes]], *, pixels: int, largest: int
) -> tuple[int, list[tuple[str, str]]]:
    """How many of ``uploads`` (name, bytes) are new among the fit's photographs, and (name, reason) of those refused.

    ``pixels`` of one photograph, and ``largest`` bytes of its file, at most. Equal files are kept once.
    """
    there = {path.name[:16] for path in fit.photos.glob("*")} if fit.photos.exists() else set()
    kept, refused = 0, []
    for name, data in uploads:
        digest = hashlib.sha256(data).hexdigest()[:16]
        try:
            if len(there) >= MOST_PHOTOS:
                raise ImageError(
                    f"there are {MOST_PHOTOS:,} photographs; put more into a folder and name that"
                )
            if len(data) > largest:
                raise ImageError(
                    f"the file has {len(data) / 2**20:.0f} MB; at most {largest / 2**20:.0f} are taken"
                )
            decode(data, max_pixels=pixels)
        except ImageError as error:
            refused.append((name, str(error)))
            continue
        if digest not in there:
            with atomic_write(fit.photos / f"{digest}_{_safe(name)}") as file:
                file.write(data)
            there.add(digest)
            kept += 1
    return kept, refused


def _safe(name: str) -> str:
    """The end of a file's name without what could lead out of a folder."""
    path = Path(name.replace("\\", "/"))
    stem = re.sub(r"[^\w-]+", "_", path.stem).strip("_")[:60] or "photo"
    return stem + (path.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", path.suffix) else ".png")


def first_results(fit: Fit, most: int = 6) -> list[Path]:
    """Up to ``most`` photographs of the order's folder that the detector was not fitted on, spread over them all."""
    fitted = set(read_artifact(fit.result).manifest.get("data", {}).get(FITTED_ON, ()))
    new = [
        path
        for path in list_images(Path(fit.order().source).expanduser())
        if short_digest(path) not in fitted
    ]
    return new[:: max(1, len(new) // most)][:most]


def save(
    fit: Fit, artifacts: Path, records: Records, session: Session, why: str, *, replacing: bool = False
) -> Path:
    """The artefact's file beside the others, written down in the records as a new threshold; the fit is removed.

    Raises :class:`DataError` where there is an artefact of this name and it is not to be replaced,
    :class:`AccessError` for who is no engineer, :class:`SettingsError` without a reason.
    """
    target = artifacts / f"{fit.name}.andon"
    artifact = read_artifact(fit.result)
    Predictor(artifact)  # answers its golden input, or is not saved
    if target.exists() and not replacing:
        raise DataError(
            f"there is a {target.name} in {artifacts}: choose to replace it, or teach under another name"
        )
    before: dict[str, Any] = {}
    seen = None
    if target.exists():
        before, seen = summary(read_artifact(target).manifest), ArtifactName.of(target).hash
    put_in_place(target, artifact, records, session, "threshold", before, seen, why)
    discard(fit)
    return target
