"""What a device keeps on its disk: torn, damaged, full, restored; nothing lost, nothing twice."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lakebed.edge import Edge, EdgeBusy, EdgeError, EdgeFull
from lakebed.edge.frames import Batch, pack, unpack
from lakebed.edge.store import Store
from lakebed.ingest.gateway import Held, settle

PROVES = ["pat-edge-batching"]

SECRET = "whsec_c2VjcmV0"
NOWHERE = "http://127.0.0.1:1/edge/pumps"
PYTHON = str(Path(__file__).parents[1])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the power goes in a model only, nothing need wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def open_store(folder: Path, max_disk: int = 1 << 20, segment: int = 300, **more: bool) -> Store:
    return Store(folder, "pump", max_disk, segment, **more)


def all_records(store: Store) -> dict[int, bytes]:
    """Everything that would be sent, by sequence; each batch is one that the gateway can read."""
    found: dict[int, bytes] = {}
    while batch := store.read(3, 10_000, 0):
        assert unpack(pack(batch), 1 << 20) == batch
        for each in batch.frames():
            assert each.sequence not in found
            found[each.sequence] = each.record(batch.data)
        *_, last = batch.frames()
        store.settle(batch.end, last.link)
    return found


def test_only_the_standard_library_is_needed() -> None:
    """A device has no pip: without site-packages, and without anything else of ours."""
    code = (
        f"import sys; sys.path.insert(0, {PYTHON!r}); import lakebed.edge;"
        "print([m for m in sys.modules if m.startswith('lakebed.') and 'edge' not in m])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("quick")
def test_a_torn_tail_is_cut_off(tmp_path: Path) -> None:
    """The last segment ends at any byte, or in rubbish: whole records stay, their numbers go on."""
    whole = tmp_path / "whole"
    store = open_store(whole, segment=10_000)
    records = [f"record {number}".encode() * (number % 3 + 1) for number in range(8)]
    ends = [(store.append(record, number), store.disk)[1] for number, record in enumerate(records)]
    store.sync()
    store.close()
    (segment,) = whole.glob("*.seg")
    data = segment.read_bytes()
    tails = [data[:size] for size in range(ends[4], len(data) + 1)]
    tails += [data + bytes(size) for size in (1, 28, 5000)]
    tails += [data[: ends[5]] + random.Random(seed).randbytes(40) for seed in range(30)]
    for number, tail in enumerate(tails):
        torn = tmp_path / str(number)
        shutil.copytree(whole, torn)
        (torn / segment.name).write_bytes(tail)
        store = open_store(torn, segment=10_000)
        kept = sum(end <= len(tail) and tail[:end] == data[:end] for end in ends)
        assert store.append(b"next", 0) == kept
        store.sync()
        assert all_records(store) == dict(enumerate([*records[:kept], b"next"]))
        store.close()


def test_a_segment_that_was_just_begun(tmp_path: Path) -> None:
    """The power goes while its header is written: its number is the next record's again."""
    for size in (0, 1, 8, 23, 24):
        store = open_store(tmp_path / str(size), segment=60)
        assert [store.append(b"x" * 20, 0) for _ in range(2)] == [0, 1]
        store.sync()
        store.close()
        last = max((tmp_path / str(size)).glob("*.seg"))
        assert int(last.stem) == 1
        os.truncate(last, size)
        store = open_store(tmp_path / str(size), segment=60)
        assert [store.append(b"y" * 20, 0) for _ in range(2)] == [1, 2]
        store.sync()
        assert list(all_records(store).items()) == [(0, b"x" * 20), (1, b"y" * 20), (2, b"y" * 20)]
        store.close()


@pytest.mark.usefixtures("quick")
def test_damage_takes_only_what_it_hits(tmp_path: Path) -> None:
    """Bytes turn over anywhere: what is sent is what was taken, the rest is declared missing."""
    whole = tmp_path / "whole"
    store = open_store(whole)
    records = [os.urandom(20) for _ in range(60)]
    for record in records:
        store.append(record, 0)
    store.sync()
    store.close()
    lost = 0
    for seed in range(150):
        rng = random.Random(seed)
        hurt = tmp_path / str(seed)
        shutil.copytree(whole, hurt)
        file = rng.choice(sorted(hurt.glob("*.seg")))
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        store = open_store(hurt)
        gateway = Gateway()
        while batch := store.read(7, 10_000, 0):
            gateway.take(batch, store)
        (held,) = gateway.held.values()
        found = {sequence: record for (_, sequence), record in gateway.rows.items()}
        assert all(records[sequence] == record for sequence, record in found.items())
        # Counted, but for what was cut off behind the last record of all.
        assert held.next - len(found) == held.lost
        lost += len(records) - len(found)
        store.close()
        shutil.rmtree(hurt)
    assert 100 < lost < 150 * 10  # a record or two; all behind it when its length is hit


