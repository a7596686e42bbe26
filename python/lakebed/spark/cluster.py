"""A Spark cluster on this machine, from the pyspark package: what the target `spark` talks to.

A standalone master, its workers, and one driver that answers SQL (Thrift, for dbt) and Python
(Spark Connect, for Python models) at once, so that both see one metastore.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from lakebed.errors import UserError
from lakebed.spark.settings import (
    NOT_INSTALLED,
    check_java,
    driver_settings,
    format_of_lake,
    lake_settings,
    remove_torn_tables,
    spark_jars,
    warehouse,
)

STATE = "cluster.json"
HOST = "127.0.0.1"
#: Seconds until the driver must answer; a slow machine fetches nothing, so this is generous.
PATIENCE = 180


@dataclass(frozen=True)
class Cluster:
    """A cluster that was started: ports on 127.0.0.1, and the processes by role."""

    home: str
    thrift: int
    connect: int
    master: int
    ui: int
    processes: dict[str, int]
    table_format: str = "delta"

    @property
    def connect_url(self) -> str:
        """Where Spark Connect answers."""
        return f"sc://{HOST}:{self.connect}"

    @property
    def environment(self) -> dict[str, str]:
        """What the target `spark` reads."""
        return {
            "LAKEBED_SPARK_HOST": HOST,
            "LAKEBED_SPARK_PORT": str(self.thrift),
            "LAKEBED_SPARK_CONNECT": self.connect_url,
            "LAKEBED_TABLE_FORMAT": self.table_format,
        }

    def alive(self) -> dict[str, bool]:
        """For each role whether its process runs."""
        return {role: _is_spark(process) for role, process in self.processes.items()}


def running(home: Path) -> Cluster | None:
    """The cluster on the lake below `home`, if its driver runs."""
    cluster = _read(home)
    return cluster if cluster and cluster.alive()["driver"] else None


def up(
    home: Path,
    workers: int = 2,
    thrift: int = 10000,
    connect: int = 15002,
    table_format: str | None = None,
) -> Cluster:
    """Start a cluster on the lake below `home`; return when it answers.

    `workers` of one core each; `table_format` of a new lake. Raises UserError when there is one
    already, when a port is taken, when the lake is of another format, or when a process ends;
    nothing is left running then.
    """
    home = home.resolve()
    if running(home):
        raise UserError(f"There is a cluster on {home} already: `lakebed spark down` ends it.")
    check_java()
    if find_spec("pyspark") is None:
        raise UserError(NOT_INSTALLED)
    for port, what in ((thrift, "--thrift-port"), (connect, "--connect-port")):
        if _answers(port):
            raise UserError(f"Port {port} is taken: choose another one with {what}.")
    _end(_read(home))
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    master, ui = free_ports(2)
    properties = home / "spark-defaults.conf"
    table_format = format_of_lake(home, table_format)
    settings = _driver_settings(home, connect, table_format)
    properties.write_text(
        "".join(f"{name} {value}\n" for name, value in settings.items()), encoding="utf-8"
    )
    deploy = "org.apache.spark.deploy"
    url = f"spark://{HOST}:{master}" if workers else "local[*]"
    commands = {}
    if workers:
        commands["master"] = [
            *("spark-class", f"{deploy}.master.Master", "--host", HOST),
            *("--port", str(master), "--webui-port", str(ui)),
        ]
    for number in range(1, workers + 1):
        commands[f"worker {number}"] = [
            *("spark-class", f"{deploy}.worker.Worker", "--host", HOST, "--webui-port", "0"),
            *("--cores", "1", "--memory", "2g", "--work-dir", str(home / "work"), url),
        ]
    commands["driver"] = [
        *("spark-submit", "--master", url, "--properties-file", str(properties)),
        *("--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"),
        *("spark-internal", "--hiveconf", f"hive.server2.thrift.bind.host={HOST}"),
        *("--hiveconf", f"hive.server2.thrift.port={thrift}"),
    ]
    processes: dict[str, int] = {}
    cluster = Cluster(str(home), thrift, connect, master, ui, processes, table_format)
    children = {}
    try:
        for role, command in commands.items():
            children[role] = _start(home, command, logs / f"{role.replace(' ', '-')}.log")
            processes[role] = children[role].pid
            (home / STATE).write_text(json.dumps(asdict(cluster)), encoding="utf-8")
            if role == "master":
                _wait_for(master, children, logs)
        _wait_for(thrift, children, logs)
        _wait_for(connect, children, logs)
        remove_torn_tables(home)
    except BaseException:
        _end(cluster)
        raise
    return cluster


def down(home: Path) -> bool:
    """End the cluster on the lake below `home`; False when there is none."""
    cluster = _read(home)
    found = cluster is not None and any(cluster.alive().values())
    _end(cluster)
    return found


def workers(cluster: Cluster) -> list[dict[str, Any]]:
    """What the master says of its workers: id, host, port, cores, coresused, memory, state."""
    if "master" not in cluster.processes:
        return []
    with closing(urlopen(f"http://{HOST}:{cluster.ui}/json/", timeout=10)) as answer:
        found: list[dict[str, Any]] = json.load(answer)["workers"]
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _driver_settings(home: Path, connect: int, table_format: str) -> dict[str, str]:
    jars = spark_jars(table_format, warehouse(home))
    return {
        "spark.jars": jars,
        # The Thrift server's threads do not look where `spark.jars` are loaded.
        "spark.driver.extraClassPath": jars.replace(",", os.pathsep),
        "spark.driver.memory": "3g",
        "spark.executor.memory": "1500m",
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": HOST,
        "spark.connect.grpc.binding.port": str(connect),
        **driver_settings(home),
        **lake_settings(home, table_format),
    }


def _start(home: Path, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    import pyspark

    spark_home = Path(pyspark.__path__[0])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPARK_")},
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_DIRS": str(home / "scratch"),
        "SPARK_LOCAL_IP": HOST,
    }
    program, *arguments = command
    if program == "spark-class":
        # Of master and workers only: the Thrift server would take it for spark.driver.memory.
        environment["SPARK_DAEMON_MEMORY"] = "512m"
    with log.open("wb") as out:
        return subprocess.Popen(
            [str(spark_home / "bin" / program), *arguments],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # outlives this command
        )


def _wait_for(port: int, children: dict[str, subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _answers(port):
        for role, child in children.items():
            if child.poll() is not None:
                log = logs / f"{role.replace(' ', '-')}.log"
                raise UserError(f"Spark's {role} ended: {_last_error(log)} See {log}.")
        if time.monotonic() > deadline:
            raise UserError(f"Spark does not answer on port {port} after {PATIENCE} s; see {logs}.")
        time.sleep(0.2)


def _last_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "Exception" in line or "ERROR" in line]
    return (errors or lines or ["no message."])[-1].strip()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((HOST, port)) == 0


def _read(home: Path) -> Cluster | None:
    file = home.resolve() / STATE
    return Cluster(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def _is_spark(process: int) -> bool:
    """Whether the process is ours still: ids are used again."""
    done = subprocess.run(
        ["ps", "-ww", "-p", str(process), "-o", "stat=,command="],
        capture_output=True,
        text=True,
        check=False,
    )
    return "org.apache.spark" in done.stdout and not done.stdout.startswith("Z")


def _end(cluster: Cluster | None) -> None:
    """End the processes, the driver first, and forget them."""
    if cluster is None:
        return
    for role in reversed(cluster.processes):
        process = cluster.processes[role]
        for sent in (signal.SIGTERM, signal.SIGKILL):
            if _is_spark(process):
                os.kill(process, sent)
            deadline = time.monotonic() + 15
            while _is_spark(process) and time.monotonic() < deadline:
                time.sleep(0.1)
    (Path(cluster.home) / STATE).unlink(missing_ok=True)
