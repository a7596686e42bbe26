"""Faults as real file drops have them, from a seed, with the truth about each.

Whether a day's file gets a fault depends on the seed, the rate, the first day and the file's
name: landing more days later changes nothing in the files that are there. A file with a fault
as a whole has no faults in its lines, a line has one fault at most.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from datetime import date, timedelta
from random import Random

from lakebed.sample.writer import compress

PATTERNS = ["pat-file-drop-microbatch"]

#: Kinds that hit a line of a transactions file: outcome and reason. Only lines of the
#: quarantined kinds are lost, near duplicates excepted: their originals are saved.
LINE_KINDS = {
    "exact_duplicate": ("duplicate", ""),
    "near_duplicate": ("quarantine", "conflicting_duplicate"),
    "truncated_line": ("quarantine", "malformed_line"),
    "malformed_line": ("quarantine", "malformed_line"),
    "unknown_product": ("saved", ""),
    "missing_key": ("quarantine", "missing_"),  # and the key's name
    "negative_quantity": ("quarantine", "negative_quantity"),
    "date_format": ("saved", ""),
    "changed_type": ("quarantine", "invalid_quantity"),
}
#: Kinds that hit a whole transactions file. `wrong_encoding` stands for two encodings.
FILE_KINDS = {
    "file_redelivered": ("not_loaded", "duplicate"),
    "late_file": ("saved", ""),
    "half_written": ("not_loaded", "incomplete"),
    "empty_file": ("not_loaded", "empty"),
    "wrong_encoding": ("saved", ""),
    "new_column": ("saved", ""),
    "renamed_column": ("saved", ""),
}
#: One fault of each kind among the first 20 files, then one of each among every 60.
_FIRST_BLOCK, _BLOCK = 20, 60
_PLANNED = (
    "late_file",
    "file_redelivered",
    "half_written",
    "empty_file",
    "utf-16",
    "utf-8-sig",
    "new_column",
    "renamed_column",
)
_MOST_DAYS_LATE = 6
_NUMBERS = ("none", "one", "two", "three", "four", "five", "six")
_GARBAGE = ("@@@ POS 17 RESET @@@", ",,,,,,,,,,,,,,", "0x00FF;0x13;EOT", "--- end of report ---")
#: Product ids from here on are in no product file.
_UNKNOWN_PRODUCTS = 90_000_000
_HOUSEHOLD, _STORE, _BASKET, _PRODUCT, _QUANTITY, _SALES = range(6)
_KEYS = {"household_id": _HOUSEHOLD, "basket_id": _BASKET, "product_id": _PRODUCT}


@dataclass(frozen=True)
class Delivery:
    """A file as it is dropped on `day`: UTF-8 CSV, and the bytes that land if not just its gzip."""

    entity: str
    name: str
    day: date
    text: bytes
    raw: bytes | None = None


@dataclass(frozen=True)
class Fault:
    """A row of the truth file.

    `line` is the physical line in `file` (the header is 1), empty when the whole file is
    meant. `outcome` is what becomes of it: `saved` (all its rows reach silver), `duplicate`
    (nothing is lost, the row is there once), `quarantine` or `not_loaded`, with the `reason`.
    The keys are those silver gets, or, in quarantine, those of the original line. `record` is
    the line as landed, `lost_record` the original one when silver does not get it as it was.
    """

    fault_id: str
    kind: str
    entity: str
    file: str
    line: str
    outcome: str
    reason: str
    household_id: str = ""
    basket_id: str = ""
    product_id: str = ""
    record: str = ""
    lost_record: str = ""

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.file.rsplit("/", 1)[-1]


class Faults:
    """Turns clean deliveries into what arrives, and tells the truth about it.

    `days` are all days with sales, in order: the first one counts, not the last.
    """

    def __init__(self, seed: int, rate: float, days: list[date]) -> None:
        self._seed = seed
        self._rate = rate
        self._plan = dict(self._planned(days))

    def inject(self, drop: Delivery) -> tuple[list[Delivery], list[Fault]]:
        """What arrives instead of `drop`, a clean file; only transactions get faults."""
        if drop.entity == "products" and drop.raw is not None:
            product_id = drop.text.decode().splitlines()[1].partition(",")[0]
            return [drop], [replace(_file_fault("wrong_encoding", drop), product_id=product_id)]
        if drop.entity != "transactions":
            return [drop], []
        random = Random(f"{self._seed}/{self._rate}/{drop.name}")
        kind = self._plan.get(drop.day)
        if kind:
            return _whole_file(drop, kind, random)
        return _lines(drop, self._rate, random)

    def updates(self, first: date, product: tuple[str, str]) -> Iterator[Delivery]:
        """A product update in Latin-1: `product` is a header and a product's line."""
        day = date(2017, 2, 1)
        if day < first:
            return
        header, line = product
        names, values = header.split(","), next(csv.reader([line]))
        values[names.index("product_type")] = "CAFÉ CRÈME À LA CARTE"
        text = f"{header}\n{_csv_line(values)}\n"
        raw = compress(text.encode("latin-1"))
        yield Delivery("products", f"products_{day}.csv.gz", day, text.encode(), raw)

    def _planned(self, days: list[date]) -> Iterator[tuple[date, str]]:
        random = Random(f"{self._seed}/{self._rate}/files")
        start, size = 0, _FIRST_BLOCK
        while start < len(days):
            order = sorted((random.random(), place) for place in range(size))
            # The late file comes first, so that it is delivered within its block.
            places = sorted(place for _, place in order[: len(_PLANNED)])
            others = [place for _, place in order[: len(_PLANNED)] if place != places[0]]
            for place, kind in zip([places[0], *others], _PLANNED, strict=True):
                if start + place < len(days):
                    yield days[start + place], kind
            start, size = start + size, _BLOCK


