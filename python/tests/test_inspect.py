"""`lakebed sql` and `lakebed status`: what they print, and one line for each mistake."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from lakebed import cli
from lakebed.lake import load_extensions

PROFILE = """
shop:
  target: "{{ env_var('SHOP_TARGET', 'local') }}"
  outputs:
    local:
      type: duckdb
      attach:
        - path: "ducklake:{{ env_var('SHOP_HOME', 'lake') }}/catalog.ducklake"
          alias: lakebed
    team:
      type: duckdb
      attach:
        - path: "ducklake:postgres:{{ env_var('SHOP_POSTGRES') }}"
          alias: lakebed
    plain: {type: duckdb, path: shop.duckdb}
"""

TABLES = """
create schema gold;
create table gold.dates as
    select date '2024-01-01' as day, 1.50::decimal(9, 2) as price, null::varchar as note
    union all select date '2024-01-02', 2.00, '[red]x[/] ö';
create schema quarantine;
create table quarantine.orders as
    select 1 as id, 'no_id,no_day' as broken_rules union all select 2, 'no_id';
create table quarantine.prices as select ['too_low', 'no_day'] as broken_rules;
create table quarantine.notes as select 1 as id;
create schema bronze;
create table bronze.landing__files as
    select 'ready' as status union all select 'duplicate' union all select 'duplicate';
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "DBT_TARGET", "DBT_TARGET_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lake(project: Path) -> Path:
    (project / "lake").mkdir()
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute("attach 'ducklake:lake/catalog.ducklake' as lakebed; use lakebed")
        connection.execute(TABLES)
    return project


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: its exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lakebed", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_the_lake_is_the_default_catalogue(lake: Path, run: Run) -> None:
    assert lake
    code, out, _ = run("sql", "select count(*) as days from gold.dates", "--format", "csv")
    assert (code, out) == (0, "days\n2\n")


VALUES = """
    select null as nothing, '' as empty, 12345678901234567.10::decimal(19, 2) as money,
        timestamp '2024-01-02 03:04:05' as moment, date '2024-01-02' as day,
        timestamptz '2024-01-02 03:04:05+01' as zoned, [1, null] as list,
        {'a': 'ö', 'b': [1.50::decimal(9, 2)]} as struct, map {1: 'x'} as map, true as flag,
        'nan'::double as nan, 0.1::double as tenth, 'a"b,' as text, '\\xff'::blob as bytes
"""


def test_json_holds_every_value_exactly(lake: Path, run: Run) -> None:
    assert lake
    code, out, _ = run("sql", VALUES, "--format", "json")
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail) == {
        "nothing": None,
        "empty": "",
        "money": "12345678901234567.10",
        "moment": "2024-01-02T03:04:05",
        "day": "2024-01-02",
        "zoned": "2024-01-02T02:04:05+00:00",
        "list": [1, None],
        "struct": {"a": "ö", "b": ["1.50"]},
        "map": {"1": "x"},
        "flag": True,
        "nan": "nan",
        "tenth": 0.1,
        "text": 'a"b,',
        "bytes": "ff",
    }


def test_csv_has_plain_cells(lake: Path, run: Run) -> None:
    assert lake
    _, out, _ = run("sql", VALUES, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["nothing"], row["money"], row["flag"]) == ("", "12345678901234567.10", "true")
    assert row["moment"] == "2024-01-02 03:04:05"
    assert json.loads(row["list"]) == [1, None]
    assert json.loads(row["struct"]) == {"a": "ö", "b": ["1.50"]}
    assert row["text"] == 'a"b,'


def test_a_table_shows_brackets_as_they_are_and_says_what_it_leaves_out(
    lake: Path, run: Run
) -> None:
    assert lake
    _, out, _ = run("sql", "select note, '[/a]' as \"[b]\" from gold.dates order by day desc")
    assert "[red]x[/] ö" in out
    assert "[/a]" in out
    assert "[b]" in out
    assert "NULL" in out
    _, out, _ = run("sql", "from range(5)", "--limit", "2")
    assert "The first 2 rows" in out


def test_two_columns_of_one_name_are_not_merged_silently(lake: Path, run: Run) -> None:
    assert lake
    code, out, err = run("sql", "select 1 as a, 2 as a", "--format", "json")
    assert (code, out, err) == (1, "", "Error: Two columns are named a: give one an alias.\n")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select * from gold.nothing", "`lakebed status` lists the tables."),
        ("select cast('x' as int)", "Could not convert string 'x' to INT32"),
        (
            "select cast(case when i = 999999 then 'x' else '1' end as int)"
            " from range(1000000) as t (i)",
            "Could not convert string 'x' to INT32",
        ),
        ("drop table gold.dates", "read-only"),
        ("insert into gold.dates values (null, null, null)", "read-only"),
    ],
)
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_refused_query_is_one_line(
    lake: Path, run: Run, query: str, message: str, form: str
) -> None:
    assert lake
    code, _, err = run("sql", query, "--format", form, "--limit", "3000000")
    assert code == 1
    assert message in err
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 1


