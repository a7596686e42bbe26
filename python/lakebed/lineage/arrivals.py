"""What lies before bronze: topics, tables of databases, resources of APIs, landed files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakebed.errors import UserError

if TYPE_CHECKING:
    from lakebed.cdc.config import CaptureConfig
    from lakebed.ingest.config import StreamConfig
    from lakebed.ingest.pull_config import PullConfig
    from lakebed.ingest.records import Entity
    from lakebed.ingest.webhook import WebhookConfig


@dataclass(frozen=True)
class Arrival:
    """Something outside, named as OpenLineage names it, and the table that it goes to.

    `envelopes` are the fields of a record that hold its row, with a dot at the end.
    """

    namespace: str
    name: str
    table: str
    envelopes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Both in one, for people."""
        return f"{self.namespace}/{self.name}"

    def field(self, path: str) -> str | None:
        """The field outside that `path` of a record holds; None for what was added on the way."""
        for envelope in self.envelopes:
            if path.startswith(envelope):
                return path.removeprefix(envelope)
        return None if self.envelopes else path


def of_capture(config: CaptureConfig) -> list[Arrival]:
    """The tables of a database."""
    at = config.connection
    namespace = f"postgres://{at['host']}:{at['port']}"
    return [
        Arrival(namespace, f"{at['dbname']}.{table}", entity.table, ("after.", "before."))
        for table, entity in config.tables.items()
    ]


def of_stream(config: StreamConfig) -> list[Arrival]:
    """The topics of a broker."""
    broker = str(config.kafka["bootstrap.servers"]).split(",")[0]
    return _each(f"kafka://{broker}", config.topics.items())


def of_pull(config: PullConfig) -> list[Arrival]:
    """The resources of an API."""
    return _each(
        config.url, ((each.path.strip("/"), each.entity) for each in config.resources.values())
    )


def of_webhook(
    config: WebhookConfig, host: str, port: int, path: str = "webhooks"
) -> list[Arrival]:
    """The endpoints that others post to."""
    entities = ((name, endpoint.entity) for name, endpoint in config.endpoints.items())
    return _each(f"http://{host}:{port}/{path}", entities)


def of_files(source: str, entity: str, table: str) -> Arrival:
    """The files of an entity in the landing folder."""
    return Arrival("file", f"landing/{source}/{entity}", table)


def configured(folder: Path) -> tuple[list[Arrival], list[str]]:
    """What the stream files in a folder bring; and of those that cannot be read, why."""
    from lakebed.cdc.config import read_capture
    from lakebed.ingest.config import mapping, read_stream, render
    from lakebed.ingest.pull_config import read_pull

    found: list[Arrival] = []
    problems = []
    for file in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        try:
            content = mapping(render(file), str(file))
            if "postgres" in content:
                found += of_capture(read_capture(file))
            elif "kafka" in content:
                found += of_stream(read_stream(file))
            elif "resources" in content:
                found += of_pull(read_pull(file))
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _each(namespace: str, entities: Iterable[tuple[str, Entity]]) -> list[Arrival]:
    return [Arrival(namespace, name, entity.table) for name, entity in entities]
