"""A web shop's events, made from real baskets: each was filled in a session of its household.

A session starts, pages of products are viewed, products are put into the cart, and the basket is
paid for, at the time and with the amounts that the data has. After some purchases the household
comes back, looks and buys nothing. On the way to whoever takes them, events get into disorder,
come late, come twice, or are damaged: from a seed, with the truth about each.

What is made of a basket depends on the seed and the basket only; what is sent, in which order and
to the byte, on the options.
"""

from __future__ import annotations

import csv
import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

import duckdb

from lakebed.sample.retail import package_data
from lakebed.sample.writer import SampleError, explain

PATTERNS = ["pat-watermarking", "pat-late-arrival-handling"]

#: A session is no longer than that.
SESSION = timedelta(hours=1)
#: Share of the purchases after which the household comes back.
COMES_BACK = 0.3
#: Damages and what becomes of the event: refused by the stream, or by the rules of silver.
DAMAGES = {
    "cut": ("dlq", "malformed"),
    "not_utf8": ("dlq", "malformed"),
    "no_id": ("quarantine", "missing_event_id"),
    "no_number": ("quarantine", "invalid_amount"),
    "unknown_type": ("quarantine", "unknown_event_type"),
    "negative": ("quarantine", "negative_amount"),
    "future": ("quarantine", "event_from_the_future"),
}
TRUTH = (
    *("position", "event_id", "session_id", "event_type", "page_type", "event_time", "amount"),
    *("fault", "delay_seconds", "outcome", "reason"),
)


@dataclass(frozen=True)
class Options:
    """Days of baskets, inclusive, and what happens on the way. Rates are shares of the events.

    `disorder` of them are held up for up to `within` seconds, `late` of them for exactly `late_by`;
    `duplicates` are sent again up to `again_within` seconds later; `malformed` are damaged.
    """

    first: date = date(2017, 1, 1)
    until: date = date(2017, 1, 1)
    seed: int = 7
    disorder: float = 0.0
    within: float = 300.0
    late: float = 0.0
    late_by: float = 3600.0
    duplicates: float = 0.0
    again_within: float = 300.0
    malformed: float = 0.0


class Event(NamedTuple):
    """What happened. `amount` is that of the line, of a purchase that of the basket."""

    event_id: str
    session_id: str
    household_id: int
    event_type: str
    page_type: str
    event_time: datetime
    product_id: int | None = None
    basket_id: int | None = None
    amount: Decimal | None = None


class Sent(NamedTuple):
    """An event as it is sent. `outcome` is silver, duplicate, quarantine or dlq."""

    position: int
    event: Event
    body: bytes
    at: datetime
    fault: str
    outcome: str
    reason: str

    @property
    def truth(self) -> list[Any]:
        """A row of the truth file."""
        event, delay = self.event, self.at - self.event.event_time
        return [
            *(self.position, event.event_id, event.session_id, event.event_type, event.page_type),
            *(_moment(event.event_time), event.amount, self.fault, delay.total_seconds()),
            *(self.outcome, self.reason),
        ]


class Destination(Protocol):
    """Where events go, one after the other; `close` waits until all have arrived."""

    def send(self, sent: Sent) -> None: ...
    def close(self) -> None: ...


@dataclass
class Summary:
    """What was sent, and the revenue that must come out of it."""

    events: int = 0
    revenue: Decimal = Decimal("0.00")
    faults: Counter[str] = field(default_factory=Counter)


