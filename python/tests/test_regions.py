"""`lakebed consolidate`: two regions and a centre; what may not leave is nowhere in the centre."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from lakebed.erase.scan import scan
from lakebed.errors import UserError
from lakebed.ingest.tables import new_columns
from lakebed.lake import load_extensions
from lakebed.regions.config import read_regions
from lakebed.regions.mask import column, set_key, tree
from lakehouse import REPO, Lakehouse, TeamLakehouse
from streams import LAKEBED

PROVES = ["pat-multi-region-ingest"]

EU_KEY, US_KEY = "the key of the EU region", "the key of the US region"
COLUMNS: dict[str, Any] = {
    "_source": "keep",
    "_offset": "keep",
    "_key": "mask",
    "_record": {
        "order_id": "keep",
        "total": "keep",
        "customer.email": "mask",
        "customer.born": "year",
        "ip": "net",
        "items[].sku": "keep",
        "items[].for": "mask",
    },
    "_headers": "drop",
    "email": "mask",
    "born": "month",
    "ip": "net",
    "ingested_at": "keep",
}


def masked(text: str, key: str = EU_KEY) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def person(region: str, number: int) -> dict[str, str]:
    """Identifiers that are found in one place only."""
    return {
        "email": f"{region}.mail.{number:06}@zoë.example",
        "name": f"Näme-{region}-{number:06}-x",
        "phone": f"+49-{region}-555-{number:06}",
        "ip": f"10.{number % 200}.{number // 200}.{17 + number % 200}",
    }


class Region:
    """A regional lake with a bronze table of a stream, and typed columns besides."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.path = name, home / f"{name}.ducklake"
        self.people = 0
        self._ask(
            "create schema bronze",
            "create table bronze.web__orders (_source varchar, _offset bigint, _key varchar,"
            " _record varchar, _headers varchar, email varchar, born date, ip varchar,"
            " _batch_id bigint, ingested_at timestamp)",
        )

    def _ask(self, *statements: str, rows: list[Any] | None = None) -> None:
        with duckdb.connect() as connection:
            load_extensions(connection)
            connection.execute(
                f"attach 'ducklake:{self.path}' as r (data_path '{self.path}.files/'); use r"
            )
            connection.begin()
            for statement in statements:
                if rows is None:
                    connection.execute(statement)
                else:
                    connection.executemany(statement, rows)
            connection.commit()

    def add(self, batch: int, count: int) -> None:
        rows = []
        for number in range(self.people, self.people + count):
            each = person(self.name, number)
            record = {
                "order_id": number,
                "total": 1.5,
                "customer": {"email": each["email"], "name": each["name"], "born": "1980-05-06"},
                "ip": each["ip"],
                "items": [{"sku": f"s{number}", "for": each["email"], "note": each["phone"]}],
                "phone": each["phone"],
            }
            rows.append(
                [
                    *(self.name, number, each["email"], json.dumps(record, ensure_ascii=False)),
                    *(json.dumps([["phone", each["phone"]]]), each["email"], "1980-05-06"),
                    *(each["ip"], batch, "2024-01-01 00:00:00"),
                ]
            )
        self.people += count
        self._ask("insert into r.bronze.web__orders values (?,?,?,?,?,?,?,?,?,?)", rows=rows)

    def alter(self, statement: str) -> None:
        self._ask(statement)

    def identifiers(self) -> list[str]:
        people = [person(self.name, number) for number in range(self.people)]
        return [text for each in people for text in each.values()]


