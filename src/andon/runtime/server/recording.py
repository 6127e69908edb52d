"""Verdicts into a station's records, as the operators' page keeps them. Needs the extra ``records``."""

from __future__ import annotations

import logging
from pathlib import Path

from andon.errors import AndonError
from andon.records import ArtifactName, open_records
from andon.runtime.server.shelf import Shelved
from andon.types import Verdict

LOG = logging.getLogger("andon.serve")
WHO = "andon serve"


class Recorder:
    """Adds verdicts to the records at ``where``; see :func:`andon.records.open_records`. From several threads at once."""

    def __init__(self, where: str, pictures: Path | None = None) -> None:
        self._records = open_records(where, pictures=pictures)
        try:
            self._session = self._records.unattended(WHO)
        except AndonError:
            self._records.close()
            raise

    def add(
        self,
        shelved: Shelved,
        verdict: Verdict,
        group: str | None,
        image: bytes | None,
        overlay: bytes | None,
    ) -> int | None:
        """The record's number; None where it cannot be written, which the log says: the verdict stands all the same.

        ``image``: the file's bytes, ``overlay``: its heatmap as PNG; None where they are not to be kept.
        """
        artifact = ArtifactName(shelved.name, shelved.sha256)
        try:
            return self._records.add(
                self._session, verdict, artifact, image_name=verdict.path, image=image, overlay=overlay, group=group or ""
            )  # fmt: skip
        except AndonError as error:
            LOG.error("a verdict of %s is not in the records: %s", shelved.name, error)
            return None

    def close(self) -> None:
        """Let go of the records."""
        self._records.close()
