"""Dual writes: found in code, and what they lose that an outbox does not, on a real database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from broker import Broker
from lakebed.audit.dual_write import find
from lakehouse import Lakehouse
from postgres import Postgres
from streams import everything
from test_capture import Capturing

PROVES = ["pat-outbox-cdc"]

#: What has it: the function that is found, and the code.
HAS = {
    "of the guide": (
        "create_order",
        """
        def create_order(db, kafka, order):
            db.insert(order)
            kafka.send(order)
        """,
    ),
    "sql and a producer": (
        "create",
        """
        class Orders:
            async def create(self, order):
                async with self.pool.acquire() as conn:
                    await conn.execute("  INSERT INTO orders (id) VALUES ($1)", order.id)
                self.producer.produce("orders", order.json())
        """,
    ),
    "by helpers": (
        "checkout",
        """
        def checkout(session, cart):
            save(session, cart)
            publish_all(cart)
        def save(session, cart):
            session.add(cart)
            session.commit()
        def publish_all(cart):
            for line in cart:
                publish(line)
        def publish(line):
            sns_client.publish(TopicArn="x", Message=line)
        """,
    ),
    "a cache": (
        "rename",
        """
        def rename(cursor, redis, name):
            cursor.execute(text(f"update users set name = {name}"))
            redis.set("user", name)
        """,
    ),
    "models of Django, and an index": (
        "store",
        """
        def store(self, document):
            Document.objects.create(**document)
            self.es.index(index="documents", body=document)
        """,
    ),
}
#: What nearly has it.
NEARLY = {
    "an outbox": """
        def create_order(db, order):
            with db.transaction():
                db.execute("insert into orders values (1)")
                db.execute("insert into outbox (payload) values ('x')")
    """,
    "a relay": """
        def relay(db, producer):
            for row in db.execute("select * from outbox where sent_at is null"):
                producer.produce("orders", row.payload)
                db.execute("update outbox set sent_at = now() where id = 1")
    """,
    "two functions, each with its own": """
        def save(session, order):
            session.add(order)
        def tell(producer, order):
            producer.send("orders", order)
        def main():
            print("neither")
    """,
    "a read": """
        def show(cursor, producer):
            cursor.execute("select * from orders")
            producer.send("orders", cursor.fetchall())
    """,
    "threads": """
        def work(db, queue, done):
            db.insert(1)
            queue.put(1)
            done.set()
    """,
    "a function inside, that others call": """
        def make(session, producer):
            def later(order):
                producer.send("orders", order)
            session.add(1)
            return later
    """,
    "it is meant": """
        def metrics(db, kafka, order):  # lakebed: ignore dual-write: the metric may be lost
            db.insert(order)
            kafka.send(order)
    """,
    "the word in a text": """
        def explain(logger, producer):
            logger.info("insert into orders")
            producer.send("orders", "x")
    """,
    "no Python": "def broken(:\n    db.insert(1); kafka.send(1)",
    "nothing": "",
}


def file(folder: Path, code: str) -> Path:
    lines = code.strip("\n").splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    path = folder / "app.py"
    path.write_text("\n".join(line[margin:] for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", HAS)
def test_found(tmp_path: Path, name: str) -> None:
    function, code = HAS[name]
    path = file(tmp_path, code)
    (found,) = find(path)
    assert found.message.startswith(f"{function} writes to a database (line ")
    assert f"def {function}(" in path.read_text().splitlines()[found.line - 1]
    assert found.remedy == "pat-outbox-cdc"


@pytest.mark.parametrize("name", NEARLY)
def test_no_false_alarm(tmp_path: Path, name: str) -> None:
    assert find(file(tmp_path, NEARLY[name])) == []


def test_the_command(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    (tmp_path / "src" / ".venv").mkdir(parents=True)
    file(tmp_path / "src", HAS["of the guide"][1])
    file(tmp_path / "src" / ".venv", HAS["of the guide"][1])
    done = lakehouse.run("lakebed", "audit", str(tmp_path / "src"), check=False)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path}/src/app.py:1: dual-write (critical): create_order writes")
    assert "1 Python files, 1 findings." in done.stderr
    gone = lakehouse.run("lakebed", "audit", str(tmp_path / "none"), check=False)
    assert (gone.returncode, gone.stderr) == (1, f"Error: There is no {tmp_path}/none.\n")
    # Lakebed's own code, and what it has been tried on.
    own = lakehouse.run("lakebed", "audit", "python", "models", check=False)
    assert own.returncode == 0, own.stdout


APPLICATION = """
import os, signal, sys
import psycopg
from confluent_kafka import Producer

postgres, servers, topic, way, dies_at = sys.argv[1:]
producer = Producer({"bootstrap.servers": servers, "log_level": 0})
with psycopg.connect(postgres, autocommit=True) as connection:
    for order in range(20):
        with connection.transaction():
            connection.execute("insert into app.items values (%s, %s, 1)", (order, way))
            if way == "outbox":
                connection.execute("insert into app.empty values (%s)", (order,))
        if order == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "dual":
            producer.produce(topic, str(order))
            producer.flush()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Postgres:
    postgres = Postgres(tmp_path / "pg")
    postgres.start()
    postgres.execute(
        "create schema app",
        "create table app.items (id bigint primary key, name text, price numeric(12, 2))",
        "create table app.empty (id bigint primary key)",  # the outbox
    )
    return postgres


def lives(shop: Postgres, broker: Broker, topic: str, way: str, dies_at: int) -> None:
    """An application that is killed between its commit and its second write."""
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, shop.url, broker.servers, topic, way, str(dies_at)],
        env=os.environ,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_dual_write_loses_what_an_outbox_does_not(
    shop: Postgres, broker: Broker, tmp_path: Path
) -> None:
    try:
        topic = broker.topic("orders")
        lives(shop, broker, topic, "dual", 7)
        (orders,) = shop.query("select count(*) from app.items")
        assert orders == (8,)
        assert len(everything(broker, topic)) == 7  # the last order is nobody's news

        with psycopg.connect(shop.url, autocommit=True) as connection:
            connection.execute("delete from app.items")
        (tmp_path / "lake").mkdir()
        capturing = Capturing(tmp_path / "lake", shop, read="triggers")
        capturing.run("--install")
        lives(shop, broker, topic, "outbox", 7)
        capturing.run()
        events = capturing.lakehouse.query("select count(*) from bronze.shop__empty")
        assert events == shop.query("select count(*) from app.items") == [(8,)]
    finally:
        shop.stop()
