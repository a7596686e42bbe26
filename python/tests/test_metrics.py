"""`--metrics-port`: what Prometheus is told is what is in the lake."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx
from api import Api, serving
from broker import Broker
from lakebed.spark.cluster import free_ports
from lakehouse import Lakehouse
from prometheus_client.parser import text_string_to_metric_families
from pulls import Pull, order
from streams import Stream, send


def scrape(port: int, ready: str) -> dict[tuple[str, ...], float]:
    """All samples, by name and labels, as soon as there is one called `ready`."""
    deadline = time.monotonic() + 30
    while True:
        found = {}
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", verify=False).text
        except httpx.TransportError:
            text = ""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                found[(sample.name, *labels)] = sample.value
        if any(name == ready for name, *_ in found):
            return found
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


def test_a_stream(broker: Broker, tmp_path: Path) -> None:
    clicks = broker.topic("clicks")
    bodies = [*[json.dumps({"id": n}) for n in range(20)], "{}", "{}", "{broken"]
    send(broker, clicks, [("k", body) for body in bodies])
    stream = Stream(
        Lakehouse(tmp_path), broker, {clicks: {"table": "web__clicks", "required": ["id"]}}
    )
    (port,) = free_ports(1)
    process = stream.start("--metrics-port", str(port))
    try:
        found = scrape(port, "records_processed_total")
        second = stream.start("--metrics-port", str(port))
        output = second.communicate(timeout=60)[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert found["records_processed_total", "web", "web__clicks"] == 20
    assert found["dlq_messages_total", "schema", "web", "web__clicks"] == 2
    assert found["dlq_messages_total", "malformed", "web", "web__clicks"] == 1
    assert found["schema_violations_total", "web"] == 2
    assert found["ingestion_batches_total", "web"] == 1
    assert 0 <= found["ingestion_lag_seconds", "web"] < 60
    assert "ingestion_lag_records" in {name for name, *_ in found}
    # A port that is taken is a mistake in one line.
    assert second.returncode == 1
    assert f"--metrics-port {port}: Address already in use." in output


def test_a_pull(tmp_path: Path) -> None:
    with serving(Api([order(number) for number in range(25)], faults=["500", "500"])) as api:
        pull = Pull(Lakehouse(tmp_path), api, "cursor")
        (port,) = free_ports(1)
        process = pull.start("--every", "60", "--metrics-port", str(port))
        try:
            while api.good < 3:
                time.sleep(0.05)
            found = scrape(port, "records_processed_total")
            while found["records_processed_total", "shop", "shop__orders"] < 25:
                found = scrape(port, "records_processed_total")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert found["ingestion_errors_total", "shop"] == 2
