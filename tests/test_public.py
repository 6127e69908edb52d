"""What users may rely on: the public names, the commands and their options."""

from __future__ import annotations

import click
import pytest

import andon
from andon.cli import COMMANDS
from andon.cli import andon as program

NAMES = {
    "AndonError", "ArtifactError", "BusyError", "Calibration", "CalibrationError", "DataError", "Evaluation",
    "Failure", "FitOptions", "ImageError", "MetricError", "MissingExtraError", "NotFittedError", "Predictor",
    "Region", "Sample", "SettingsError", "Verdict", "__version__", "fit", "load",
}  # fmt: skip
FEDERATED = {"method", "size", "resize", "rounds", "proximal", "site-rows", "equally", "target-rate", "confidence", "min-sites",
             "timeout", "seed", "set", "resume", "quiet",
             "epsilon", "delta", "centres", "lloyd", "rule", "bad", "check"}  # fmt: skip
OPTIONS = {
    "fit": {"output", "method", "backbone", "size", "resize", "overlap", "tile-scale", "white-level", "limit", "target-rate", "confidence",
            "calibration", "layout", "group-by", "threshold-by", "fall-back", "strict", "latest", "category", "config", "set", "seed", "workers", "minutes",
            "early-stop", "augment", "copies", "device", "precision", "cache-gb", "cache-folder", "int8",
            "keep-patches", "language", "ignore", "align", "print-into", "leave-out", "ray", "shards", "mlflow", "resume", "quiet"},
    "monitor": {"new", "false-alarm", "defect-rate", "language", "json", "output"},
    "inspect": {"csv", "jsonl", "save-maps", "save-raw", "monitor", "explain", "language", "threads", "provider", "precision",
                "quiet"},
    "watch": {"artifact", "out", "store", "only-new", "recursive", "poll", "settle", "patience", "name-pattern", "read-code", "log", "records", "pictures",
              "overlay", "move-to", "monitor", "mqtt", "mqtt-login", "mqtt-ca", "camera", "camera-producer",
              "camera-set", "trigger", "opcua", "modbus", "outbox", "when-full", "language", "threads",
              "once", "quiet"},
    "evaluate": {"maps", "layout", "category", "bootstrap", "seed", "json", "csv", "scores", "html", "threads", "quiet"},
    "calibrate": {"good", "bad", "target-rate", "confidence", "review-rate", "criterion", "required-tpr", "cost-escape",
                  "cost-false-alarm", "cost-review", "defect-rate", "output", "quiet", "ignore", "strict", "extrapolate", "group-by",
                  "fall-back", "review-tpr", "plot"},
    "report": {"output", "title", "language", "quiet"},
    "serve": {"host", "port", "keys", "new-key", "no-keys", "threads", "at-once", "queue", "max-mb", "max-megapixels",
              "max-images", "check-every", "stop-seconds", "monitor", "records", "pictures", "tls-certificate",
              "tls-key", "quiet"},
    "app": {"records", "pictures", "host", "port", "no-login", "language", "threads", "at-once", "max-mb", "max-megapixels",
            "max-images", "shift", "monitor", "bench", "tls-certificate", "tls-key"},
    "annotate": {"output", "format", "shape", "label", "verdict", "threshold", "level", "min-area", "most", "tolerance", "url", "copy",
                 "no-empty", "overwrite", "threads", "quiet"},
    "audit": {"output", "csv", "json", "title", "layout", "category", "size", "folds", "seed", "workers", "quiet"},
    "nuisance show": {"output"},
    "nuisance learn": {"output", "overlay", "align", "times", "limit", "quiet"},
    "data report": {"output", "json", "title", "layout", "category", "limit", "seed", "workers", "quiet"},
    "records verify": {"pictures", "anchor", "no-pictures", "json"},
    "records export": {"pictures", "output", "images", "decision", "verdict", "decided", "artifact", "since", "until"},
    "records prune": {"pictures", "days", "count", "gb", "yes"},
    "records trail": {"pictures", "last"},
    "users add": {"role", "records"},
    "users list": {"records"},
    "users remove": {"records"},
    "users password": {"records"},
    "federate simulate": {*FEDERATED, "output", "ray", "cpus"},
    "federate keys": {"site", "host"},
    "federate server": {*FEDERATED, "keys", "output", "sites", "host", "port"},
    "federate site": {"output", "keys", "server", "work", "port", "patience", "epsilon", "delta"},
    "federate partition": {"by", "output", "sites", "alpha", "modes", "shift", "strength", "seed", "layout", "plot", "write", "quiet"},
    "federate compare": {"output", "method", "seeds", "size", "rounds", "proximal", "weights", "no-weights", "q", "target-rate",
                         "confidence", "set", "quiet"},
    "bench run": {"data", "out", "layout", "category", "method", "seeds", "variant", "size", "backbone", "minutes", "limit", "set",
                  "jobs", "threads", "timeout", "ray", "dry-run", "quiet"},
    "bench report": {"output", "markdown", "latex", "csv", "json", "holm", "no-published"},
}  # fmt: skip


def test_public_names() -> None:
    assert set(andon.__all__) == NAMES
    assert {name for name in NAMES if not hasattr(andon, name)} == set()
    assert dir(andon) == sorted(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'andon' has no attribute 'nothing'"):
        andon.nothing  # noqa: B018


def test_every_error_is_an_andon_error() -> None:
    errors = [getattr(andon, name) for name in NAMES if name.endswith("Error")]
    assert len(errors) == 10
    assert all(issubclass(error, andon.AndonError) for error in errors)


def command(name: str) -> click.Command:
    found: click.Command = program
    for word in name.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """An option that comes or goes is a decision: change this table with it."""
    found = {
        opt.lstrip("-")
        for p in command(name).params
        if isinstance(p, click.Option)
        for opt in p.opts
        if opt.startswith("--")
    }
    assert found == OPTIONS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    """Every command says what it does, and those with arguments or options give an example or say the default."""
    found = command(name)
    text = found.get_help(click.Context(found, info_name=f"andon {name}"))
    assert found.help
    if any(isinstance(p, click.Argument) for p in found.params) and name != "show":
        assert "Example" in text or isinstance(found, click.Group)
