"""`lakebed.edge` and `lakebed gateway`: real processes, killed, cut off, cloned, forged."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from devices import SECRET, Device, Gateway
from lakebed.edge import Edge
from lakebed.edge.cli import POINTS
from lakebed.edge.frames import NO_LINK, Batch, frame, pack
from lakebed.edge.post import device_secret, key_of, signature
from lakehouse import Lakehouse, TeamLakehouse
from streams import peak_memory

PROVES = ["pat-edge-batching"]


def batch(first: int, count: int, missing_from: int | None = None, **more: Any) -> Batch:
    """A batch of the device `d`: record n is {"id": n}; of `tag`s, each is a history of its own."""
    link, data, tag = NO_LINK, b"", more.pop("tag", "")
    for number in range(first + count):
        record = json.dumps({"id": number, "tag": tag}).encode()
        before = link
        framed, link = frame(link, number, number, record)
        if number == first:
            start = before
        data = data + framed if number >= first else b""
    values = {"device": "d", "epoch": "0" * 16, "start": 0, "sent_at": int(time.time() * 1000)}
    values |= {"missing_from": first if missing_from is None else missing_from, **more}
    return Batch(first=first, before=start, data=data, end=first + count, **values)


def changed(body: bytes, **header: Any) -> bytes:
    """A batch with a header that is not its own."""
    line, _, records = gzip.decompress(body).partition(b"\n")
    return gzip.compress(json.dumps(json.loads(line) | header).encode() + b"\n" + records)


@contextmanager
def serving(lakehouse: Lakehouse, **settings: Any) -> Iterator[Gateway]:
    gateway = Gateway(lakehouse, settings)
    gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process and gateway.process.poll() is None:
            print(gateway.stop())  # pytest shows it when the test has failed


def test_who_gets_in_and_what_is_stored(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    limits = {"max_bytes": 2_000_000, "unpacked_bytes": 100_000, "waiting_bytes": 2_000_000}
    with serving(lakehouse, **limits) as gateway:
        good = pack(batch(0, 5))
        assert gateway.process
        first = gateway.post(good)
        assert first.status_code == 200, first.text
        said = first.json()
        assert (said["next"], said["stored"], said["duplicates"]) == (5, 5, 0)
        assert gateway.stored("d") == [0, 1, 2, 3, 4]  # an answer of 2xx: it is there

        # Again, at once and many times, overlapping, out of order, and with a hole.
        with ThreadPoolExecutor(8) as pool:
            again = list(pool.map(lambda _: gateway.post(good), range(8)))
        assert {(a.status_code, a.json()["stored"]) for a in again} == {(200, 0)}
        with ThreadPoolExecutor(8) as pool:
            overlapping = list(pool.map(lambda n: gateway.post(pack(batch(n, 9 - n))), range(1, 6)))
        assert {answer.status_code for answer in overlapping} == {200}
        assert sum(answer.json()["stored"] for answer in overlapping) == 4
        early = gateway.post(pack(batch(12, 3)))
        assert (early.status_code, early.json()["next"]) == (409, 9)
        assert gateway.post(pack(batch(9, 3))).json()["stored"] == 3
        assert gateway.post(pack(batch(12, 3))).json()["stored"] == 3
        # A hole that is declared is counted; one that is declared in part is none.
        assert gateway.post(pack(batch(20, 2, missing_from=16))).status_code == 409
        declared = gateway.post(pack(batch(20, 2, missing_from=15))).json()
        assert (declared["stored"], declared["lost"], declared["next"]) == (2, 5, 22)
        # Another device under the same name, and a disk from a copy.
        other = gateway.post(pack(batch(20, 4, tag="other")))
        assert (other.status_code, other.json()["next"]) == (409, 22)
        assert gateway.post(pack(batch(18, 4, tag="other"))).status_code == 409
        fresh = gateway.post(pack(batch(22, 2, tag="other", epoch="1" * 16, start=22)))
        assert fresh.json()["stored"] == 2

        # Refused records go to the DLQ, and are not refused again.
        bad, link = b"", NO_LINK
        for number, record in enumerate((b'{"no": 1}', b'{"id": 1}', b"\xff", b"{")):
            framed, link = frame(link, number, 0, record)
            bad += framed
        values = {"device": "e", "epoch": "2" * 16, "start": 0, "missing_from": 0, "sent_at": 0}
        mixed = Batch(first=0, before=NO_LINK, data=bad, end=4, **values)  # type: ignore[arg-type]
        for stored, dlq in ((1, 3), (0, 0)):
            answer = gateway.post(pack(mixed), "e").json()
            assert (answer["stored"], answer["dlq"]) == (stored, dlq)
        assert lakehouse.query("select category from ops.dlq order by position") == [
            ("schema",),
            ("malformed",),
            ("malformed",),
        ]

        # After a fix they are delivered, once, to where their endpoint goes.
        content = yaml.safe_load(gateway.file.read_text(encoding="utf-8"))
        content["endpoints"]["pumps"]["required"] = []
        fixed = tmp_path / "fixed.yml"
        fixed.write_text(yaml.safe_dump(content), encoding="utf-8")
        for answer in ("1 delivered, 2 refused again", "0 delivered, 2 refused again"):
            replayed = lakehouse.run("lakebed", "dlq", "replay", str(fixed)).stdout
            assert answer in replayed

        # A device's own secret signs for this device only.
        own, moment = device_secret(SECRET, "f"), int(time.time())
        for device, status in (("f", 200), ("g", 401)):
            body = pack(batch(0, 1, device=device))
            sign = signature(key_of(own), "m1", moment, body)
            headers = {"webhook-signature": sign, "webhook-timestamp": str(moment)}
            assert gateway.post(body, device, **headers).status_code == status

        before = peak_memory(gateway.process.pid)
        bomb = gzip.compress(bytes(400_000_000), 9)
        assert len(bomb) < 2_000_000
        line = gzip.decompress(good).partition(b"\n")[0]
        nested = gzip.compress(b"[" * 90_000 + b"\n")
        signed = "v1,AAAA"
        cases: list[tuple[int, bytes, dict[str, str]]] = [
            (401, good, {"webhook-signature": signed}),
            (401, good, {"webhook-signature": ""}),
            (401, good, {"webhook-id": "other"}),
            (401, good, {"webhook-timestamp": str(int(time.time()) - 3600)}),
            (401, good, {"webhook-timestamp": "nan"}),
            (401, good, {"webhook-timestamp": "²"}),
            (401, good, {"lakebed-device": "other"}),
            (401, pack(batch(0, 1, device="x")), {}),
            (415, good, {"content-type": "application/json"}),
            (413, b"x" * 2_000_001, {}),
            (413, bomb, {}),
            (401, bomb, {"webhook-signature": signed}),
            (400, nested, {}),
            (400, b"", {}),
            (400, b"no gzip", {}),
            (400, good[:-1], {}),
            (400, good + b"x", {}),
            (400, gzip.compress(line), {}),
            (400, gzip.compress(line + b"\n"), {}),
            (400, changed(good, count=4), {}),
            (400, changed(good, count=6), {}),
            (400, changed(good, first=1, missing_from=1), {}),
            (400, changed(good, missing_from=2), {}),
            (400, changed(good, start=-1), {}),
            (400, changed(good, first=1 << 70), {}),
            (400, changed(good, before="00"), {}),
            (400, changed(good, version=2), {}),
            (400, changed(good, device="a/b"), {}),
            (400, changed(good, epoch="x"), {}),
            (400, changed(good, sent_at=None), {}),
        ]
        for number, (status, body, headers) in enumerate(cases):
            answer = gateway.post(body, **{k: v.encode() for k, v in headers.items()})  # type: ignore[misc]
            assert answer.status_code == status, (number, answer.status_code, answer.text)
        for seed in range(60):
            rng = random.Random(seed)
            damaged = bytearray(good)
            damaged[rng.randrange(10, len(good))] ^= rng.randrange(1, 256)
            assert gateway.post(bytes(damaged)).status_code == 400
        grown = peak_memory(gateway.process.pid) - before
        assert grown < 60, f"{grown} MB for a bomb"

        assert gateway.stored("d") == [*range(15), 20, 21, 22, 23]
        positions = lakehouse.query(
            "select topic, position, state::json->>'lost' from ops.positions__edge"
            " where topic like 'pumps/d/%' order by 1"
        )
        assert positions == [(f"pumps/d/{'0' * 16}", 22, "5"), (f"pumps/d/{'1' * 16}", 24, "0")]
        headers = lakehouse.query(
            "select _offset, _headers::json->>'$[3]' from bronze.edge__pumps"
            " where _headers like '%lost-before%'"
        )
        assert headers == [(20, '["lost-before","5"]')]


def test_offline_for_a_day_with_a_wrong_clock(tmp_path: Path) -> None:
    """Thousands of records without a gateway, in several lives, by a clock ten years off."""
    lakehouse = Lakehouse(tmp_path)
    gateway = Gateway(lakehouse)
    skew = -10 * 365 * 86400.0
    options = {"batch": 400, "age": 0.2, "max_disk": 4_000_000}
    device = Device(tmp_path / "disk", gateway.url, skew=skew, options=options)
    offline = Device(device.folder, gateway.url, skew=skew, options=options | {"background": False})
    for life in range(3):
        process = offline.start(life * 2000, 2000)
        while len(offline.promised) < (life + 1) * 2000:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    gateway.start()
    try:
        assert device.run(6000, 10).split() == ["0", "None"]
        assert gateway.stored("pump-7") == list(range(6010))
        # Silver can tell when it really was: its own time, and what its clock was off by.
        (corrected, offset), *_ = lakehouse.query(
            "select max(abs(epoch_ms(_sent_at) + (_headers::json->>'$[2][1]')::bigint"
            " - epoch_ms(ingested_at))), min((_headers::json->>'$[2][1]')::bigint)"
            " from bronze.edge__pumps where _offset >= 6000"
        )
        assert corrected < 10_000
        assert abs(offset / 1000 + skew) < 10
    finally:
        gateway.stop()
    assert sum(file.stat().st_size for file in device.folder.glob("*.seg")) < 1_000_000


def killed_devices_and_gateways(tmp_path: Path, seed: int, rounds: int) -> None:
    """Devices and the gateway die at every step in turn, and between steps: each record is in the
    lake once."""
    lakehouse, rng = Lakehouse(tmp_path), random.Random(seed)
    gateway = Gateway(lakehouse, {"patience": 20})
    steps = ("received", "begun", "rows-written", "positions-moved", "committed", "acknowledged")
    options = {"batch": 20, "age": 0.05, "max_disk": 80_000, "sync": 0.02}
    devices = [Device(tmp_path / f"d{n}", gateway.url, f"d{n}", options=options) for n in range(2)]
    points = [point for point in POINTS if point != "dropped"]
    done = threading.Event()
    kills, wanted = {"gateway": 0, "device": 0}, max(3, rounds // 3)
    lives: dict[str, int] = {}

    def keep_the_gateway() -> None:
        life = 0
        while not done.is_set():
            gateway.start("--fail-at", f"{steps[life % len(steps)]}:{rng.randint(1, 4)}")
            life += 1
            while gateway.process and gateway.process.poll() is None and not done.is_set():
                time.sleep(0.02)
                if rng.random() < 0.002:
                    gateway.process.kill()
            kills["gateway"] += gateway.process is not None and gateway.process.poll() == -9

    def live(device: Device) -> None:
        # On a busy machine the gateway dies later than devices: they go on until it has.
        for life in range(rounds + 60):
            if life >= rounds and kills["gateway"] >= wanted:
                return
            lives[device.name] = life + 1
            point = f"{points[life % len(points)]}:{rng.randint(1, 3)}"
            process = device.start(life * 1000, 60, point)
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 1))
                process.kill()
            process.communicate(timeout=120)
            kills["device"] += process.returncode == -signal.SIGKILL

    keeper = threading.Thread(target=keep_the_gateway)
    keeper.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(live, devices))
    finally:
        done.set()
        keeper.join()
        if gateway.process and gateway.process.poll() is None:
            gateway.stop()
    gateway.start()
    try:
        for device in devices:
            assert device.run(10**6, 1).split() == ["0", "None"]
            stored = gateway.stored(device.name)
            assert len(stored) == len(set(stored))
            assert stored == sorted(stored)
            # `send` may have been killed between the write and its word.
            assert set(device.promised) <= set(stored)
            assert len(stored) - len(device.promised) <= lives[device.name]
        # All in one epoch, without a hole.
        assert lakehouse.query(
            "select count(*), sum((state::json->>'lost')::int) from ops.positions__edge"
            " where topic != '*'"
        ) == [(2, 0)]
    finally:
        gateway.stop()
    assert kills["device"] >= rounds
    assert kills["gateway"] >= wanted


@pytest.mark.timeout(300)
def test_killed_at_every_step(tmp_path: Path) -> None:
    killed_devices_and_gateways(tmp_path, 1, 7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_step_soak(tmp_path: Path) -> None:
    killed_devices_and_gateways(tmp_path, 2, 120)


def test_dropping_a_clone_and_a_new_lake(tmp_path: Path) -> None:
    """What was given up is counted by the gateway; two devices of one image go two ways; a lake
    that was lost gets what is still there."""
    lakehouse = Lakehouse(tmp_path)
    quiet: dict[str, Any] = {"background": False, "batch": 50}
    with serving(lakehouse) as gateway:
        with Edge(
            "small",
            gateway.url,
            SECRET,
            tmp_path / "s",
            max_disk=20_000,
            full="drop_oldest",
            **quiet,
        ) as edge:
            for number in range(1000):
                edge.send({"id": number, "pad": "x" * 80})
            assert (edge.flush(10), edge.trouble) == (0, None)
            dropped = edge.dropped
            assert dropped > 500
        stored = gateway.stored("small")
        assert stored == list(range(dropped, 1000))
        lost = (
            "select (state::json->>'lost')::int from ops.positions__edge where topic like '%/{}/%'"
        )
        assert lakehouse.query(lost.format("small")) == [(dropped,)]

        with Edge("pump", gateway.url, SECRET, tmp_path / "a", **quiet) as edge:
            edge.send_many({"id": number} for number in range(10))
            edge.flush(10)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        epochs = set()
        for first, image in ((100, "a"), (200, "b"), (300, "a")):
            with Edge("pump", gateway.url, SECRET, tmp_path / image, **quiet) as edge:
                edge.send_many({"id": first + number} for number in range(5))
                assert edge.flush(10) == 0
                epochs.add(edge.epoch)
        assert len(epochs) == 2
        ids = [*range(10), *range(100, 105), *range(200, 205), *range(300, 305)]
        assert sorted(gateway.stored("pump")) == ids

        # The lake is lost, and made anew.
        gateway.stop()
        shutil.rmtree(tmp_path / "lake")
        gateway.start()
        with Edge("pump", gateway.url, SECRET, tmp_path / "a", **quiet) as edge:
            edge.send({"id": 400})
            assert edge.flush(10) == 0
        kept = gateway.stored("pump")
        assert kept[-1] == 400
        assert lakehouse.query(lost.format("pump")) == [(20 + 1 - len(kept),)]


class _Odd(BaseHTTPRequestHandler):
    """Answers that a gateway gives when it must, and others that are not the gateway's."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: ClassVar[list[float]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(time.monotonic())
        status, headers, body = self.answers.pop(0) if self.answers else (500, {}, b"")
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


