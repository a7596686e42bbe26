"""What a sidecar has done, for Prometheus: `--metrics-port`.

Numbers are of this process, since its start; asking for them does not touch the lake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from lakebed.errors import UserError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from lakebed.ingest.records import Entity, Record, Rejected


@dataclass
class Meter:
    """Counts of one stream. `lag_seconds`: how old the newest record of the last batch was when it
    was in the lake; None before, and for records without a time. `freshness_seconds`: how old the
    oldest record of the last build was when its models were built; `oldest` the time of the oldest
    record that is not built, seconds since 1970."""

    rows: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    schema_changes: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    lag_seconds: float | None = None
    builds: Counter[str] = field(default_factory=Counter)
    build_seconds: float | None = None
    freshness_seconds: float | None = None
    oldest: float | None = None

    def written(
        self, rows: Mapping[Entity, Sequence[Record]], rejected: Sequence[Rejected]
    ) -> None:
        """A batch is in the lake."""
        if not rows and not rejected:
            return  # only a position
        self.batches += 1
        for entity, records in rows.items():
            self.rows[entity.table] += len(records)
        for each in rejected:
            self.refused[each.table, each.category] += 1
        times = [record.sent_at for held in rows.values() for record in held if record.sent_at]
        if times:
            now = datetime.now(timezone.utc).timestamp()
            self.lag_seconds = max(0.0, now - max(times) / 1000)
            self.put_oldest(min(times) / 1000)

    @property
    def building(self) -> str:
        """For a line of status."""
        if not self.builds:
            return ""
        text = f", {self.builds.total()} builds ({self.builds['failure']} failed)"
        if self.freshness_seconds is not None:
            text += f", readable after {self.freshness_seconds:.1f} s"
        return text

    def put_oldest(self, time: float | None) -> None:
        """A record of that time waits to be built."""
        if time is not None:
            self.oldest = time if self.oldest is None else min(self.oldest, time)

    def take_oldest(self) -> float | None:
        """The oldest record that waits; from now on none does."""
        oldest, self.oldest = self.oldest, None
        return oldest

    def built(self, good: bool, seconds: float, oldest: float | None) -> None:
        """A build has ended, whose oldest new record was of that time."""
        self.builds["success" if good else "failure"] += 1
        self.build_seconds = seconds
        if good and oldest is not None:
            now = datetime.now(timezone.utc).timestamp()
            self.freshness_seconds = max(0.0, now - oldest)


@contextmanager
def serving(
    port: int | None,
    stream: str,
    meter: Meter,
    tries: Callable[[], int],
    lag: Callable[[], int] | None = None,
) -> Iterator[None]:
    """Answer http://127.0.0.1:<port>/metrics meanwhile; None: do not. `tries` counts failed ones,
    `lag` the records that the source has and the lake has not. Raises UserError for a port that
    is taken."""
    if port is None:
        with nullcontext():
            yield
        return
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    from lakebed.ingest.records import CATEGORIES

    class Reading(Collector):
        def collect(self) -> Iterable[Metric]:
            rows = CounterMetricFamily(
                "records_processed", "Records written to bronze", labels=["stream", "table"]
            )
            for table, count in meter.rows.items():
                rows.add_metric([stream, table], count)
            yield rows
            refused = CounterMetricFamily(
                "dlq_messages",
                "Records written to the DLQ",
                labels=["stream", "table", "category"],
            )
            # Zeros too: a rate does not see what a series begins with.
            for table in {*meter.rows, *(table for table, _ in meter.refused)}:
                for category in CATEGORIES:
                    count = meter.refused[table, category]
                    refused.add_metric([stream, table, category], count)
            yield refused
            violations = CounterMetricFamily(
                "schema_violations", "Records that broke their schema", labels=["stream"]
            )
            broken = sum(n for (_, kind), n in meter.refused.items() if kind == "schema")
            violations.add_metric([stream], broken)
            yield violations
            changes = CounterMetricFamily(
                "schema_changes",
                "Fields and types that were new in records of a pull",
                labels=["stream", "table"],
            )
            for table, count in meter.schema_changes.items():
                changes.add_metric([stream, table], count)
            yield changes
            errors = CounterMetricFamily(
                "ingestion_errors", "Tries that failed and were repeated", labels=["stream"]
            )
            errors.add_metric([stream], tries())
            yield errors
            batches = CounterMetricFamily(
                "ingestion_batches", "Transactions of the lake", labels=["stream"]
            )
            batches.add_metric([stream], meter.batches)
            yield batches
            if meter.lag_seconds is not None:
                age = GaugeMetricFamily(
                    "ingestion_lag_seconds",
                    "Age of the newest record of the last batch, when it was in the lake",
                    labels=["stream"],
                )
                age.add_metric([stream], meter.lag_seconds)
                yield age
            if meter.builds:
                builds = CounterMetricFamily(
                    "builds",
                    "Builds of the models that read the stream",
                    labels=["stream", "result"],
                )
                for result in ("success", "failure"):
                    builds.add_metric([stream, result], meter.builds[result])
                yield builds
            for name, what, value in (
                (
                    "processing_duration_seconds",
                    "How long the last build took",
                    meter.build_seconds,
                ),
                (
                    "freshness_lag_seconds",
                    "Age of the oldest record of the last build, when its models were built",
                    meter.freshness_seconds,
                ),
            ):
                if value is not None:
                    gauge = GaugeMetricFamily(name, what, labels=["stream"])
                    gauge.add_metric([stream], value)
                    yield gauge
            if lag is not None:
                behind = GaugeMetricFamily(
                    "ingestion_lag_records",
                    "Records that the source has and the lake has not",
                    labels=["stream"],
                )
                behind.add_metric([stream], lag())
                yield behind

    registry = CollectorRegistry()
    registry.register(Reading())
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise UserError(f"--metrics-port {port}: {error.strerror}.") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
