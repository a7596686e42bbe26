"""Debezium's envelopes to rows and histories, against a replay of the log in Python."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import UPSERT_STRATEGY, DbtProject
from lakebed.spark.cluster import Cluster

PROVES = ["pat-cdc-log-based", "pat-merge-upsert", "pat-scd-type2"]

START = datetime(2025, 1, 1)
BATCHES = 3
COLUMNS = ("name", "amount", "on_date", "seen_at")
State = tuple[Any, ...] | None


@dataclass
class Log:
    """A table, its log, and what Debezium says of it: `events` in order, `held` and `history` the
    truth."""

    dice: random.Random
    lsn: int = 1000
    held: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    history: dict[int, list[tuple[datetime, State]]] = field(default_factory=dict)
    now: datetime = START

    def commit(self) -> None:
        """A transaction of a few changes: several of one key, too."""
        self.tick()
        for _ in range(self.dice.randint(1, 4)):
            kind, key = self.dice.random(), self.dice.randrange(25)
            if kind < 0.008:
                self.say("t", None, None)
                for gone in list(self.held):
                    self.put(gone, None)
            elif key not in self.held:
                self.say("c", None, self.put(key, self.row(key)))
            elif kind < 0.2:
                before = self.held[key]
                self.put(key, None)
                self.say("d", before, None)
            elif kind < 0.3 and (new := key + 100) not in self.held:
                # A key that changes: two events of one place in the log.
                before, after = self.held[key], {**self.held[key], "id": new}
                self.put(key, None)
                self.say("d", before, None)
                self.lsn -= 10
                self.say("c", None, self.put(new, after))
            else:
                before = self.held[key]
                self.say("u", before, self.put(key, self.row(key)))

    def tick(self) -> None:
        self.now += timedelta(
            seconds=self.dice.randint(1, 9000), microseconds=self.dice.randint(0, 9)
        )
        self.order = 0
        self.committed = self.lsn + 5

    def read_anew(self) -> None:
        """Something was deleted that the log does not say; then all is read again.

        A transaction has changed a row before, and is committed after it.
        """
        self.now += timedelta(days=1)
        early = self.lsn = self.lsn + 10
        changed = min(self.held)
        for key in self.dice.sample(sorted(set(self.held) - {changed}), 2):
            self.put(key, None)
        self.say("t", None, None, connector="lakebed")
        self.lsn -= 10
        for row in list(self.held.values()):
            self.say("r", None, row)
            self.lsn -= 10
        late = self.lsn = self.lsn + 10
        self.tick()
        self.lsn = early - 10
        before = self.held[changed]
        self.say("u", before, self.put(changed, self.row(changed)))
        self.lsn = late

    def row(self, key: int) -> dict[str, Any]:
        day = START + timedelta(days=self.dice.randrange(400))
        return {
            "id": key,
            "name": self.dice.choice(["", "ünï 漢", 'a "b" \\ c', "null", None]),
            "amount": self.dice.choice([f"{self.dice.randrange(-999, 9999) / 100:.2f}", None]),
            "on_date": self.dice.choice([f"{day:%Y-%m-%d}Z", None]),
            "seen_at": f"{day.isoformat()}.123456Z",
        }

    def put(self, key: int, row: dict[str, Any] | None) -> dict[str, Any] | None:
        if row is None:
            del self.held[key]
        else:
            self.held[key] = row
        self.history.setdefault(key, []).append((self.now, row and state(row)))
        return row

    def say(self, op: str, before: Any, after: Any, connector: str = "postgresql") -> None:
        self.lsn += 10
        self.order = getattr(self, "order", 0) + 1
        after_commit = None if op == "r" else str(self.committed)
        source = {
            "connector": connector,
            "lsn": self.lsn,
            "ts_us": micros(self.now),
            "sequence": json.dumps([after_commit, str(self.lsn)]),
        }
        if op == "t" and connector == "lakebed":
            del source["sequence"]
        self.events.append(
            {
                "op": op,
                "before": before,
                "after": after,
                "source": source,
                "transaction": None if op == "r" else {"total_order": self.order},
            }
        )

    def versions(self) -> set[tuple[Any, ...]]:
        """key, state, valid from, valid to."""
        found = set()
        for key, changes in self.history.items():
            last: dict[datetime, State] = dict(changes)  # of one commit the last
            steps: list[tuple[datetime, State]] = []
            for at, now in sorted(last.items()):
                if not steps or steps[-1][1] != now:
                    steps.append((at, now))
            for (at, now), (until, _) in zip(steps, [*steps[1:], (None, None)], strict=True):
                if now is not None:
                    found.add((key, *now, at, until))
        return found


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def state(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in COLUMNS)


def deliver(dice: random.Random, events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """In batches at random, out of order, some of them twice: as bad as Kafka can be."""
    found = [(dice.randint(1, BATCHES), json.dumps(event, ensure_ascii=False)) for event in events]
    found += [(dice.randint(1, BATCHES), text) for _, text in dice.sample(found, len(found) // 5)]
    dice.shuffle(found)
    return found


CHANGES = (
    "{{ lakebed.debezium_changes(ref('events'), 'changes', \"_batch_id WHERE \" ~ var('batch')) }}"
)
VALID = (
    "with changes as (\n"
    + CHANGES
    + "\n), valid as (select * from changes where broken_rules is null)"
)
MODELS = {
    "changes": CHANGES.replace("WHERE", "<="),
    "held": "{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='id',"
    " meta={'upsert': {'version': '_position', 'delete_flag': '_is_deleted'}}) }}\n"
    + VALID.replace("WHERE", "=")
    + "\n{{ lakebed.upsert_source('valid') }}",
    "now": "{{ lakebed.current_rows(ref('held')) }}",
    "history": VALID.replace("WHERE", "<=")
    + ", by_key as (\n{{ lakebed.changes_by_key('valid', 'id', ['name', 'amount', 'on_date',"
    " 'seen_at']) }}\n)\n{{ lakebed.scd2_from_changes('by_key', 'id', ['name', 'amount', 'on_date',"
    " 'seen_at'], '_committed_at', '_position', '_is_deleted') }}",
}
YAML = """
models:
  - name: changes
    config: {meta: {rules: [{name: too_much, expression: amount < 1000}]}}
    columns:
      - {name: id, data_type: bigint, constraints: [{type: not_null}]}
      - {name: name, data_type: string}
      - {name: amount, data_type: "decimal(12,2)"}
      - {name: on_date, data_type: date}
      - {name: seen_at, data_type: timestamp}