class Centre:
    """The central lake, and the file with its regions."""

    def __init__(self, lakehouse: Lakehouse, *regions: Region, **changed: Any) -> None:
        self.lakehouse = lakehouse
        lakehouse.env |= {"EU_KEY": EU_KEY, "US_KEY": US_KEY}
        self.file = lakehouse.home / "regions.yml"
        self.content: dict[str, Any] = {
            "name": "global",
            "regions": {
                each.name: {
                    "lake": f"ducklake:{each.path}",
                    "key": f"{{{{ env_var('{each.name.upper()}_KEY') }}}}",
                }
                for each in regions
            },
            "tables": {"web__orders": {"columns": COLUMNS | changed}},
        }
        self.write()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.content, sort_keys=False), encoding="utf-8")

    def run(self, *options: str, command: str = "run", code: int = 0) -> str:
        process = self.start(*options, command=command)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == code, output
        assert "Traceback" not in output, output
        return output

    def start(self, *options: str, command: str = "run") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LAKEBED, "consolidate", command, str(self.file), *options],
            env=self.lakehouse.environment() | {"DBT_PROJECT_DIR": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def orders(self) -> list[tuple[Any, ...]]:
        """Region and offset of all rows."""
        return self.lakehouse.query("select region, _offset from bronze.web__orders order by all")


@pytest.fixture
def regions(tmp_path: Path) -> tuple[Region, Region]:
    return Region(tmp_path, "eu"), Region(tmp_path, "us")


def everything(*regions: Region) -> list[tuple[str, int]]:
    return sorted((each.name, number) for each in regions for number in range(each.people))


def test_nothing_that_may_not_leave_is_in_the_centre(
    regions: tuple[Region, Region], tmp_path: Path
) -> None:
    eu, us = regions
    for batch in (1, 2, 5):
        eu.add(batch, 40)
        us.add(batch, 30)
    (tmp_path / "centre").mkdir()
    centre = Centre(Lakehouse(tmp_path / "centre"), eu, us)
    planned = centre.run(command="plan")
    assert "eu/web__orders: would bring 120 rows, 3 batches up to 5." in planned
    assert "customer.email: mask" in planned
    assert not (tmp_path / "centre" / "lake").exists()  # a plan changes nothing
    assert "eu/web__orders: brought 120 rows, 3 batches up to 5." in centre.run()
    assert centre.orders() == everything(eu, us)
    assert centre.run().count("nothing new") == 2
    assert centre.run(command="status").count(" 5 ") == 2

    # A byte scan of all that the centre is: data, catalogue, its log; and the scan does find.
    files, traces = scan([tmp_path / "centre"], [*eu.identifiers(), *us.identifiers()])
    assert files > 3
    assert traces == []
    assert scan([eu.path, Path(f"{eu.path}.files")], eu.identifiers()[:4])[1]
    assert scan([tmp_path / "centre"], [masked(person("eu", 7)["email"])])[1]

    email, ip = person("eu", 7)["email"], person("eu", 7)["ip"]
    (row,) = centre.lakehouse.query(
        "select _key, email, born::varchar, ip, _record, _region_batch_id, _batch_id"
        " from bronze.web__orders where region = 'eu' and _offset = 7"
    )
    net = ip.rsplit(".", 1)[0] + ".0"
    assert row[:4] == (masked(email), masked(email), "1980-05-01", net)
    assert json.loads(row[4]) == {
        "order_id": 7,
        "total": 1.5,
        "customer": {"email": masked(email), "born": "1980-01-01"},
        "ip": net,
        "items": [{"sku": "s7", "for": masked(email)}],
    }
    assert row[5:] == (1, 1)
    columns = centre.lakehouse.query("describe bronze.web__orders")
    assert "_headers" not in {name for name, *_ in columns}


def test_masked_keys_join_only_with_the_same_key(tmp_path: Path) -> None:
    """The same people in both regions: with one key they are the same in the centre."""
    joined = (
        "select count(*) from bronze.web__orders as a join bronze.web__orders as b"
        " on a.email = b.email where a.region = 'eu' and b.region = 'us'"
    )
    for us_key, count in ((US_KEY, 0), (EU_KEY, 20)):
        home = tmp_path / str(count)
        home.mkdir()
        eu, us = Region(home, "eu"), Region(home, "us")
        eu.add(1, 20)
        us.name = "eu"  # the same people
        us.add(1, 20)
        us.name = "us"
        centre = Centre(Lakehouse(home), eu, us)
        centre.lakehouse.env["US_KEY"] = us_key
        centre.run()
        assert centre.lakehouse.query(joined) == [(count,)]
    # Another key later: rows that would no longer join are not taken unnoticed.
    eu.add(2, 5)
    centre.lakehouse.env["EU_KEY"] = "another key, by mistake"
    assert "its key is not the one" in centre.run(code=1)
    assert len(centre.orders()) == 40
    assert "brought 5 rows" in centre.run("--new-key")


def test_a_column_that_nobody_named_holds_its_table_back(
    regions: tuple[Region, Region], tmp_path: Path
) -> None:
    eu, us = regions
    centre = Centre(Lakehouse(tmp_path), eu, us)
    eu.add(1, 3)
    us.add(1, 3)
    centre.run()
    eu.alter("alter table r.bronze.web__orders add column passport varchar")
    eu.alter("update r.bronze.web__orders set passport = 'L01X00T47', _batch_id = 2")
    us.add(2, 3)
    for command in ("plan", "run"):
        said = centre.run(command=command, code=1)
        assert (
            "eu/web__orders: NOT BROUGHT: bronze.web__orders has columns that are not in the"
            in (said)
        )
        assert "passport" in said
        assert "L01X00T47" not in said
    assert len(centre.orders()) == 9  # the other region went on
    centre.content["tables"]["web__orders"]["columns"]["passport"] = "mask"
    centre.write()
    # The other region has no such column, and is told apart by a table of its own or waits.
    said = centre.run(code=1)
    assert "us/web__orders: NOT BROUGHT: bronze.web__orders no longer has passport" in said
    assert "eu/web__orders: brought 3 rows" in said
    rows = centre.lakehouse.query(
        "select distinct passport from bronze.web__orders where passport is not null"
    )
    assert rows == [(masked("L01X00T47"),)]
    # A type that changes is noticed, too.
    del centre.content["tables"]["web__orders"]["columns"]["passport"]
    centre.write()
    us.alter("alter table r.bronze.web__orders drop column _source")
    us.alter("alter table r.bronze.web__orders add column _source integer")
    us.alter("update r.bronze.web__orders set _batch_id = 3 where _batch_id = 2")
    assert "_source is INTEGER now, and VARCHAR" in centre.run("--region", "us", code=1)


def test_a_region_that_is_away_holds_up_no_other(
    regions: tuple[Region, Region], tmp_path: Path
) -> None:
    eu, us = regions
    eu.add(1, 5)
    us.add(1, 5)
    centre = Centre(Lakehouse(tmp_path), eu, us)
    eu.path.rename(tmp_path / "away")
    said = centre.run(code=1)
    assert "eu/*: NOT BROUGHT: There is no lake yet" in said
    assert centre.orders() == everything(us)
    (tmp_path / "away").rename(eu.path)
    # Busy: somebody writes there.
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute(f"attach 'ducklake:{eu.path}' as r")
        said = centre.run("--patience", "1", code=1)
        assert "eu/*: NOT BROUGHT: its lake is busy" in said
    # A key is needed only where its region is read.
    del centre.lakehouse.env["US_KEY"]
    assert "brought 5 rows" in centre.run("--region", "eu")
    assert "us/*: NOT BROUGHT:" in centre.run(code=1)
    assert centre.orders() == everything(eu, us)


def test_killed_at_every_step_and_two_at_once(
    regions: tuple[Region, Region], tmp_path: Path
) -> None:
    eu, us = regions
    centre = Centre(Lakehouse(tmp_path), eu, us)
    rng = random.Random(3)
    for number, point in enumerate(
        ("received", "begun", "rows-written", "committed", "rows-written:2", "committed:2")
    ):
        for each in regions:
            each.add(number * 2 + 1, rng.randint(1, 9))
            each.add(number * 2 + 2, rng.randint(1, 9))
        centre.run("--fail-at", point, "--rows", "15", code=-signal.SIGKILL)
    both = [centre.start("--rows", "25") for _ in range(2)]
    for each in both:
        output = each.communicate(timeout=300)[0]
        assert each.returncode == 0, output
    assert centre.orders() == everything(eu, us)


@pytest.mark.team
def test_two_at_once_into_a_shared_catalogue(team: TeamLakehouse, tmp_path: Path) -> None:
    eu, us = Region(tmp_path, "eu"), Region(tmp_path, "us")
    centre = Centre(team, eu, us)
    for batch in range(1, 7):
        for each in (eu, us):
            each.add(batch, 4)
    both = [centre.start("--rows", "4") for _ in range(3)]
    for each in both:
        output = each.communicate(timeout=300)[0]
        assert each.returncode == 0, output
    assert centre.orders() == everything(eu, us)


def test_mistakes_are_told(regions: tuple[Region, Region], tmp_path: Path) -> None:
    centre = Centre(Lakehouse(tmp_path), *regions)
    right = json.dumps(centre.content)
    for place, value, line in (
        ("_record", "keep", "a whole record would take along"),
        ("_record", {"a": "drop"}, "what is not named is left out"),
        ("_record", {"a'b": "keep"}, "is no path such as"),
        ("_record", {"a": "keep", "a.b": "keep"}, "is below another path"),
        ("_record", {"a.b": "keep", "a": "keep"}, "is above another path"),
        ("email", "hide", "an action is keep, drop, mask"),
        ("region", "keep", "of its own"),
    ):
        centre.content = json.loads(right)
        centre.content["tables"]["web__orders"]["columns"][place] = value
        centre.write()
        with pytest.raises(UserError, match=line):
            read_regions(centre.file)
    centre.content = json.loads(right)
    centre.write()
    centre.lakehouse.env["EU_KEY"] = "short"
    assert "key is a secret of 16" in centre.run("--region", "eu", code=1)
    assert "There is no region asia" in centre.run("--region", "asia", code=1)


def test_rules_fail_closed() -> None:
    """What a rule does not understand becomes NULL: never the value."""
    connection = duckdb.connect()
    set_key(connection, EU_KEY.encode())

    def ruled(rule: Any, value: str | None) -> Any:
        rule = tree(rule, "test") if isinstance(rule, dict) else rule
        query = f"select {column('c', rule)} from (select ?::varchar as c)"
        (found,) = connection.execute(query, [value]).fetchone() or (None,)
        return str(found) if found is not None else None

    assert ruled("mask", "Zoë") == masked("Zoë")
    assert ruled("mask", "") == masked("")
    for rule in ("mask", "month", "net", {"a": "keep"}):
        assert ruled(rule, None) is None
    for value, net in {
        "192.168.1.77": "192.168.1.0",
        "2001:db8:85a3:8d3:1319:8a2e:370:7348": "2001:db8:85a3::",
        "2001:db8:1::7": "2001:db8:1::",
        "::1": None,
        "::ffff:192.168.1.77": None,
        "192.168.1.77:443": None,
        "max@example.com": None,
        "192.168.1": None,
    }.items():
        assert ruled("net", value) == net
    assert ruled("month", "2024-05-17T23:30:00Z") == "2024-05-01"
    assert ruled("year", "2024-05-17") == "2024-01-01"
    assert ruled("day", "max@example.com") is None
    rule = {"a.b": "keep", "t[]": "keep", "l[].m": "mask", "n[][].x": "keep", "d": "month"}
    for record, expected in (
        ("{broken", None),
        ("[1]", {}),
        ('{"a": {"b": 1, "c": 2}}', {"a": {"b": 1}}),
        ('{"a": {"b": {"name": "Max"}}}', {}),  # an object where a value was
        ('{"a": "Max"}', {}),
        ('{"t": ["x", {"name": "Max"}, ["y"]]}', {"t": ["x", None, None]}),
        ('{"t": "Max", "l": {"m": 1}}', {}),
        ('{"l": [{"m": "Max"}, {"k": 1}, 7]}', {"l": [{"m": masked("Max")}, {"m": None}, None]}),
        ('{"n": [[{"x": 1, "y": 2}], []]}', {"n": [[{"x": 1}], []]}),
        ('{"d": "1980-05-06", "e": "é"}', {"d": "1980-05-01"}),
        ('{"A": {"B": 1}, "T": ["x"]}', {}),
    ):
        found = ruled(rule, record)
        slim = found and {
            k: v for k, v in json.loads(found).items() if v not in (None, {"b": None})
        }
        assert slim == expected, record


def test_a_column_whose_name_differs_in_case_is_no_new_one() -> None:
    there = {"id": "bigint", "passport": "varchar"}
    assert new_columns("t", there, {"id": "bigint", "Email": "varchar"}) == {"Email": "varchar"}
    with pytest.raises(UserError, match="Passport is passport in t"):
        new_columns("t", there, {"Passport": "varchar"})