class Gateway:
    """What `lakebed gateway` does with a batch, without the lake."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.rows: dict[tuple[str, int], bytes] = {}
        self.times: Counter[bytes] = Counter()

    def take(self, batch: Batch, store: Store, answered: bool = True) -> str:
        batch = unpack(pack(batch), 1 << 24)
        verdict = settle(batch, self.held.get(batch.epoch))
        if not verdict.refused:
            for each in batch.frames():
                if each.sequence >= verdict.first:
                    self.rows[batch.epoch, each.sequence] = each.record(batch.data)
                    self.times[each.record(batch.data)] += 1
            self.held[batch.epoch] = verdict.held
        if answered:
            store.settle(verdict.held.next, verdict.held.link)
        return verdict.refused


def life_of_a_device(folder: Path, seed: int, restored: bool) -> Counter[str]:
    """A device's life with power cuts, lost answers, little room, and (`restored`) a disk that
    comes back from an old copy, a lake that does, and a lost disk: every record that was promised
    is stored, or counted as given up; once, unless a copy brought it back."""
    rng = random.Random(seed)
    room = rng.choice([1 << 20, 4000])
    live, copy = folder / "live", folder / "copy"
    gateway = Gateway()
    seen: Counter[str] = Counter()
    promised: set[bytes] = set()
    unsynced: list[bytes] = []
    gone: set[bytes] = set()
    sizes: dict[str, int] = {}
    number = 0

    def start() -> Store:
        return open_store(live, room, drop_oldest=room < 10_000)

    def note_sizes() -> None:
        sizes.clear()
        sizes.update({path.name: path.stat().st_size for path in live.glob("*.seg")})

    store = start()
    held_copy: dict[str, Held] = {}
    for _ in range(rng.randint(50, 400)):
        action = rng.choices(
            (
                "append",
                "sync",
                "send",
                "lost answer",
                "power",
                "copy",
                "restore",
                "old lake",
                "new",
            ),
            (60, 10, 20, 8, 4, *((1, 1, 0.5, 0.3) if restored else (0, 0, 0, 0))),
        )[0]
        seen[action] += 1
        if action == "append":
            record = f"{number} {'x' * rng.randrange(60)}".encode()
            number += 1
            before = {path.name for path in live.glob("*.seg")}
            store.append(record, 0)
            rolled = {path.name for path in live.glob("*.seg")} - before
            if rolled:  # which syncs what is before
                promised.update(unsynced)
                unsynced = []
                for path in live.glob("*.seg"):
                    sizes[path.name] = path.stat().st_size
                sizes[rolled.pop()] = 24
            unsynced.append(record)
        elif action == "sync" or (action in ("send", "lost answer") and rng.random() < 0.5):
            store.sync()
            promised.update(unsynced)
            unsynced = []
            note_sizes()
        if action in ("send", "lost answer"):
            if batch := store.read(rng.randint(1, 9), 400, 0):
                seen[gateway.take(batch, store, action == "send") or "taken"] += 1
        elif action == "power":
            store.close()
            if files := sorted(live.glob("*.seg")):
                size = files[-1].stat().st_size
                with files[-1].open("r+b") as file:
                    file.truncate(rng.randint(sizes.get(files[-1].name, 24), size))
            store = start()
            kept = store.end
            store.sync()
            # What of it survived may be sent, and need not.
            unsynced = []
            note_sizes()
            assert store.end == kept
        elif action == "copy":
            store.close()
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(live, copy)
            held_copy = dict(gateway.held)
            store = start()
            promised.update(unsynced)
            unsynced = []
            note_sizes()
        elif action in ("restore", "new"):
            if action == "restore" and not copy.exists():
                continue
            # What was not sent, and is not in the copy, is gone with the disk.
            gone |= promised - set(gateway.times)
            unsynced = []
            store.close()
            shutil.rmtree(live)
            if action == "restore":
                shutil.copytree(copy, live)
            store = start()
            note_sizes()
        elif action == "old lake" and held_copy:
            gateway.held = dict(held_copy)
            gone |= set(gateway.times)  # as far as the device has deleted it
            gateway.times.clear()
            gateway.rows.clear()
    store.sync()
    promised.update(unsynced)
    tries = 0
    while batch := store.read(5, 1000, 0):
        gateway.take(batch, store)
        tries += 1
        assert tries < 2000, "a device and its gateway never agree"
    assert store.waiting == 0
    store.close()
    seen["epochs"] = len(gateway.held)
    lost = sum(held.lost for held in gateway.held.values())
    missing = promised - set(gateway.times) - gone
    if room > 10_000:
        assert not missing
    if not restored:
        assert len(missing) <= lost <= number
        assert max(gateway.times.values(), default=1) == 1
        (held,) = gateway.held.values() if gateway.held else [Held(0, None)]
        assert held.next == len(gateway.rows) + held.lost
    return seen


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("restored", [False, True])
def test_a_life_of_faults(tmp_path: Path, restored: bool) -> None:
    seen: Counter[str] = Counter()
    for seed in range(40):
        seen += life_of_a_device(tmp_path / str(seed), seed, restored)
    assert seen["taken"] > 500
    assert seen["power"] > 100
    if restored:
        assert seen["epochs"] > 50
        assert seen["this is another history of the device"] > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("restored", [False, True])
def test_a_life_of_faults_soak(tmp_path: Path, restored: bool) -> None:
    for seed in range(1000, 5000):
        life_of_a_device(tmp_path / str(seed), seed, restored)
        shutil.rmtree(tmp_path / str(seed))


def test_a_folder_is_for_one_process_and_one_device(tmp_path: Path) -> None:
    with Edge("pump-7", NOWHERE, SECRET, tmp_path, background=False) as edge:
        assert edge.send({"id": 1}) == 0
        code = (
            f"import sys; sys.path.insert(0, {PYTHON!r})\n"
            "from lakebed.edge import Edge, EdgeBusy\n"
            f"try: Edge('pump-7', {NOWHERE!r}, {SECRET!r}, {str(tmp_path)!r})\n"
            "except EdgeBusy as error: print(error)"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "in use by another process" in other.stdout, other.stderr
        with pytest.raises(EdgeBusy):
            Edge("pump-7", NOWHERE, SECRET, tmp_path)
        edge.close(0)
    with pytest.raises(EdgeError, match=r"is of the device pump-7, not of pump-8"):
        Edge("pump-8", NOWHERE, SECRET, tmp_path)
    with Edge("pump-7", NOWHERE, SECRET, tmp_path, background=False) as again:
        assert again.send("é") == 1
        again.close(0)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"device": "a/b"}, "device is"),
        ({"url": "lake.example.com"}, "url is"),
        ({"secret": "no base64!"}, "secret is not base64"),
        ({"full": "explode"}, "full is refuse or drop_oldest"),
        ({"batch": 0}, "batch is 1 or more"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, settings: dict[str, object], line: str) -> None:
    right: dict[str, object] = {"device": "d", "url": NOWHERE, "secret": SECRET, "folder": tmp_path}
    with pytest.raises(EdgeError, match=line):
        Edge(**{**right, **settings})  # type: ignore[arg-type]


def test_what_is_no_record(tmp_path: Path) -> None:
    with Edge("d", NOWHERE, SECRET, tmp_path, background=False, batch_bytes=2000) as edge:
        for wrong in ({"x": float("nan")}, {"x": object()}, "\ud800", b"x" * 2000):
            with pytest.raises(EdgeError, match="not taken"):
                edge.send(wrong)  # type: ignore[arg-type]
        assert edge.waiting == 0
        edge.close(0)


@pytest.mark.usefixtures("quick")
def test_no_room_refuses_or_drops(tmp_path: Path) -> None:
    with Edge("d", NOWHERE, SECRET, tmp_path / "a", background=False, max_disk=20_000) as edge:
        refused = ""
        while not refused:
            try:
                edge.send(b"x" * 100)
            except EdgeFull as error:
                refused = str(error)
        assert "max_disk" in refused
        held = edge.waiting
        assert 100 < held < 200
        with pytest.raises(EdgeFull):
            edge.send(b"x" * 100)
        assert edge.waiting == held
        assert sum(f.stat().st_size for f in (tmp_path / "a").glob("*.seg")) <= 20_000
        edge.close(0)
    options = {"background": False, "max_disk": 20_000, "full": "drop_oldest"}
    with Edge("d", NOWHERE, SECRET, tmp_path / "b", **options) as edge:  # type: ignore[arg-type]
        for number in range(5000):
            assert edge.send(f"{number:0100}") == number
        assert edge.dropped + edge.waiting == 5000
        assert sum(f.stat().st_size for f in (tmp_path / "b").glob("*.seg")) <= 20_000
        edge.close(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path) -> None:
    def fill() -> int:
        """Until the disk says no; how many were taken."""
        for taken in range(10_000):
            try:
                store.append(json.dumps({"id": taken, "text": "é" * 300}).encode(), 0)
            except EdgeFull as error:
                return taken if "No space left" in str(error) else -1
        return -1

    store = open_store(small_disk, segment=30_000)
    taken = fill()
    store.sync()
    store.close()
    store = open_store(small_disk, segment=30_000)
    assert store.end == taken > 100
    assert len(all_records(store)) == taken
    # What the gateway has makes room, although not a byte is free to begin with.
    assert store.append(b"{}", 0) == taken
    assert fill() > 100
    # A disk that others fill, too, and a client that gives up its oldest.
    store.drop_oldest = True
    before = store.waiting
    for _ in range(500):
        store.append(b"x" * 600, 0)
    assert store.dropped > 200
    left = store.waiting
    assert left < before + 500
    store.sync()
    assert len(all_records(store)) == left  # nothing half-written between them
    store.close()


def test_a_disk_that_fails_to_sync_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync would say that all is well: it is not asked."""
    edge = Edge("d", NOWHERE, SECRET, tmp_path, background=False, sync=60)
    edge.send({"id": 1})

    def fails(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(EdgeError, match="failed to write"):
        edge.sync()
    monkeypatch.undo()
    with pytest.raises(EdgeError, match="open it anew"):
        edge.flush()
    with pytest.raises(EdgeError):
        edge.close()
    with Edge("d", NOWHERE, SECRET, tmp_path, background=False) as again:
        assert again.waiting == 1
        again.close(0)