def truth_csv(faults: list[Fault]) -> bytes:
    """The truth file: RFC 4180 CSV in UTF-8, ordered by file and line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(field.name for field in fields(Fault))
    for fault in sorted(faults, key=lambda f: (f.file, int(f.line or 0))):
        writer.writerow(astuple(fault))
    return buffer.getvalue().encode()


def _csv_line(values: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


def _pick(random: Random, count: int) -> int:
    """0 to count - 1, by the one method whose sequence Python promises to keep."""
    return int(random.random() * count)


def _file_fault(kind: str, delivery: Delivery) -> Fault:
    outcome, reason = FILE_KINDS[kind]
    file = f"retail/{delivery.entity}/{delivery.name}"
    return Fault(
        delivery.name.removesuffix(".csv.gz"), kind, delivery.entity, file, "", outcome, reason
    )


def _whole_file(drop: Delivery, kind: str, random: Random) -> tuple[list[Delivery], list[Fault]]:
    stem = drop.name.removesuffix(".csv.gz")
    again = Delivery(drop.entity, f"{stem}_resend.csv.gz", drop.day, drop.text)
    if kind == "file_redelivered":
        return [drop, again], [_file_fault(kind, again)]
    if kind == "late_file":
        day = drop.day + timedelta(days=2 + _pick(random, _MOST_DAYS_LATE - 1))
        late = Delivery(drop.entity, f"{stem}_late_{day}.csv.gz", day, drop.text)
        return [late], [_file_fault(kind, late)]
    if kind in ("half_written", "empty_file"):
        whole = compress(drop.text)
        raw = whole[: len(whole) // 2] if kind == "half_written" else b""
        broken = Delivery(drop.entity, drop.name, drop.day, b"", raw)
        return [broken, again], [_file_fault(kind, broken)]
    text = drop.text.decode()
    if kind in ("utf-16", "utf-8-sig"):
        # Not Python's 'utf-16', whose byte order is the machine's.
        content = b"\xff\xfe" + text.encode("utf-16-le") if kind == "utf-16" else text.encode(kind)
        kind = "wrong_encoding"
    elif kind == "renamed_column":
        content = text.replace("sales_value", "sales_amount", 1).encode()
    else:
        lines = [line.split(",") for line in text.splitlines()]
        for number, line in enumerate(lines):
            points = str(int(float(line[_SALES]))) if number else "loyalty_points"
            line.insert(_QUANTITY, points)
        content = "".join(",".join(line) + "\n" for line in lines).encode()
    changed = Delivery(drop.entity, drop.name, drop.day, content)
    return [changed], [_file_fault(kind, changed)]


def _lines(drop: Delivery, rate: float, random: Random) -> tuple[list[Delivery], list[Fault]]:
    header, *lines = drop.text.decode().splitlines()
    kinds = tuple(LINE_KINDS)
    stem = drop.name.removesuffix(".csv.gz")
    changed: dict[int, tuple[str, str, dict[str, str]]] = {}
    # Lines that come after the line of that index: kind, index of the original, record.
    later: dict[int, list[tuple[str, int, str]]] = {}
    for index, line in enumerate(lines):
        if random.random() >= rate:
            continue
        kind = kinds[_pick(random, len(kinds))]
        if kind in ("exact_duplicate", "near_duplicate"):
            record = line if kind == "exact_duplicate" else _contradicted(line, random)
            after = index + _pick(random, len(lines) - index)
            later.setdefault(after, []).append((kind, index, record))
        else:
            record, more = _damaged(kind, line, random, f"{drop.day:%j}{index:04}")
            changed[index] = (kind, record, more)
    out, faults = [header], []

    def add(kind: str, original: str, record: str, more: dict[str, str], lost: bool) -> None:
        out.append(record)
        number = str(len(out))
        values = original.split(",")
        outcome, reason = LINE_KINDS[kind]
        truth = {
            **{key: values[place] for key, place in _KEYS.items()},
            "reason": reason,
            **more,
            "lost_record": original if lost else "",
        }
        file = f"retail/{drop.entity}/{drop.name}"
        faults.append(
            Fault(
                f"{stem}#{number}", kind, drop.entity, file, number, outcome, record=record, **truth
            )
        )

    for index, line in enumerate(lines):
        if index in changed:
            kind, record, more = changed[index]
            add(kind, line, record, more, lost=kind != "date_format")
        else:
            out.append(line)
        for kind, original, record in later.get(index, ()):
            add(kind, lines[original], record, {}, lost=False)
    text = "".join(f"{line}\n" for line in out).encode()
    return [Delivery(drop.entity, drop.name, drop.day, text)], faults


def _contradicted(line: str, random: Random) -> str:
    """The same basket and product, with another amount paid for another quantity."""
    values = line.split(",")
    values[_QUANTITY] = str(int(values[_QUANTITY]) + 1)
    values[_SALES] = str(round(float(values[_SALES]) + 0.25 + _pick(random, 400) / 100, 2))
    return ",".join(values)


def _damaged(kind: str, line: str, random: Random, unique: str) -> tuple[str, dict[str, str]]:
    """`line` with the fault, and what is true of it beyond the original line."""
    values = line.split(",")
    more: dict[str, str] = {}
    if kind == "truncated_line":
        last = line.rindex(",")
        return line[: last // 3 + _pick(random, last - last // 3)], more
    if kind == "malformed_line":
        choice = _pick(random, len(_GARBAGE) + 2)
        if choice < len(_GARBAGE):
            return _GARBAGE[choice], more
        values.insert(_pick(random, len(values)), "7" if choice % 2 else "")
    elif kind == "unknown_product":
        values[_PRODUCT] = more["product_id"] = str(_UNKNOWN_PRODUCTS + int(unique))
    elif kind == "missing_key":
        key = tuple(_KEYS)[_pick(random, len(_KEYS))]
        values[_KEYS[key]] = ""
        more["reason"] = f"missing_{key}"
    elif kind == "negative_quantity":
        values[_QUANTITY] = str(-(int(values[_QUANTITY]) or 1))
    elif kind == "date_format":
        day, _, clock = values[-1].partition(" ")
        year, month, of_month = day.split("-")
        values[-1] = f"{month}/{of_month}/{year} {clock}"
    else:
        number = int(values[_QUANTITY])
        values[_QUANTITY] = _NUMBERS[number] if number < len(_NUMBERS) else "many"
    return ",".join(values), more
