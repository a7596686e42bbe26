"""A lake in an object store has the rows that one on a disk has, whatever happens to the store."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
import shop
import yaml
from conftest import FAULTS
from harness import NAME, SPARK_STRATEGIES, DbtProject
from lakebed.errors import explain
from lakebed.ingest.patience import PERMANENT, TRANSIENT, classify
from lakebed.lake import load_extensions
from lakebed.store import filesystem, objects, reach, remove_empty_folders
from lakehouse import Lakehouse, TeamLakehouse
from objects import BUCKET, ObjectStore
from pyarrow.fs import FileSelector
from webhooks import post, serving

PROVES = ["pat-medallion-lakehouse"]

DELIVERIES = ("2017-01-02", "2017-01-04")
LAND = ("--promotion-weeks", "1", *FAULTS)
NO_TESTS = ("--exclude", "resource_type:test", "resource_type:unit_test")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """It runs; and AWS's variables say where, and who we are."""
    server = ObjectStore(tmp_path_factory.mktemp("objects"))
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def built(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:  # noqa: ARG001
    """A lake in the store, of two deliveries."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("built"), {"LAKEBED_STORE": place()})
    for day in DELIVERIES:
        lakehouse.land("--until", day, *LAND)
        lakehouse.dbt("build", *NO_TESTS)
    return lakehouse


def place() -> str:
    return f"{BUCKET}/{uuid.uuid4().hex[:8]}"


def names(lakehouse: Lakehouse) -> set[str]:
    """Of the objects of a lake."""
    with lakehouse.connect() as connection:
        found = connection.execute(
            "select file from glob(?)", [f"{lakehouse.env['LAKEBED_STORE']}/**"]
        )
        return {name for (name,) in found.fetchall()}


def test_the_rows_of_a_lake_on_a_disk(built: Lakehouse, tmp_path: Path) -> None:
    disk = Lakehouse(tmp_path)
    for day in DELIVERIES:
        disk.land("--until", day, *LAND)
        disk.dbt("build", *NO_TESTS)
    there, here = built.hashes(), disk.hashes()
    for found in (there, here):
        found.pop("bronze.landing__files")  # when each file was written
    assert there == here
    assert [*built.home.rglob("*.parquet")] == []
    made = names(built)
    assert len([name for name in made if name.endswith(".parquet")]) > 40
    assert all(name.startswith(f"{built.env['LAKEBED_STORE']}/files/") for name in made)
    assert "household_summary" in built.run("lakebed", "status").stdout


@pytest.mark.soak
@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_the_same_rows_on_spark(built: Lakehouse, tmp_path: Path) -> None:
    """In the same store, with the same variables."""
    chosen = ("build", "--select", "+dim_products", *NO_TESTS)
    lakehouse = Lakehouse(tmp_path, {**built.env, "LAKEBED_STORE": place()})
    lakehouse.land("--until", DELIVERIES[0], *LAND)
    lakehouse.dbt(*chosen)
    # What a driver leaves that is killed while it makes a table: Delta would refuse to make it.
    torn = f"{lakehouse.env['LAKEBED_STORE']}/spark/warehouse/ops.db/positions"
    with lakehouse.connect() as connection:
        for name in ("part-0.parquet", "_delta_log/.begun.parquet.tmp"):
            connection.execute(f"copy (select 1 as a) to '{torn}/{name}' (format parquet)")
    lakehouse.dbt(*chosen, "--target", "spark_local")
    assert f"{torn}/part-0.parquet" not in names(lakehouse)
    compared = lakehouse.run(
        "lakebed", "parity", "--keep", "--home", str(lakehouse.home / "lake"), check=False
    )
    assert compared.returncode == 0, compared.stdout
    assert ", 0 different." in compared.stdout
    assert int(compared.stdout.split()[0]) >= 4
    assert [*lakehouse.home.rglob("*.parquet")] == []
    tables = {name.split("/warehouse/")[1] for name in names(lakehouse) if "/warehouse/" in name}
    assert any(name.startswith("gold.db/dim_products/_delta_log/") for name in tables)


def test_old_objects_go(store: ObjectStore, tmp_path: Path) -> None:  # noqa: ARG001
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_STORE": place()})
    for day in DELIVERIES:
        lakehouse.land("--until", day, *LAND)
        lakehouse.dbt("build", "--select", "+dim_products", *NO_TESTS)
    before, rows = names(lakehouse), lakehouse.hashes()
    lakehouse.dbt("run-operation", "optimize", "--args", "{relation: ops.positions}")
    later = "2099-01-01 00:00:00"
    lakehouse.dbt("run-operation", "expire", "--args", "{keep_days: 7}", as_of=later)
    assert before - names(lakehouse)
    assert lakehouse.hashes() == rows


def test_what_was_acknowledged_is_there(store: ObjectStore, team: TeamLakehouse) -> None:
    """The store is killed under a server of webhooks: it says 503, and goes on when it is back."""
    team.env["LAKEBED_STORE"] = place()
    body = json.dumps({"id": 1, "text": "x" * 20_000})
    with serving(team, patience=0.5) as (_, client):
        answers: list[int] = []

        def insist(name: str) -> None:
            while True:
                answers.append(post(client, name, body).status_code)
                if answers[-1] == 200:
                    return
                time.sleep(0.2)

        def kill() -> None:
            for _ in range(3):
                time.sleep(1)
                store.kill()
                time.sleep(1.5)
                store.start()

        killer = threading.Thread(target=kill)
        killer.start()
        sent = []
        with ThreadPoolExecutor(4) as pool:
            while killer.is_alive():
                some = [uuid.uuid4().hex for _ in range(8)]
                sent += some
                list(pool.map(insist, some))
        killer.join()
    assert {200, 503} == set(answers)
    rows = team.query("select _key from bronze.shop__orders")
    assert sorted(key for (key,) in rows) == sorted(sent)


def test_nothing_of_an_erased_person_is_left(store: ObjectStore, tmp_path: Path) -> None:  # noqa: ARG001
    """In the store; of a profile that names it itself."""
    project, where = shop.project(tmp_path / "shop"), place()
    profiles = yaml.safe_load((project.folder / "profiles.yml").read_text())
    (output,) = profiles[NAME]["outputs"].values()
    output["attach"][0]["options"]["data_path"] = f"{where}/files/"
    project.write("profiles.yml", yaml.safe_dump(profiles))
    shop.fill(project, builds=1)
    values = [word for value in shop.IDENTIFYING for word in ("--value", value)]
    found = shop.erase(project, "verify", "customer", shop.ADA, *values, check=False).stderr
    assert f"{where}/files/main_snapshots/snap_customers/" in found
    assert "inside Parquet" in found
    shop.erase(project, "run", "customer", shop.ADA)
    done = shop.erase(project, "verify", "customer", shop.ADA, *values).stdout
    assert "Nothing is left" in done
    with duckdb.connect() as connection:
        load_extensions(connection)
        reach(connection, where)
        left = connection.execute(
            "select filename, content from read_blob(?)", [f"{where}/**"]
        ).fetchall()
    assert len(left) > 3
    assert [name for name, content in left if shop.ADA.encode() in content] == []


@pytest.mark.parametrize("where", ["folder", "store"])
def test_folders_without_files_go(
    store: ObjectStore,  # noqa: ARG001
    tmp_path: Path,
    where: str,
) -> None:
    root = str(tmp_path) if where == "folder" else place()
    files, path = filesystem(root)
    for name in ("day=1/shop=2", "day=1/shop=3", "day=2", "_log/day=3"):
        files.create_dir(f"{path}/{name}", recursive=True)
    with files.open_output_stream(f"{path}/day=1/shop=3/file") as file:
        file.write(b"rows")

    def left() -> list[str]:
        found = files.get_file_info(FileSelector(path, recursive=True))
        return sorted(each.path.removeprefix(f"{path}/") for each in found)

    remove_empty_folders(root, spare="_")
    kept = ["day=1", "day=1/shop=3", "day=1/shop=3/file"]
    assert left() == ["_log", "_log/day=3", *kept]
    remove_empty_folders(f"{root}/")
    assert left() == kept
    remove_empty_folders(f"{root}/nowhere")


class SessionProject(DbtProject):
    """A project whose dbt has Spark in its own process."""

    schema = "main"

    def _profile(self) -> dict[str, Any]:
        self.parsed = "spark"
        output = {"type": "spark", "method": "session", "host": "none", "schema": self.schema}
        return {"target": "spark", "outputs": {"spark": output}}


@pytest.mark.soak
@pytest.mark.spark
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("store", "spark")
@pytest.mark.parametrize("table_format", ["delta", "iceberg"])
def test_nothing_of_an_erased_person_is_left_on_spark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_format: str
) -> None:
    where, environment = place(), shop.environment
    settings = {"LAKEBED_STORE": where, "LAKEBED_TABLE_FORMAT": table_format}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(shop, "environment", lambda *given: {**environment(*given), **settings})
    project = shop.project(tmp_path / "shop", kind=SessionProject, small=True)
    file = project.folder / "dbt_project.yml"
    config = yaml.safe_load(file.read_text("utf-8"))
    for kind in ("models", "snapshots"):
        config[kind]["+file_format"] = table_format
    # A folder is named by her: of a partition, which no version has any more.
    config["models"][NAME] = {"silver_shop__customers": {"+partition_by": ["customer"]}}
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    project.write("macros/spark_incremental.sql", SPARK_STRATEGIES.read_text("utf-8"))
    shop.fill(project, builds=1)

    def rows() -> dict[str, Any]:
        orders = "main_silver.silver_shop__orders"
        sql = f"select count(*) as n, sum(amount) as amount from {orders} union all"
        sql += f" select count(*), null from {orders} where customer = 'erased'"
        printed = project.run("show", "--quiet", "--inline", sql, "--output", "json").log
        shown: dict[str, Any] = json.JSONDecoder().raw_decode(printed[printed.index("{") :])[0]
        return shown

    before = rows()
    values = [word for value in shop.IDENTIFYING for word in ("--value", value)]
    found = shop.erase(project, "verify", "customer", shop.ADA, *values, check=False).stderr
    part, log = {
        "delta": ("/part-", "_delta_log/00000000000000000000.json: bytes"),
        "iceberg": ("/data/", "inside Avro"),
    }[table_format]
    assert f"{where}/spark/warehouse/main_snapshots.db/snap_customers{part}" in found
    assert log in found
    assert f"/customer={shop.ADA}/" in found
    shop.erase(project, "run", "customer", shop.ADA)
    done = shop.erase(project, "verify", "customer", shop.ADA, *values).stdout
    assert "Nothing is left" in done
    left = {name: copy.read_bytes() for name, copy in objects(where)}
    assert len(left) > 20
    assert not [n for n, content in left.items() if shop.ADA in n or shop.ADA.encode() in content]
    files, root = filesystem(where)
    listed = files.get_file_info(FileSelector(root, recursive=True))
    assert not [each.path for each in listed if shop.ADA in each.path]
    all_orders, erased = before["show"]
    assert rows()["show"] == [all_orders, {**erased, "n": 31}]
    project.run("build", env={"LAKEBED_ERASURE_KEY": shop.KEY})


def test_what_a_person_reads(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Of a store that refuses, and of one that is away."""

    def said(where: str) -> str:
        with duckdb.connect() as connection:
            load_extensions(connection)
            reach(connection, where)
            with pytest.raises(duckdb.Error) as raised:
                connection.execute(f"copy (select 1) to '{where}/a.parquet'")
        line = explain(raised.value) or ""
        assert classify(raised.value) == (TRANSIENT if "does not answer" in line else PERMANENT)
        return line

    where = place()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = said(where)
    assert refused.startswith(f"The object store did not take or give {where}/a.parquet (Signature")
    assert refused.endswith(" Check the key that AWS's variables or files give, and its rights.")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = "The object store http://127.0.0.1:9 does not answer as it should "
    cause = "(Could not connect to server): check AWS_ENDPOINT_URL, and that it runs."
    assert said(where) == away + cause


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to server"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9"}, "AWS_ENDPOINT_URL is http://host:port"),
        ({"LAKEBED_STORE": "gs://lake/one"}, "LAKEBED_STORE is s3://bucket/folder"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "No key for s3://"),
    ],
)
def test_mistakes_are_one_line(
    store: ObjectStore,  # noqa: ARG001
    tmp_path: Path,
    settings: dict[str, str],
    says: str,
) -> None:
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_STORE": place(), **settings})
    lakehouse.land("--until", DELIVERIES[0], *LAND)
    done = lakehouse.dbt("run", "--select", "bronze_retail__products", check=False)
    assert done.returncode
    lines = [line for line in done.stdout.splitlines() if says in line]
    assert lines, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
