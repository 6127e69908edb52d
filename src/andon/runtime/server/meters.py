"""What Prometheus may know: decisions, times, what is in flight, what was refused, which artefacts are in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from andon.runtime.server.drifting import Monitors
from andon.runtime.server.gate import Gate
from andon.runtime.server.shelf import Change, Shelf

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meters:
    """The meters of one server, in a registry of their own."""

    def __init__(self, shelf: Shelf, gate: Gate, monitors: Monitors | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self.inspected = Counter(
            "andon_images",
            "Images by artefact and decision; 'unread' could not be inspected.",
            ["artefact", "decision"],
            registry=registry,
        )
        self.inspection = Histogram(
            "andon_inspection_seconds",
            "From decoding to the verdict, without waiting.",
            ["artefact"],
            buckets=SECONDS,
            registry=registry,
        )
        self.answered = Counter(
            "andon_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.request = Histogram(
            "andon_request_seconds",
            "From a request's first byte to its answer, with its upload and its wait.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "andon_refused", "Requests refused, by the code of the error.", ["code"], registry=registry
        )
        self.changes = Counter(
            "andon_artefact_changes",
            "Artefact files taken into use, or refused.",
            ["kind"],
            registry=registry,
        )
        for name, help_text, value in (
            ("andon_in_flight", "Requests that are held.", lambda: gate.held),
            ("andon_queue", "Images that wait for a thread.", lambda: gate.waiting),
            ("andon_running", "Images that are being inspected.", lambda: gate.running),
        ):
            Gauge(name, help_text, registry=registry).set_function(value)
        registry.register(_ShelfCollector(shelf))
        if monitors is not None:
            registry.register(_DriftCollector(monitors))
        ProcessCollector(registry=registry)

    def count(self, artefact: str, decision: str, milliseconds: float | None = None) -> None:
        """One image has been looked at."""
        self.inspected.labels(artefact, decision).inc()
        if milliseconds is not None:
            self.inspection.labels(artefact).observe(milliseconds / 1000)

    def changed(self, changes: Sequence[Change]) -> None:
        """Artefacts' files have come, changed or gone."""
        for change in changes:
            self.changes.labels(change.kind).inc()


class _ShelfCollector(Collector):
    """Which artefacts are in use, read when Prometheus asks."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "andon_artefact", "1 for each artefact in use.", labels=["artefact", "sha256"]
        )
        since = GaugeMetricFamily(
            "andon_artefact_since_seconds", "When it came into use, seconds since 1970.", labels=["artefact"]
        )
        problem = GaugeMetricFamily(
            "andon_artefact_problem", "1 where its newest file is not in use.", labels=["artefact"]
        )
        for shelved in self._shelf:
            info.add_metric([shelved.name, shelved.sha256], 1)
            since.add_metric([shelved.name], shelved.since)
        for name in sorted({*self._shelf.names, *self._shelf.problems}):
            problem.add_metric([name], float(name in self._shelf.problems))
        yield from (info, since, problem)


class _DriftCollector(Collector):
    """What the monitors say, read when Prometheus asks."""

    def __init__(self, monitors: Monitors) -> None:
        self._monitors = monitors

    def collect(self) -> Iterator[Metric]:
        by = ["artefact", "measure"]
        noticed = GaugeMetricFamily("andon_drift", "1 where the measure was noticed to drift.", labels=by)
        p_value = GaugeMetricFamily(
            "andon_drift_p_value", "Of 'nothing has changed', corrected for all measures.", labels=by
        )
        level = GaugeMetricFamily(
            "andon_drift_level", "The measure's mean of late, in its own unit.", labels=by
        )
        images = GaugeMetricFamily("andon_drift_images", "Images that the monitor has seen.", labels=by[:1])
        for artefact, measures in self._monitors.figures().items():
            for measure, (is_noticed, probability, now) in measures.items():
                noticed.add_metric([artefact, measure], float(is_noticed))
                p_value.add_metric([artefact, measure], probability)
                level.add_metric([artefact, measure], now)
        for artefact, count in self._monitors.images().items():
            images.add_metric([artefact], count)
        yield from (noticed, p_value, level, images)