def test_what_is_not_an_acknowledgement(tmp_path: Path) -> None:
    """A login page's 200, a redirect, rubbish: nothing is deleted. Retry-After is kept to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/edge/pumps"
    link = b'{"next": 1, "link": "' + b"00" * 16 + b'"}'
    wrong = [
        (200, {}, b"<html>Please log in"),
        (302, {"Location": url}, b""),
        (200, {}, b'{"next": -1}'),
        (200, {}, b'{"next": 0, "link": null}'),
        (200, {}, b'{"next": true}'),
        (200, {}, b"[" * 60_000),
        (200, {"Content-Length": "1000"}, b"{"),
        (413, {}, b""),
        (500, {"Retry-After": "x"}, b""),
    ]
    try:
        with Edge("d", url, SECRET, tmp_path, background=False) as edge:
            edge.send({"id": 1})
            for answer in wrong:
                _Odd.answers[:] = [answer]
                assert edge.flush() == 1, answer
                assert edge.trouble, answer
            epoch = edge.epoch
            # Not our link: a new epoch begins, and nothing is deleted.
            _Odd.answers[:] = [(200, {}, link)]
            assert edge.flush() == 1
            assert edge.epoch != epoch
            edge.close(0)
        soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(2))
        epoch0 = {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(0))}
        for status, headers in (
            (429, {"Retry-After": "2"}),
            (503, epoch0 | {"Retry-After": soon}),  # by its clock, which is not ours
        ):
            with Edge("d", url, SECRET, tmp_path, background=False) as edge:
                _Odd.answers[:] = [(status, headers, b"")]
                assert edge.flush() == 1
                asked, rested = len(_Odd.asked), time.monotonic()
                assert edge.flush() == 1
                assert len(_Odd.asked) == asked
                edge.flush(3)
                assert len(_Odd.asked) > asked
                assert _Odd.asked[asked] - rested > 1.8
                edge.close(0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.team
def test_two_gateways_over_one_lake(team: TeamLakehouse) -> None:
    """Each batch goes to both at once, as after a lost answer behind a load balancer."""
    settings = {"batch": {"age": 0.001}, "patience": 30}
    with serving(team, **settings) as one, serving(team, **settings) as other:

        def both(number: int) -> int:
            body = pack(batch(number * 5, 6))  # overlapping by one
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda g: g.post(body), (one, other)))
            assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
            return sum(answer.json()["stored"] for answer in answers)

        assert [both(number) for number in range(12)] == [6] + [5] * 11
        assert one.stored("d") == list(range(61))


def test_by_hand(tmp_path: Path) -> None:
    """`lakebed edge send`: a line is a record; what waits is sent the next time."""
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_EDGE_SECRET": SECRET})
    gateway = Gateway(lakehouse)
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": 0}\n\n{"id": 1}\r\n{"id": 2, "text": "é"}')
    command = (
        "sh",
        "-c",
        f"exec lakebed edge send --device p --url {gateway.url} --wait 1 "
        f"--folder {tmp_path / 'p'} < {lines}",
    )
    failed = lakehouse.run(*command, check=False)
    assert failed.returncode == 1
    assert "3 records wait in" in failed.stderr
    assert "cannot be reached" in failed.stderr
    assert "Traceback" not in failed.stderr
    gateway.start()
    try:
        done = lakehouse.run(*command)
        assert "3 records taken, 3 waited before, 0 given up, 0 wait now." in done.stdout
        assert gateway.stored("p") == [0, 1, 2, 0, 1, 2]
        own = lakehouse.run("lakebed", "edge", "secret", "--device", "p").stdout.strip()
        assert own == device_secret(SECRET, "p")
    finally:
        gateway.stop()
