"""Every injected fault ends where the truth file says, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

from conftest import FAULTS, SPAN
from lakehouse import Lakehouse

PROVES = [
    "pat-schema-enforcement",
    "pat-deduplication",
    "pat-file-drop-microbatch",
    "pat-medallion-lakehouse",
    "pat-idempotent",
    "pat-late-arrival-handling",
    "pat-merge-upsert",
]

NO_TESTS = ("--exclude", "resource_type:unit_test", "resource_type:test")
#: Columns that say how a row came, not what it says.
JOURNEY = ("_batch_id", "ingested_at", "batch_id", "_version", "dbt_valid_from", "dbt_scd_id")
SALE = (
    "household_id, store_id, basket_id, product_id, quantity, sales_value, retail_disc,"
    " coupon_disc, coupon_match_disc, week"
)


def truth(lakehouse: Lakehouse) -> str:
    path = lakehouse.landing / "retail" / "_truth.csv"
    return f"read_csv('{path}', all_varchar = true, header = true)"


def test_rows_are_accounted_for(faulty: Lakehouse) -> None:
    """bronze = silver + quarantine + exact duplicates, and no line is in two of them."""
    assert faulty.query(
        """
        with taken as (
            select _file_name, _line from silver.retail__transactions
            union all
            select _file_name, _line from quarantine.retail__transactions
        )
        select count(*) - count(distinct (_file_name, _line)) from taken
        """
    ) == [(0,)]
    # What is in neither repeats, letter for letter, a line that silver holds.
    assert faulty.query(
        """
        select count(*)
        from bronze.retail__transactions as bronze
        anti join silver.retail__transactions as silver using (_file_name, _line)
        anti join quarantine.retail__transactions as quarantine using (_file_name, _line)
        anti join silver.retail__transactions as same using (_record)
        """
    ) == [(0,)]
    ((duplicates, injected),) = faulty.query(
        f"""
        select
            (select duplicate_rows from ops.retail__row_accounting where entity = 'transactions'),
            (select count(*) from {truth(faulty)} where kind = 'exact_duplicate')
        """
    )
    assert duplicates == injected > 0


def test_every_fault_is_where_the_truth_says(faulty: Lakehouse) -> None:
    lines = faulty.query(
        f"""
        select
            truth.kind,
            truth.outcome,
            truth.reason,
            silver._line is not null,
            quarantine.broken_rules
        from {truth(faulty)} as truth
        left join silver.retail__transactions as silver
            on silver._file_name = truth.file and silver._line = cast(truth.line as bigint)
        left join quarantine.retail__transactions as quarantine
            on quarantine._file_name = truth.file and quarantine._line = cast(truth.line as bigint)
        where truth.line is not null
        """
    )
    expected = {"saved": (True, None), "duplicate": (False, None)}
    wrong = [row for row in lines if row[3:] != expected.get(row[1], (False, row[2]))]
    assert not wrong, wrong[:5]
    assert {row[0] for row in lines} == {
        "exact_duplicate",
        "near_duplicate",
        "truncated_line",
        "malformed_line",
        "unknown_product",
        "missing_key",
        "negative_quantity",
        "date_format",
        "changed_type",
    }


def test_every_faulty_file_is_where_the_truth_says(faulty: Lakehouse) -> None:
    files = faulty.query(
        f"""
        select truth.kind, truth.outcome, truth.reason, files.status
        from {truth(faulty)} as truth
        left join bronze.landing__files as files on files.file_name = truth.file
        where truth.line is null
        """
    )
    wrong = [row for row in files if row[3] != ("ready" if row[1] == "saved" else row[2])]
    assert not wrong, wrong
    assert {row[0] for row in files} == {
        "file_redelivered",
        "late_file",
        "half_written",
        "empty_file",
        "wrong_encoding",
        "new_column",
        "renamed_column",
    }


def test_gold_is_that_of_the_clean_run_but_for_what_is_lost(
    clean: Lakehouse, faulty: Lakehouse
) -> None:
    catalogue = clean.home / "lake" / "catalog.ducklake"
    with faulty.connect() as connection:
        connection.execute(f"attach 'ducklake:{catalogue}' as clean (read_only)")
        connection.execute(f"create temp table truth as from {truth(faulty)}")
        # The original of what was lost, and of what names another product now.
        connection.execute(
            "create temp table gone as select cast(basket_id as bigint) as basket_id,"
            " cast(product_id as bigint) as product_id from ("
            "  select split_part(lost_record, ',', 3) as basket_id,"
            "  split_part(lost_record, ',', 4) as product_id from truth"
            "  where lost_record is not null)"
        )
        missing = connection.execute(
            f"""
            select count(*) from (
                select {SALE} from clean.gold.fct_sales_lines
                anti join gone using (basket_id, product_id)
                except
                select {SALE} from lakebed.gold.fct_sales_lines
            )
            """
        ).fetchone()
        added = connection.execute(
            f"""
            select count(*), count(*) filter (product_key = '-1') from (
                select {SALE}, product_key from lakebed.gold.fct_sales_lines
                anti join clean.gold.fct_sales_lines using (basket_id, product_id)
            )
            """
        ).fetchone()
        unknown = connection.execute(
            "select count(*) from truth where kind = 'unknown_product'"
        ).fetchone()
    assert missing == (0,)
    assert unknown
    assert added == (unknown[0], unknown[0])


def test_in_steps_as_at_once(faulty: Lakehouse, tmp_path: Path) -> None:
    """Delivered and built in four steps, late files and updates among them: the same lake."""
    steps = Lakehouse(tmp_path)
    for day in ("2017-01-05", "2017-01-20", "2017-02-03", "2017-02-14"):
        steps.land("--until", day, "--promotion-weeks", "1", *FAULTS)
        steps.dbt("build", *(() if day == SPAN[1] else NO_TESTS))
    everything = faulty.hashes(exclude=JOURNEY)
    in_steps = steps.hashes(exclude=JOURNEY)
    # The snapshot and the manifest record what each build saw.
    for lake in (everything, in_steps):
        for table in ("snapshots.retail__households", "bronze.landing__files"):
            lake.pop(table)
    assert in_steps == everything
    assert SPAN[1] == "2017-02-14"
