"""The report's part on training: the loss curve that the artefact keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from andon.report import figures
from andon.report.content import count, number
from andon.report.figures import Trained


def training(manifest: Mapping[str, object]) -> dict[str, Any]:
    """What the template needs of the manifest's curve: ``loss_figure``, ``loss_alt`` and ``loss_notes``; empty without."""
    fit = manifest.get("fit")
    records = fit.get("curve") if isinstance(fit, Mapping) else None
    records = [record for record in records or [] if record.get("steps")]
    if not records:
        return {"loss_figure": "", "loss_alt": "", "loss_notes": []}
    phases = [_phase(record) for record in records]
    spans = [f"{p.name} from {number(p.curve[0][1])} to {number(p.curve[-1][1])}" for p in phases]
    return {
        "loss_figure": figures.loss_figure(phases),
        "loss_alt": f"Loss over the training steps: {'; '.join(spans)}.",
        "loss_notes": [_note(record) for record in records],
    }


def _phase(record: Mapping[str, Any]) -> Trained:
    curve = list(zip(record["steps"], record["loss"], strict=True))
    return Trained(str(record["phase"]), curve, [(step, loss) for step, loss in record.get("held_out", [])])


def _note(record: Mapping[str, Any]) -> str:
    steps = count(record["done"], "step")
    if record["done"] < record["planned"]:
        steps = f"{record['done']:,} of {count(record['planned'], 'step')}"
    ended = f", as {record['ended']}" if record.get("ended") else ""
    return f"{record['phase']}: {steps} in {record['seconds']:,.0f} s{ended}"
