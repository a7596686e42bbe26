"""`lakebed stream` with a real Kafka: what goes where, and what a person is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker import Broker
from confluent_kafka import Producer, TopicPartition
from lakebed.cli import main
from lakebed.ingest import dlq
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import Sink
from lakehouse import REPO, Lakehouse
from streams import Stream, lakebed, send
from test_breaker import lake_of

PROVES = ["pat-streaming-ingest", "pat-dlq"]


@pytest.fixture
def lakehouse(tmp_path: Path) -> Lakehouse:
    return Lakehouse(tmp_path)


def test_every_byte_is_in_bronze_or_in_the_dlq(broker: Broker, lakehouse: Lakehouse) -> None:
    clicks, raw = broker.topic("clicks"), broker.topic("raw")
    good = [(f"k{n}", json.dumps({"id": n, "text": "é😀 'quoted' \\ 1"})) for n in range(50)]
    poison: list[tuple[bytes | str | None, bytes | str | None]] = [
        ("p0", b"\xff\xfe\x00"),
        ("p1", b'{"id": 1'),
        ("p2", b"NaN"),
        ("p3", b""),
        (b"\x80", b"{}"),
        ("p5", b'{"a": "\x00"}'),
        ("p6", b'{"id": null}'),
        ("p7", b"[1]"),
        ("p8", b"[" * 100_000 + b"]" * 100_000),
        ("p9", b"9" * 5000),
    ]
    send(broker, clicks, good, headers=[("trace", b"a"), ("trace", b"\xff"), ("none", None)])
    send(broker, clicks, [("k1", None), (None, None)])
    send(broker, clicks, poison)
    everything = bytes(range(256))
    send(broker, raw, [(everything, everything * n) for n in range(40)])
    stream = Stream(
        lakehouse,
        broker,
        {
            clicks: {"table": "web__clicks", "required": ["id"]},
            raw: {"table": "web__raw", "value": "bytes", "key": "bytes"},
        },
    )
    output = stream.run()
    assert "92 rows, 10 to the DLQ" in output

    rows = lakehouse.query("select _key, _record from bronze.web__clicks order by _offset")
    assert rows == [*good, ("k1", None), (None, None)]
    assert lakehouse.query(
        "select distinct _headers, _source, _topic, _topic_partition from bronze.web__clicks where"
        " _record is not null"
    ) == [('[["trace", "a"], ["trace", {"base64": "/w=="}], ["none", null]]', "web", clicks, 0)]
    found = lakehouse.query(
        "select record_key, record_value, category, attempts, status from ops.dlq order by position"
    )
    categories = ["malformed"] * 6 + ["schema"] * 2 + ["processing"] * 2
    assert found == [
        (key.encode() if isinstance(key, str) else key, value, category, 1, "open")
        for (key, value), category in zip(poison, categories, strict=True)
    ]
    held = lakehouse.query("select _key, _record from bronze.web__raw order by _offset")
    assert held == [(everything, everything * n) for n in range(40)]

    # Again: nothing is new. And more: only that.
    assert "0 rows, 0 to the DLQ, 0 batches" in stream.run()
    send(broker, clicks, good[:3])
    assert "3 rows, 0 to the DLQ, 1 batches" in stream.run()


def test_replay_delivers_once_after_a_fix(broker: Broker, lakehouse: Lakehouse) -> None:
    clicks = broker.topic("clicks")
    bodies = ['{"id": 1}', '{"number": 2}', '{"number": 3}', "{broken"]
    send(broker, clicks, [("k", body) for body in bodies], headers=[("h", b"\xfe")])
    strict = Stream(lakehouse, broker, {clicks: {"table": "web__clicks", "required": ["id"]}})
    assert "1 rows, 3 to the DLQ" in strict.run()

    listed = lakebed(lakehouse, "dlq", "list")
    assert "web -> web__clicks: 2 schema, open" in listed
    assert f"web:{clicks}:0:1  schema: required fields are missing: id  (1 attempts" in listed
    assert "'k'" in lakebed(lakehouse, "dlq", "show", f"web:{clicks}:0:3")
    assert lakebed(lakehouse, "dlq", "show", f"web:{clicks}:0:3", "--raw") == "{broken"
    assert "No record nothing" in lakebed(lakehouse, "dlq", "show", "nothing", code=1)

    # Nothing is fixed yet: nothing is delivered.
    output = lakebed(lakehouse, "dlq", "replay", str(strict.file))
    assert "0 delivered, 3 refused again." in output

    fixed = Stream(lakehouse, broker, {clicks: {"table": "web__clicks", "required": []}})
    for point in ("begun", "rows-written", "dlq-written", "committed"):
        command = ("dlq", "replay", str(fixed.file), "--fail-at", point)
        assert lakehouse.run("lakebed", *command, check=False).returncode == -signal.SIGKILL
    # The last of them was killed after the commit.
    assert "0 delivered, 1 refused again." in lakebed(lakehouse, "dlq", "replay", str(fixed.file))
    rows = lakehouse.query(
        "select _record, _headers, _offset, _batch_id from bronze.web__clicks order by _offset"
    )
    header = '[["h", {"base64": "/g=="}]]'
    assert [row[:3] for row in rows] == [
        (body, header, offset) for offset, body in enumerate(bodies[:3])
    ]
    # What reads batches after its position finds the replayed ones.
    assert rows[1][3] == rows[2][3] > rows[0][3]

    assert "Say which" in lakebed(lakehouse, "dlq", "discard", code=1)
    assert "1 discarded." in lakebed(lakehouse, "dlq", "discard", f"web:{clicks}:0:3")
    assert lakehouse.query("select status, attempts from ops.dlq order by position") == [
        ("replayed", 3),
        ("replayed", 3),
        ("discarded", 4),
    ]
    # And the stream goes on.
    send(broker, clicks, [("k", "{}")])
    assert "1 rows, 0 to the DLQ" in fixed.run()


def test_where_reading_starts_and_what_is_committed(broker: Broker, lakehouse: Lakehouse) -> None:
    clicks = broker.topic("clicks")
    send(broker, clicks, [("old", "{}")])
    stream = Stream(lakehouse, broker, {clicks: "web__clicks"}, settings={"start": "latest"})
    assert "0 rows" in stream.run()
    # `latest` was decided once, and holds; a partition that comes later is new as a whole.
    producer = Producer(
        {"bootstrap.servers": broker.servers, "transactional.id": clicks, "log_level": 0}
    )
    producer.init_transactions(20)
    for key, commit in (("aborted", False), ("kept", True)):
        producer.begin_transaction()
        producer.produce(clicks, key=key, value="{}")
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    broker.grow(clicks, 2)
    send(broker, clicks, [("new", "{}")], partition=1)
    assert "2 rows" in stream.run()
    assert "0 rows" in stream.run()
    assert lakehouse.query("select _key from bronze.web__clicks order by _topic_partition") == [
        ("kept",),
        ("new",),
    ]
    later = Stream(
        lakehouse,
        broker,
        {clicks: "web__later"},
        name="later",
        settings={"start": "2100-01-01T00:00:00Z"},
    )
    assert "0 rows" in later.run()
    past = Stream(lakehouse, broker, {clicks: "web__past"}, "past", {}, {"start": "2020-01-01"})
    assert "3 rows" in past.run()


def test_records_the_broker_has_deleted(broker: Broker, lakehouse: Lakehouse) -> None:
    clicks = broker.topic("clicks")
    stream = Stream(lakehouse, broker, {clicks: "web__clicks"})
    send(broker, clicks, [("k", "{}")] * 3)
    stream.run()
    send(broker, clicks, [("k", "{}")] * 5)
    admin = broker.admin()
    gone = TopicPartition(clicks, 0, 6)
    admin.delete_records([gone])[gone].result(20)
    output = stream.run(code=1)
    assert f"3 records of {clicks}/0 are gone" in output
    assert "--skip-lost" in output
    assert "2 rows" in stream.run("--skip-lost")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"topics": {"nowhere": "web__x"}}, "has no topic nowhere"),
        ({"start": "latest"}, "No Kafka broker answers"),
        ({"kafka": {"no.such.setting": 1}}, "no.such.setting"),
        ({"kafka": {"auto.offset.reset": "latest"}}, "positions are kept in the lake"),
        ({"kafka": {"group.instance.id": "one"}}, "gives such a member its old partitions"),
        ({"kafka": {}}, "kafka needs bootstrap.servers"),
        ({"topics": {}}, "topics is empty"),
        ({"topics": {"a": "Web Clicks"}}, "is a name of small letters"),
        ({"topics": {"a": {"table": "a", "value": "xml"}}}, "value is json, text, bytes"),
        ({"topics": {"a": {"table": "a", "schema": "none.json"}}}, "no JSON Schema"),
        ({"start": "soon"}, "start is earliest, latest or a time"),
        ({"batch": {"rows": 0}}, "rows is a number above 0"),
        ({"wrong": 1}, "has no setting wrong"),
    ],
)
def test_mistakes_are_one_line(
    request: pytest.FixtureRequest,
    lakehouse: Lakehouse,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    says: str,
) -> None:
    servers = "127.0.0.1:1"
    if "has no topic" in says or "no.such" in says:
        servers = request.getfixturevalue("broker").servers
    kafka = settings.get("kafka", {"socket.connection.setup.timeout.ms": 1000})
    if kafka:
        settings = settings | {"kafka": {"bootstrap.servers": servers} | kafka}
    file = lakehouse.home / "web.yml"
    file.write_text(yaml.safe_dump({"topics": {"a": "web__a"}, **settings}), encoding="utf-8")
    for name, value in lakehouse.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(sys, "argv", ["lakebed", "stream", str(file)])
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 1
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (lakehouse.home / "lake").exists()


def test_missing_packages_are_named(lakehouse: Lakehouse) -> None:
    for module, command, extra in (
        ("confluent_kafka", "stream", "lakebed[kafka]"),
        ("fastapi", "webhook", "lakebed[http]"),
    ):
        program = (
            f"import sys; sys.modules[{module!r}] = None; from lakebed.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, command, "x.yml"],
            env=lakehouse.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"pip install '{extra}'" in done.stderr


def test_records_of_one_place_are_all_replayed(tmp_path: Path) -> None:
    """A topic that was made anew has other records at the places of old ones."""
    lake, entity, place = lake_of(Lakehouse(tmp_path)), Entity("web__clicks"), ("clicks", 0)
    with Sink(lake, "web", [entity], repeatable=False) as sink:
        for number in range(3):
            record = Record("clicks", 0, 0, b"k", b'{"life": %d}' % number, [], None)
            bad = Rejected(record, entity.table, "schema", "not as agreed")
            sink.write({}, [bad], {place: (number or None, number + 1)})
    placed = dlq.by_topic("web", {"clicks": entity})
    outcome = dlq.replay(lake, "web", [entity], placed, dlq.Selection(), Patience(20))
    assert (outcome.delivered, outcome.refused) == (3, [])
    with lake.connect() as connection:
        rows = connection.execute("select _record from bronze.web__clicks order by 1").fetchall()
        assert rows == [(f'{{"life": {number}}}',) for number in range(3)]
        states = connection.execute("select status, attempts from ops.dlq").fetchall()
        assert states == [("replayed", 2)] * 3