"""
BAD = {
    "malformed_event": [
        "{",
        "[]",
        '{"op": "c", "source": {"lsn": "x", "ts_us": "y"}, "transaction": {"total_order": {}}}',
        '{"op": "x", "source": {"lsn": 1}}',
        '{"op": "c"}',
    ],
    "missing_id": ['{"op": "c", "after": {"name": "x"}, "source": {"lsn": 1}}'],
    "invalid_amount": ['{"op": "c", "after": {"id": 1, "amount": "x"}, "source": {"lsn": 1}}'],
    "too_much": ['{"op": "c", "after": {"id": 1, "amount": "1000"}, "source": {"lsn": 1}}'],
    "unknown_name": [
        '{"op": "u", "after": {"id": 1, "name": "__debezium_unavailable_value"},'
        ' "source": {"lsn": 1}}'
    ],
    "invalid_on_date": ['{"op": "c", "after": {"id": 1, "on_date": "soon"}, "source": {"lsn": 1}}'],
}


@pytest.fixture(scope="module")
def log() -> Log:
    made = Log(random.Random(3))
    for number in range(160):
        made.commit()
        if number in (60, 130):
            assert len(made.held) > 5
            made.read_anew()
    assert {event["op"] for event in made.events} == set("cudtr")
    return made


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None, log: Log
) -> DbtProject:
    rows = deliver(random.Random(4), log.events)
    rows += [(1, text) for texts in BAD.values() for text in texts]
    files = {
        "macros/strategy.sql": UPSERT_STRATEGY,
        "models/_models.yml": YAML,
        "models/events.sql": "{{ config(materialized='table') }}\n{% set rows = "
        + json.dumps(rows, ensure_ascii=False)
        + " %}\nselect _batch_id, _record, 'shop' as _source, cast('2025-01-01' as timestamp)"
        " as ingested_at from (values {% for batch, record in rows %}({{ batch }},"
        " {{ lakebed.text_literal(record) }}){{ ',' if not loop.last }}{% endfor %})"
        " as given (_batch_id, _record)",
        **{f"models/{name}.sql": text for name, text in MODELS.items()},
    }
    project = DbtProject(tmp_path_factory.mktemp("debezium"), files, cluster=engine)
    for batch in range(1, BATCHES + 1):
        everything = [] if batch == 1 else ["--exclude", "events"]
        project.run("run", *everything, "--vars", json.dumps({"batch": batch}))
    return project


def rows_of(project: DbtProject, table: str, more: str = "") -> set[tuple[Any, ...]]:
    rows = project.query(f"select id, name, amount, on_date, seen_at {more} from {table}")
    return {
        (
            key,
            name,
            None if amount is None else str(amount),
            None if day is None else f"{day:%Y-%m-%d}Z",
            f"{seen.isoformat()}Z",
            *rest,
        )
        for key, name, amount, day, seen, *rest in rows
    }


def test_silver_is_the_table_whatever_came_when(project: DbtProject, log: Log) -> None:
    assert rows_of(project, "now") == {(key, *state(row)) for key, row in log.held.items()}


def test_the_history_is_that_of_the_commits(project: DbtProject, log: Log) -> None:
    found = rows_of(project, "history", ", valid_from, valid_to")
    assert found == log.versions()


def test_every_event_comes_out_once_with_its_reason(project: DbtProject) -> None:
    counted = project.query("select (select count(*) from events), (select count(*) from changes)")
    assert counted[0][0] == counted[0][1]
    reasons = dict(
        project.query(
            "select broken_rules, count(*) from changes where broken_rules is not null group by 1"
        )
    )
    assert reasons == {name: len(texts) for name, texts in BAD.items()}


#: The same rows as a Debezium of its own settings says them: days and microseconds are numbers.
FORMS = """
{%- set forms = ['envelope', 'schema', 'unwrapped'] -%}
{% for form in forms %}
select
    '{{ form }}' as form, id, name, amount, on_date, seen_at, _op, _position, _event_id,
    _is_deleted, _committed_at, broken_rules
