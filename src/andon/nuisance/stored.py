"""A detector's zones as its artefact keeps them: in the manifest, and where they follow the part, a member beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from andon.nuisance.align import Aligner
from andon.nuisance.codes import reader
from andon.nuisance.plan import ZonePlan

ALIGNMENT = "alignment.npz"  # the member that finds where a part lies


def stored_plan(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> ZonePlan | None:
    """The zones of an artefact, following the part where it keeps an alignment; None where it has no zones.

    Raises :class:`ArtifactError` where they cannot be read, :class:`MissingExtraError` where they are of codes and what reads
    these is not installed: better now than at the first part.
    """
    plan = ZonePlan.from_manifest(manifest)
    if plan is not None and any(zone.codes for zone in plan.zones):
        reader()
    if plan is None or ALIGNMENT not in members:
        return plan
    return replace(plan, places=Aligner.from_bytes(members[ALIGNMENT]).places)
