"""A small shop whose customers can be erased: files, bronze, silver, quarantine, gold, snapshot."""

# ruff: noqa: E501  # lines of YAML, SQL and CSV
from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import warm
import yaml
from harness import ROOT, DbtProject
from lakebed.spark.cluster import Cluster

KEY = "a secret of the tests, 32 letters"
ADA = "cust-93f2a-ada"
#: Byte strings that occur nowhere by chance.
IDENTIFYING = (ADA, "ada.93f2a@example.org", "Ada Q. Lovelace-93f2a")
AS_OF = "2024-03-01 00:00:00"

_LINES = """
      - {name: _source}
      - {name: _header}
      - {name: _record, meta: {subject: customer, line_of: SILVER}}
"""

_COPY = """
      - {name: _record, data_type: string, meta: {subject: customer, lines_from: BRONZE}}
      - {name: _row_hash, data_type: string}
      - {name: broken_rules, data_type: string}
"""

_VERDICT = "      - {name: broken_rules, data_type: string}"

_CUSTOMERS = """
      - {name: customer, data_type: string, constraints: [{type: not_null}], meta: {subject: customer}}
      - {name: email, data_type: string, meta: {identifies: customer}}
      - {name: full_name, data_type: string, meta: {identifies: customer}}
      - {name: city, data_type: string}
"""

_ORDERS = """
      - {name: order_id, data_type: bigint, constraints: [{type: not_null}]}
      - {name: customer, data_type: string, constraints: [{type: not_null}], meta: {subject: customer, aliases: [buyer]}}
      - {name: email, data_type: string, meta: {identifies: customer}}
      - {name: note, data_type: string}
      - {name: amount, data_type: "decimal(12,2)", constraints: [{type: not_null}]}
      - {name: ordered_at, data_type: timestamp}
"""

_ERASED = "{customer: {anonymise: {customer: erased, email: null}}}"


def _yaml() -> str:
    def silver(name: str, columns: str, policy: str) -> str:
        bronze = f"bronze_shop__{name}"
        copied = _COPY.replace("BRONZE", bronze)
        return f"""
  - name: {bronze}
    config: {{materialized: incremental, incremental_strategy: append, schema: bronze, meta: {{erase: {policy}}}}}
    columns:{_LINES.replace("SILVER", f"silver_shop__{name}")}
  - name: silver_shop__{name}
    config:
      materialized: incremental
      incremental_strategy: append
      schema: silver
      pre_hook: "{{{{ lakebed.advance_position() }}}}"
      meta: {{erase: {policy}, rules: [{{name: odd, expression: customer != 'nobody'}}]}}
    columns:{columns}{copied.replace(_VERDICT, "")}
  - name: quarantine_shop__{name}
    config:
      materialized: incremental
      incremental_strategy: append
      schema: quarantine
      pre_hook: "{{{{ lakebed.advance_position() }}}}"
      meta: {{erase: {policy}}}
    columns:{columns}{copied}"""

    return f"""
models:{silver("customers", _CUSTOMERS, "{customer: delete}")}{silver("orders", _ORDERS, _ERASED)}
  - name: dim_customers
    config: {{materialized: table, meta: {{erase: {{customer: delete}}}}}}
    columns:
      - {{name: customer_key, data_type: string, meta: {{identifies: customer}}}}
      - {{name: customer, data_type: string, meta: {{subject: customer}}}}
      - {{name: email, data_type: string, meta: {{identifies: customer}}}}
  - name: fct_orders
    config: {{materialized: table, meta: {{erase: {{customer: {{anonymise: {{customer_key: "-1", customer: erased}}}}}}}}}}
    columns:
      - {{name: customer_key, data_type: string, meta: {{identifies: customer}}}}
      - {{name: customer, data_type: string, meta: {{subject: customer}}}}
  - name: agg_orders
    config: {{materialized: table, meta: {{erase: {{customer: none}}}}}}
snapshots:
  - name: snap_customers
    relation: ref('silver_shop__customers')
    config: {{unique_key: customer, strategy: check, check_cols: [city], schema: snapshots, meta: {{erase: {{customer: delete}}}}}}
    columns:{_CUSTOMERS}{_COPY.replace("BRONZE", "bronze_shop__customers").replace(_VERDICT, "")}
"""