def replay(
    options: Options,
    destination: Destination,
    speed: float = 0,
    truth: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Send the events; `speed` 1 takes as long as they took, 10 a tenth, 0 no time at all.

    Raises SampleError, in one line.
    """
    summary = Summary()
    try:
        with truth.open("w", encoding="utf-8", newline="") if truth else nullcontext() as file:
            rows = csv.writer(file, lineterminator="\n") if file else None
            if rows:
                rows.writerow(TRUTH)
            for sent in _paced(events(options), speed):
                destination.send(sent)
                if rows:
                    rows.writerow(sent.truth)
                summary.events += 1
                if sent.fault:
                    summary.faults[sent.fault] += 1
                if sent.outcome == "silver" and sent.event.event_type == "purchased":
                    summary.revenue += sent.event.amount or 0
                progress(summary.events)
            destination.close()
    except OSError as error:
        if truth and error.filename == str(truth):
            raise SampleError(f"Cannot write {truth}: {error.strerror}.") from error
        raise SampleError(explain(error, Path(str(error.filename or "the events")))) from error
    return summary


def events(options: Options) -> Iterator[Sent]:
    """All events in the order they are sent in. Raises SampleError."""
    if options.first > options.until:
        raise SampleError(f"--from {options.first} is after --until {options.until}.")
    waiting: list[tuple[datetime, str, int, Event, str]] = []
    position = 0

    def until(moment: datetime) -> Iterator[Sent]:
        nonlocal position
        while waiting and waiting[0][0] < moment:
            at, _, copy, event, fault = heapq.heappop(waiting)
            yield _sent(position, event, at, fault, copy)
            position += 1

    for basket in _baskets(options):
        # What comes of this basket and of all after it is not older than that.
        yield from until(basket[2] - SESSION)
        # Two dice, so that what happens does not depend on what goes wrong.
        shop, way = Random(f"{options.seed}/{basket[0]}"), Random(f"{options.seed}/{basket[0]}/way")
        for event in _happened(shop, *basket):
            for at, copy, fault in _on_the_way(way, event, options):
                heapq.heappush(waiting, (at, event.event_id, copy, event, fault))
    yield from until(datetime.max)


def _baskets(
    options: Options,
) -> Iterator[tuple[int, int, datetime, list[tuple[int, Decimal]]]]:
    """Basket, household, time of the purchase, products with their sales value; by time."""
    with duckdb.connect() as connection:
        path = str(package_data() / "transactions.parquet").replace("'", "''")
        found = connection.execute(
            f"""
            select basket_id, household_id, transaction_timestamp,
                list({{'p': product_id, 'v': sales_value::decimal(12, 2)}} order by product_id)
            from '{path}'
            where transaction_timestamp >= ? and transaction_timestamp < ?
            group by all
            order by transaction_timestamp, basket_id
            """,
            [options.first, options.until + timedelta(days=1)],
        )
        while rows := found.fetchmany(1000):
            for basket, household, moment, lines in rows:
                yield basket, household, moment, [(line["p"], line["v"]) for line in lines]


def _happened(
    random: Random,
    basket: int,
    household: int,
    paid_at: datetime,
    lines: list[tuple[int, Decimal]],
) -> Iterator[Event]:
    steps: list[dict[str, Any]] = [{"event_type": "session_started", "page_type": "home"}]
    for product, value in lines:
        if random.random() < 0.6:
            steps.append(_viewed(product))
        steps.append(
            {
                "event_type": "added_to_cart",
                "page_type": "product",
                "product_id": product,
                "amount": value,
            }
        )
    paid = {"event_type": "purchased", "page_type": "checkout", "basket_id": basket}
    steps.append({**paid, "amount": sum((value for _, value in lines), Decimal())})
    yield from _session(random, f"{basket}-a", household, paid_at, steps)
    if random.random() < COMES_BACK:
        pages = [_viewed(random.choice(lines)[0]) for _ in range(random.randint(1, 8))]
        last = paid_at + timedelta(seconds=random.randint(3600, 6 * 3600))
        yield from _session(random, f"{basket}-b", household, last, [steps[0], *pages])


def _viewed(product: int) -> dict[str, Any]:
    return {"event_type": "page_viewed", "page_type": "product", "product_id": product}


def _session(
    random: Random, session: str, household: int, last: datetime, steps: list[dict[str, Any]]
) -> Iterator[Event]:
    """Events of the steps; the last one is at `last`."""
    gaps = [random.randint(2_000, 40_000) for _ in steps[1:]]
    longest = (SESSION - timedelta(minutes=1)) // timedelta(milliseconds=1)
    if (total := sum(gaps)) > longest:
        gaps = [gap * longest // total for gap in gaps]
    moment = last - timedelta(milliseconds=sum(gaps))
    for number, (step, gap) in enumerate(zip(steps, [*gaps, 0], strict=True)):
        yield Event(f"{session}{number:03}", session, household, event_time=moment, **step)
        moment += timedelta(milliseconds=gap)


def _on_the_way(
    random: Random, event: Event, options: Options
) -> Iterator[tuple[datetime, int, str]]:
    """When it is sent, as which copy, and what is done to it."""
    fault, delay, dice = "", 0.0, random.random()
    if dice < options.malformed:
        fault = random.choice(list(DAMAGES))
    elif (dice := dice - options.malformed) < options.late:
        fault, delay = "late", options.late_by
    elif dice - options.late < options.disorder:
        fault, delay = "disorder", random.uniform(0, options.within)
    at = event.event_time + timedelta(milliseconds=int(delay * 1000))
    yield at, 0, fault
    if random.random() < options.duplicates and fault not in DAMAGES:
        again = timedelta(milliseconds=random.randint(0, int(options.again_within * 1000)))
        yield at + again, 1, "duplicate"


def _sent(position: int, event: Event, at: datetime, fault: str, copy: int) -> Sent:
    content = {name: _plain(value) for name, value in event._asdict().items() if value is not None}
    outcome, reason = DAMAGES.get(fault, ("duplicate" if copy else "silver", ""))
    if fault == "no_id":
        del content["event_id"]
    elif fault in ("no_number", "negative"):
        content["amount"] = "n/a" if fault == "no_number" else -1.5
    elif fault == "unknown_type":
        content["event_type"] = "teleported"
    elif fault == "future":
        content["event_time"] = _moment(event.event_time.replace(year=2999, day=1))
    body = json.dumps(content, separators=(",", ":")).encode()
    if fault == "cut":
        body = body[: len(body) // 2]
    elif fault == "not_utf8":
        body = body.replace(b'"event_type":"', b'"event_type":"\xff')
    return Sent(position, event, body, at, fault, outcome, reason)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _moment(value)
    return float(value) if isinstance(value, Decimal) else value


def _moment(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds") + "Z"


def _paced(events: Iterator[Sent], speed: float) -> Iterator[Sent]:
    """Each when its time has come."""
    began: datetime | None = None
    started = time.monotonic()
    for sent in events:
        if speed:
            began = began or sent.at
            due = started + (sent.at - began).total_seconds() / speed
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
        yield sent
