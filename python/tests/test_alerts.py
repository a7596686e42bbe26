"""alerts/lakebed.yml: Prometheus loads it, it fires when it should, its metrics are exported."""

from __future__ import annotations

import re
import shutil
import subprocess
from urllib.request import urlopen

import pytest
from lakebed.ingest.metrics import Meter, serving
from lakebed.spark.cluster import free_ports
from lakehouse import REPO
from prometheus_client.parser import text_string_to_metric_families

ALERTS = REPO / "alerts"
METRIC = re.compile(r"\b[a-z]+(?:_[a-z]+)*_(?:total|seconds|records)\b")


@pytest.mark.parametrize(
    "command", [("check", "rules", "lakebed.yml"), ("test", "rules", "lakebed_test.yml")]
)
def test_prometheus_agrees(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("No promtool here (Debian's package prometheus has it).")
    done = subprocess.run([promtool, *command], cwd=ALERTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_alerts_is_exported() -> None:
    meter = Meter(batches=1, lag_seconds=1.0, build_seconds=1.0, freshness_seconds=1.0)
    meter.rows["clicks"] = 3
    meter.builds["failure"] = 1
    (port,) = free_ports(1)
    with serving(port, "web", meter, lambda: 0, lambda: 5):
        text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    exported = {sample.name for m in text_string_to_metric_families(text) for sample in m.samples}
    rules = (ALERTS / "lakebed.yml").read_text("utf-8")
    named = set(METRIC.findall(rules))
    assert len(named) > 6
    assert named <= exported
    # A rate sees the first record in the DLQ only if there was a zero before.
    assert 'dlq_messages_total{category="malformed",stream="web",table="clicks"} 0.0' in text
    assert 'builds_total{result="success",stream="web"} 0.0' in text