from (
    {{ lakebed.debezium_changes(ref('given'), 'changes', "_source = '" ~ form ~ "'", form) }}
) as read
{{ 'union all' if not loop.last }}
{% endfor %}
"""


def numbers(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row with days and microseconds since 1970 for its times."""
    if row is None:
        return None
    day = (
        row["on_date"] and (datetime.fromisoformat(row["on_date"][:10]) - datetime(1970, 1, 1)).days
    )
    seen = micros(datetime.fromisoformat(row["seen_at"].rstrip("Z")))
    return {**row, "on_date": day, "seen_at": seen}


def unwrapped(event: dict[str, Any]) -> dict[str, Any]:
    """What ExtractNewRecordState leaves, with the fields that docs/cdc.md asks for."""
    order = event["transaction"] and event["transaction"]["total_order"]
    return {
        **(event["after"] or event["before"]),
        "__op": event["op"],
        "__deleted": str(event["op"] == "d").lower(),
        **{f"__source_{name}": value for name, value in event["source"].items()},
        "__transaction_total_order": order,
    }


def test_every_form_says_the_same(tmp_path: Path, engine: Cluster | None, log: Log) -> None:
    events = [
        {**event, "before": numbers(event["before"]), "after": numbers(event["after"])}
        for event in log.events
        if event["op"] != "t"
    ][:150]
    rows = [
        (form, json.dumps(written, ensure_ascii=False))
        for event in events
        for form, written in (
            ("envelope", event),
            ("schema", {"schema": {"type": "struct"}, "payload": event}),
            ("unwrapped", unwrapped(event)),
        )
    ]
    declared = YAML.replace(
        "data_type: date}", "data_type: date, config: {meta: {formats: [epoch_days]}}}"
    )
    declared = declared.replace(
        "data_type: timestamp}", "data_type: timestamp, config: {meta: {formats: [epoch_us]}}}"
    )
    project = DbtProject(
        tmp_path,
        {
            "models/_models.yml": declared,
            "models/given.sql": "{{ config(materialized='table') }}\n{% set rows = "
            + json.dumps(rows, ensure_ascii=False)
            + " %}\nselect _source, _record, cast(1 as bigint) as _batch_id,"
            " cast('2025-01-01' as timestamp) as ingested_at"
            " from (values {% for form, record in rows %}('{{ form }}',"
            " {{ lakebed.text_literal(record) }}){{ ',' if not loop.last }}{% endfor %})"
            " as given (_source, _record)",
            "models/changes.sql": FORMS,
        },
        cluster=engine,
    )
    project.run("run")
    found: dict[str, list[Any]] = {}
    for form, *row in project.query("select * from changes"):
        found.setdefault(form, []).append(tuple(row))
    assert len(found["envelope"]) == 150
    for form in ("schema", "unwrapped"):
        assert sorted(found[form], key=repr) == sorted(found["envelope"], key=repr)
    began = datetime(1970, 1, 1).date()
    assert Counter(
        (row[0], row[3] and (row[3] - began).days) for row in found["envelope"]
    ) == Counter(
        ((e["after"] or e["before"])["id"], (e["after"] or e["before"])["on_date"]) for e in events
    )
    assert {row[10] for row in found["envelope"]} <= {None, "too_much"}


def test_a_form_that_there_is_not(tmp_path: Path) -> None:
    files = {"models/x.sql": "{{ lakebed.debezium_changes('b', 'x', form='avro') }}"}
    project = DbtProject(tmp_path, files)
    with pytest.raises(AssertionError, match="form is envelope, schema or unwrapped, not 'avro'"):
        project.run("parse")
