"""Apache Kafka for tests: one broker (KRaft) from its Maven artifacts, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from lakebed.spark.cluster import free_ports
from lakebed.spark.jars import KAFKA, fetch_packages

SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# A broker that was killed may come back at once.
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
group.min.session.timeout.ms=500
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=100
"""


@dataclass
class Broker:
    """`start`, `kill` (SIGKILL) and `start` again keep the data."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            self.port, controller = free_ports(2)
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = SETTINGS.format(port=self.port, controller=controller, folder=self.folder)
            (self.folder / "server.properties").write_text(settings)
            (self.folder / "log4j.properties").write_text("log4j.rootLogger=OFF\n")
            cluster = uuid.uuid4().hex[:22]
            self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c").communicate()
        self.process = self._java("kafka.Kafka")
        deadline = time.monotonic() + 60
        while True:
            try:
                self.admin().list_topics(timeout=2)
                return
            except KafkaException:
                assert self.process.poll() is None, (self.folder / "out.log").read_text()[-3000:]
                assert time.monotonic() < deadline, "Kafka does not answer"

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        jars = fetch_packages(KAFKA, "Kafka")
        with (self.folder / "out.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *("java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                    *("-cp", os.pathsep.join(map(str, jars)), main, *arguments),
                    str(self.folder / "server.properties"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def topic(self, name: str, partitions: int = 1, **config: str) -> str:
        """Make a topic; its name gets a suffix, so that tests do not share it."""
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        new = NewTopic(
            unique, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()}
        )
        admin = self.admin()  # a name: its requests end with it
        admin.create_topics([new])[unique].result(20)
        return unique

    def grow(self, topic: str, partitions: int) -> None:
        admin = self.admin()
        admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)

    def delete(self, topic: str) -> None:
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(20)