def _checked(name: str) -> str:
    return (
        f"with checked as ({{{{ lakebed.checked_rows(ref('bronze_shop__{name}'), 'silver_shop__{name}',"
        f" lakebed.new_batches(ref('bronze_shop__{name}'))) }}}})"
    )


def _models() -> dict[str, str]:
    files = {"models/shop.yml": _yaml()}
    for name, key in (("customers", "customer"), ("orders", "order_id")):
        files[f"models/bronze_shop__{name}.sql"] = (
            f"{{{{ lakebed.landed_lines('shop', '{name}') }}}}"
        )
        files[f"models/silver_shop__{name}.sql"] = f"""{_checked(name)},
valid as ({{{{ lakebed.valid_rows('checked') }}}}),
firsts as ({{{{ lakebed.deduplicate('valid', ['{key}'], '_batch_id, _file_name, _line') }}}})
{{{{ lakebed.rows_not_held('firsts', ['{key}']) }}}}"""
        files[f"models/quarantine_shop__{name}.sql"] = (
            f"{_checked(name)} {{{{ lakebed.quarantined_rows('checked', ref('silver_shop__{name}'), ['{key}']) }}}}"
        )
    files["models/dim_customers.sql"] = (
        "select {{ lakebed.surrogate_key(['customer']) }} as customer_key, customer, email, city"
        " from {{ ref('silver_shop__customers') }}"
    )
    files["models/fct_orders.sql"] = """
select
    coalesce(customers.customer_key, '-1') as customer_key, orders.customer, orders.order_id,
    orders.amount, orders.ordered_at
from {{ ref('silver_shop__orders') }} as orders
left join {{ ref('dim_customers') }} as customers on orders.customer = customers.customer"""
    files["models/agg_orders.sql"] = (
        "select cast(ordered_at as date) as order_date, count(*) as orders, sum(amount) as amount"
        " from {{ ref('fct_orders') }} group by 1"
    )
    return files


def project(
    folder: Path,
    cluster: Cluster | None = None,
    small: bool = False,
    kind: type[DbtProject] = DbtProject,
) -> DbtProject:
    """The shop; `small` is without gold and the customers' quarantine. Other projects of a cluster
    know nothing of its erasures, and nothing of its files."""
    landing = folder / "landing"
    own = f"_{uuid.uuid4().hex[:12]}" if cluster else ""
    files = _models()
    for name in ("dim_customers", "fct_orders", "agg_orders", "quarantine_shop__customers"):
        if small:
            del files[f"models/{name}.sql"]
    if small:
        text = files["models/shop.yml"]
        text = text[: text.index("  - name: dim_customers")] + text[text.index("snapshots:") :]
        refused = text.index("  - name: quarantine_shop__customers")
        orders = text.index("  - name: bronze_shop__orders")
        files["models/shop.yml"] = text[:refused] + text[orders:]
    files["tests/late_orders.sql"] = (
        "{{ config(severity='warn', store_failures=true) }}"
        " select * from {{ ref('silver_shop__orders') }} where order_id > 920"
    )
    return kind(
        folder,
        files,
        vars={"landing": str(landing), "as_of": AS_OF, "lakebed_ops_schema": f"ops{own}"},
        config={
            "models": {
                "lakebed": {"bronze": {"landing": {"+enabled": True, "+schema": f"bronze{own}"}}}
            },
            "on-run-start": ["{{ lakebed.begin_build() }}", "{{ lakebed.create_positions() }}"],
            "on-run-end": ["{{ lakebed.settle_positions(results) }}", "{{ lakebed.end_build() }}"],
        },
        cluster=cluster,
        models=(
            "models/_groups.yml",
            "models/bronze/landing/_landing__bronze.yml",
            "models/bronze/landing/bronze_landing__files.py",
        ),
    )


