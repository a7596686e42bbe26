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
    was in the lake; None before, and for records without a time."""

    rows: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    batches: int = 0
    lag_seconds: float | None = None

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
            for (table, category), count in meter.refused.items():
                refused.add_metric([stream, table, category], count)
            yield refused
            violations = CounterMetricFamily(
                "schema_violations", "Records that broke their schema", labels=["stream"]
            )
            broken = sum(n for (_, kind), n in meter.refused.items() if kind == "schema")
            violations.add_metric([stream], broken)
            yield violations
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
