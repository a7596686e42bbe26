"""Topics that a Debezium of its own wrote into Kafka: `lakebed stream` to the database's rows."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker import Broker
from harness import UPSERT_STRATEGY, DbtProject
from lakebed.cdc.engine import Engine
from postgres import Postgres, need_capture
from streams import LAKEBED, QUICK, send

pytestmark = pytest.mark.timeout(300)
PROVES = ["pat-cdc-log-based"]

#: What docs/cdc.md asks of a connector with the unwrap transform.
UNWRAP = {
    "transforms": "unwrap",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.unwrap.add.fields": "op,source.lsn,source.ts_us,source.sequence,source.connector,"
    "transaction.total_order",
    "transforms.unwrap.delete.tombstone.handling.mode": "rewrite-with-tombstone",
}
#: The converters' own default is to write schemas.
SCHEMAS = {"schema": "true", "unwrapped": "false"}
MODELS = {
    "macros/strategy.sql": UPSERT_STRATEGY,
    "models/_models.yml": """
sources:
  - name: shop
    schema: bronze
    tables:
      - {name: shop__items, config: {meta: {stream: true}}}
models:
  - name: item_changes
    columns:
      - {name: id, data_type: bigint, constraints: [{type: not_null}]}
      - {name: name, data_type: string}
      - {name: price, data_type: "decimal(12,2)"}
      - {name: day, data_type: date, config: {meta: {formats: [epoch_days]}}}
      - {name: happened, data_type: timestamp, config: {meta: {formats: [epoch_us]}}}
      - {name: seen, data_type: timestamp}
""",
    "models/item_changes.sql": """
{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='id',
          pre_hook="{{ lakebed.advance_position() }}",
          meta={'upsert': {'version': '_position', 'delete_flag': '_is_deleted'}}) }}
{%- set bronze = source('shop', 'shop__items') -%}
with changes as (
    {{ lakebed.debezium_changes(bronze, 'item_changes', lakebed.new_batches(bronze), form='FORM') }}
),
valid as ({{ lakebed.valid_rows('changes') }})
{{ lakebed.upsert_source('valid') }}
""",
    "models/items.sql": "{{ lakebed.current_rows(ref('item_changes')) }}",
}
ROW = "'ünï \"q\"', 1.10, '1969-07-20', '2025-01-01 10:11:12.123456', '2025-01-01 00:00+02'"


def settings(source: Postgres, form: str) -> dict[str, str]:
    return {
        "name": "shop",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "topic.prefix": "shop",
        "database.hostname": "127.0.0.1",
        "database.port": str(source.port),
        "database.user": "postgres",
        "database.password": "",
        "database.dbname": "postgres",
        "slot.name": f"debezium_{form}",
        "publication.name": f"debezium_{form}",
        "publication.autocreate.mode": "filtered",
        "table.include.list": "app.items",
        "provide.transaction.metadata": "true",
        "decimal.handling.mode": "string",  # its default is bytes that no SQL can read
        "key.converter.schemas.enable": SCHEMAS[form],
        "value.converter.schemas.enable": SCHEMAS[form],
        "poll.interval.ms": "50",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.flush.interval.ms": "0",
        **(UNWRAP if form == "unwrapped" else {}),
    }


class Topic:
    """The connector's topic in Kafka, and the project that reads it."""

    def __init__(self, home: Path, broker: Broker, form: str) -> None:
        hooks = ["{{ lakebed.create_positions() }}", "{{ lakebed.create_stream_tables() }}"]
        files = {name: text.replace("FORM", form) for name, text in MODELS.items()}
        self.project = DbtProject(home / "project", files, config={"on-run-start": hooks})
        self.broker, self.topic = broker, broker.topic("items")
        self.file = home / "shop.yml"
        content = {
            "name": "shop",
            "kafka": {"bootstrap.servers": broker.servers, **QUICK},
            "topics": {self.topic: "shop__items"},
        }
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def move(self, engine: Engine, until: str) -> None:
        """What the connector says, into Kafka, up to a change that has `until` in it. The last
        part of it twice: a connector that is killed repeats itself."""
        end = time.monotonic() + 90
        seen = False
        while not seen:
            assert time.monotonic() < end
            events = engine.poll(1)
            if events is None:
                continue
            found = [(e.key, e.value) for e in events if e.topic.endswith(".app.items")]
            send(self.broker, self.topic, found + found[-5:])
            engine.answer(len(events))
            seen = any(until in (value or "") for _, value in found)

    def rows(self) -> list[tuple[Any, ...]]:
        """Read the topic, build, and say what silver has."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEBED", "DBT"))}
        subprocess.run(
            [*LAKEBED, "stream", str(self.file), "--once"],
            env=inherited | {"DBT_PROJECT_DIR": str(self.project.folder)},
            cwd=self.file.parent,
            check=True,
            capture_output=True,
        )
        self.project.run("run")
        return self.project.query(
            "select id, name, price, day, happened, seen from items order by id"
        )


@pytest.mark.parametrize("form", ["schema", "unwrapped"])
def test_silver_is_the_table(tmp_path: Path, broker: Broker, form: str) -> None:
    need_capture()
    source = Postgres(tmp_path / "pg")
    source.start()
    try:
        source.execute(
            "create schema app",
            "create table app.items (id bigint primary key, name text, price numeric(12, 2),"
            " day date, happened timestamp, seen timestamptz)",
            "alter table app.items replica identity full",
            f"insert into app.items select i, {ROW} from generate_series(1, 20) as i",
            "insert into app.items values (21, 'first mark', null, null, null, null)",
        )
        topic = Topic(tmp_path, broker, form)

        def truth() -> list[tuple[Any, ...]]:
            return source.query(
                "select id, name, price, day, happened, seen at time zone 'UTC'"
                " from app.items order by id"
            )

        with Engine(settings(source, form), None) as engine:
            topic.move(engine, "first mark")
            assert topic.rows() == truth()
            source.transaction(
                [
                    "update app.items set price = price + 1 where id < 10",
                    "update app.items set price = price + 1 where id < 5",
                    "update app.items set id = 100 where id = 1",
                    "delete from app.items where id = 2",
                    f"insert into app.items values (2, {ROW})",
                    "delete from app.items where id = 3",
                ]
            )
            source.execute(
                "update app.items set name = null, day = '2262-05-01' where id = 4",
                "delete from app.items where id = 2",
                "insert into app.items values (22, 'second mark', null, null, null, null)",
            )
            topic.move(engine, "second mark")
        found = topic.rows()
        assert len(found) == 20
        assert found == truth()
        assert topic.rows() == found  # nothing new
    finally:
        source.stop()