def test_status_says_what_is_there_and_what_was_refused(lake: Path, run: Run) -> None:
    (lake / "target").mkdir()
    results = {
        "metadata": {"generated_at": "2024-01-02T03:04:05.6Z"},
        "args": {"which": "build"},
        "elapsed_time": 12.3,
        "results": [{"status": "success"}, {"status": "pass"}, {"status": "pass"}],
    }
    (lake / "target" / "run_results.json").write_text(json.dumps(results))
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert next(line.split() for line in out.splitlines() if "gold" in line)[:3] == [
        *("gold", "dates", "2")
    ]
    assert "Last dbt build: 2024-01-02 03:04:05 UTC, 12 s: 2 pass, 1 success" in out
    refused = out.split("Refused, and why:")[1].split("Try next:")[0].split("\n")
    assert [line.strip() for line in refused if line.strip()] == [
        "2  orders: no_id",
        "1  orders: no_day",
        "1  prices: no_day",
        "1  prices: too_low",
        "2  files duplicate",
    ]
    assert "Try next:" in out


def test_status_says_which_source_is_halted(lake: Path, run: Run) -> None:
    assert "Halted" not in run("status")[1]
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute(f"attach 'ducklake:{lake}/lake/catalog.ducklake' as lakebed")
        connection.execute(
            """
            create schema lakebed.ops;
            create table lakebed.ops.source_circuits as
                select 'web__clicks' as source, 'open' as state, 7 as from_batch,
                    '9 of 10 rows refused' as reason, timestamp '2024-01-02 03:04:05' as retry_at
                union all select 'other', 'closed', null, null, null
            """
        )
    halted = run("status")[1].split("Halted, until")[1].split("Try next:")[0].splitlines()
    assert [line.strip() for line in halted[1:] if line.strip()] == [
        "web__clicks from batch 7 on, 2024-01-02 03:04:05 UTC: 9 of 10 rows refused"
    ]


def test_status_finds_the_last_build_where_dbt_put_it(
    lake: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Last build: not known here" in run("status")[1]
    results = {
        "metadata": {"generated_at": "2024-01-02T03:04:05.6Z"},
        "args": {"which": "run"},
        "elapsed_time": 1,
        "results": [],
    }
    (lake / "run_results.json").write_text(json.dumps(results))
    monkeypatch.setenv("DBT_TARGET_PATH", str(lake))
    assert "Last dbt run: 2024-01-02" in run("status")[1]


def test_a_missing_and_an_empty_lake_say_what_to_do(project: Path, run: Run) -> None:
    code, out, err = run("status")
    assert (code, out) == (1, "")
    assert err.startswith("Error: There is no lake yet at")
    assert "`dbt build`" in err
    (project / "lake").mkdir()
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute("attach 'ducklake:lake/catalog.ducklake' as lakebed")
    assert run("status")[2] == "Error: The lake is empty: run `dbt build`.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "nowhere"), "has no target 'nowhere'; it has local, plain, team."),
        (("--target", "plain"), "attaches no DuckLake"),
        (("--target", "team"), "SHOP_POSTGRES"),
        (("--project-dir", "elsewhere"), "No dbt_project.yml in elsewhere"),
        (("--profiles-dir", "elsewhere"), "No profiles.yml in elsewhere: correct --profiles-dir."),
    ],
)
def test_a_wrong_place_is_one_line(
    lake: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    if message != "SHOP_POSTGRES":
        monkeypatch.setenv("SHOP_POSTGRES", "dbname=lake")
    assert lake
    code, _, err = run("status", *arguments)
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_project_is_found_from_below_and_the_target_by_environment(
    lake: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_POSTGRES", "dbname=lake")
    (lake / "models" / "gold").mkdir(parents=True)
    monkeypatch.chdir(lake / "models" / "gold")
    assert run("sql", "select 1 as a", "--format", "csv")[1] == "a\n1\n"
    monkeypatch.setenv("DBT_TARGET", "plain")
    assert "Target 'plain' attaches no DuckLake" in run("sql", "select 1")[2]


def test_every_command_has_help_with_an_example(run: Run) -> None:
    commands = (
        ("sql",),
        ("status",),
        ("coverage",),
        ("sample", "retail"),
        ("ingest", "files"),
    )
    for command in commands:
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert f"lakebed {' '.join(command)}" in " ".join(out.split()), command
    assert run("nothing")[0] == 2