@contextmanager
def restored(shop: DbtProject) -> Iterator[DbtProject]:
    """A shop that is as before afterwards, in its own place: the manifest knows the paths of its
    files."""
    kept = shop.folder.with_name("kept")
    shutil.copytree(shop.folder, kept, symlinks=True)
    yield shop
    shutil.rmtree(shop.folder)
    kept.rename(shop.folder)


def ops_schema(shop: DbtProject) -> str:
    config = yaml.safe_load((shop.folder / "dbt_project.yml").read_text())
    return str(config["vars"]["lakebed_ops_schema"])


def land(shop: DbtProject, entity: str, name: str, text: str | bytes) -> Path:
    path = shop.folder / "landing" / "shop" / entity / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


CUSTOMERS = "customer,email,full_name,city\n" + "".join(
    f"cust-{n:05},c{n}@example.org,Customer {n},City {n % 7}\n" for n in range(40)
)
ORDERS = "order_id,customer,email,note,amount,ordered_at\n"


def fill(shop: DbtProject, builds: int = 2) -> None:
    """Two batches, in as many builds: Ada is in plain, zipped, quoted, renamed, malformed and refused lines."""
    ada = f'{ADA},{IDENTIFYING[1]},"{IDENTIFYING[2]}",Turin\n'
    land(shop, "customers", "1.csv", CUSTOMERS + ada)
    others = [
        f'{n},cust-{n % 40:05},c{n % 40}@example.org,"a ""note"", with a comma",{n}.50,2024-01-0{1 + n % 7}\n'
        for n in range(1, 120)
    ]
    hers = [
        f'{n},{ADA},{IDENTIFYING[1]},"said ""hi"", twice",{n}.25,2024-01-0{1 + n % 7}\n'
        for n in range(900, 930)
    ]
    land(shop, "orders", "1.csv.gz", ORDERS + "".join(others[:60] + hers[:20]))
    land(shop, "orders", "1b.csv", ORDERS + "".join(others[:60] + hers[:20]))  # a duplicate
    if builds == 2:
        shop.run("build")
    malformed = f"940,{ADA},{IDENTIFYING[1]},too,many,fields,1.00,2024-01-02\n"
    refused = f"941,{ADA},{IDENTIFYING[1]},x,no amount,2024-01-02\n"
    land(
        shop,
        "orders",
        "2.csv",
        (ORDERS + "".join(others[60:]) + malformed + refused + "".join(hers[20:])).replace(
            "\n", "\r\n"
        ),
    )
    renamed = "amount,buyer,order_id,note,email,ordered_at\n"
    land(
        shop,
        "orders",
        "3.csv",
        renamed
        + f"7.75,{ADA},950,é,{IDENTIFYING[1]},2024-01-03\n1.00,cust-00001,951,,c1@example.org,2024-01-03\n",
    )
    land(
        shop,
        "customers",
        "2.csv",
        "customer,email,full_name,city\ncust-00041,z@example.org,Zed,Oslo\n",
    )
    shop.run("build")


def environment(shop: DbtProject, key: str | None = KEY) -> dict[str, str]:
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "LAKEBED_", "DBT_"))
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT / "python"),
        "DBT_PROFILES_DIR": str(shop.folder),
        "LAKEBED_HOME": str(shop.folder / "lake"),
        **(shop.cluster.environment if shop.cluster else {}),
        **({"LAKEBED_ERASURE_KEY": key} if key else {}),
    }


def start_erasure(shop: DbtProject, *arguments: str) -> subprocess.Popen[bytes]:
    """A process, the leader of a group that can be killed as one."""
    return subprocess.Popen(
        [sys.executable, "-c", "from lakebed.cli import main; main()", "erase", *arguments],
        cwd=shop.folder,
        env=environment(shop),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def erase(
    shop: DbtProject, *arguments: str, key: str | None = KEY, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = warm.run(("lakebed", "erase", *arguments), shop.folder, environment(shop, key))
    if check and done.returncode:
        raise AssertionError(f"erase {arguments}: {done.stdout}\n{done.stderr}")
    return done
