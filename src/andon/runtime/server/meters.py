"""What Prometheus may know: decisions, times, what is in flight, what was refused, which artefacts are in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from andon.runtime.server.gate import Gate
from andon.runtime.server.shelf import Change, Shelf

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meters:
    """The meters of one server, in a registry of their own."""

    def __init__(self, shelf: Shelf, gate: Gate) -> None:
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
