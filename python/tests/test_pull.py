"""`lakebed pull` with a real HTTP server that fails, throttles and changes while it is read."""

from __future__ import annotations

import base64
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from api import Api, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from lakebed.cli import main
from lakebed.errors import UserError
from lakebed.ingest import paging
from lakebed.ingest.faults import POINTS
from lakebed.ingest.fields import noticed
from lakebed.ingest.patience import TryLater
from lakebed.ingest.pull_config import read_pull
from lakebed.ingest.requests import Requests
from lakehouse import REPO, Lakehouse, TeamLakehouse
from pulls import PAGINGS, Pull, order

PROVES = ["pat-api-pull", "pat-retryable"]

#: The steps of a page, in an order in which each moves the pull on.
STEPS = ("positions-moved", "acknowledged", "received", "committed", "begun", "dlq-written")


@pytest.mark.parametrize("how", PAGINGS)
def test_killed_at_each_step_while_the_api_fails_and_grows(tmp_path: Path, how: str) -> None:
    rng = random.Random(how)
    first = list(PAGINGS).index(how)
    kills = [STEPS[(first + step) % len(STEPS)] for step in (0, 3)]
    with serving(Api([order(number) for number in range(35)], token="t0k")) as api:
        pull = Pull(
            Lakehouse(tmp_path), api, how, auth={"bearer": "{{ env_var('TOKEN') }}"}, retry=30
        )

        def grow(_request: int) -> None:
            if len(api.rows) < 60:
                api.rows.append(order(len(api.rows)))

        api.before = grow
        for number, point in enumerate(kills):
            with api.lock:
                kinds = ["503", "after:0", "cut", "malformed", "gzip", "drop"]
                api.faults = ["errors"] if how == "search" else rng.sample(kinds, 1)
            if how == "none":  # it has one page, so it is killed before that is written
                point = ("received", "rows-written")[number]
            pull.run("--fail-at", point, code=-signal.SIGKILL)
        api.before = None
        api.rows = [order(number) for number in range(60)]
        api.rows += [{"id": 60, "at": "2024-01-01T00:59:00.000000Z"}]
        pull.run()
        assert sorted(pull.ids()) == list(range(61))
        assert pull.ids() == list(range(61))  # in the order of the source
        # The same again: all known; and more: only that.
        assert "0 rows, 0 to the DLQ" in pull.run()
        api.rows += [order(number) for number in range(177, 180)]
        assert "3 rows, 0 to the DLQ" in pull.run()
        assert pull.ids()[-3:] == [177, 178, 179]
        row = pull.lakehouse.query("select _record from bronze.shop__orders where _key = '7'")
        assert json.loads(row[0][0])["price"] == 1.10


@pytest.mark.parametrize("how", ["page", "offset", "link"])
def test_rows_come_and_go_while_pages_are_read(tmp_path: Path, how: str) -> None:
    """Rows put before those read push records to the next page, rows taken away pull them back to
    a page that was read: neither makes a record come twice or be lost."""
    with serving(Api([order(number) for number in range(45)], newest_first=True)) as api:
        pull = Pull(Lakehouse(tmp_path), api, how)

        def change(request: int) -> None:
            if request in (2, 4):
                api.rows += [order(len(api.rows) + 100), order(len(api.rows) + 101)]
            if request == 3:
                del api.rows[-6:-3]

        api.before = change
        pull.run()
        ids = pull.ids()
        assert len(ids) == len(set(ids))
        assert {row["id"] for row in api.rows} <= set(ids)


def test_ties_late_rows_and_new_versions(tmp_path: Path) -> None:
    """By time: ties over the end of a page, a row committed late, a row that changed."""
    with serving(Api([order(number) for number in range(25)])) as api:
        pull = Pull(Lakehouse(tmp_path), api, "timestamp")
        pull.run()
        assert pull.ids() == list(range(25))
        # 100: 20 s before the last one, and within the overlap. 3: changed, changed back.
        api.rows.append({"id": 100, "at": "2024-01-01T00:07:40.000000Z"})
        api.rows[3] = order(3) | {"at": "2024-01-01T00:09:00.000000Z", "price": 2}
        api.rows.append({"id": 101, "at": "2999-01-01T00:00:00.000000Z"})  # a broken clock
        assert "3 rows" in pull.run()
        assert pull.ids()[-3:] == [100, 3, 101]
        api.rows[3] = order(3) | {"at": "2024-01-01T00:59:00.000000Z"}
        assert "1 rows" in pull.run()  # not hidden behind the row of 2999
        api.rows += [order(3000 - 1) | {"id": n, "at": "2025-01-01T00:00:00Z"} for n in range(11)]
        assert "a whole page (10 records) has the time" in pull.run(code=1)


def test_pages_of_what_changed(tmp_path: Path) -> None:
    """Pages by cursor of what changed since: a sweep that was killed goes on in its middle, and the
    next one asks from the latest time less the overlap."""
    with serving(Api([order(number) for number in range(90)])) as api:
        since = {"field": "at", "param": "since", "overlap": 90, "start": "2023-12-31"}
        pages = {**PAGINGS["cursor"]["pages"], "append_only": False}
        pull = Pull(Lakehouse(tmp_path), api, "cursor", resource={"since": since, "pages": pages})
        pull.run("--fail-at", "acknowledged:4", code=-signal.SIGKILL)
        api.requests = []
        pull.run()
        assert pull.ids() == list(range(90))
        assert [path.split("after=")[1] for _, path in api.requests] == [
            "40",
            "50",
            "60",
            "70",
            "80",
        ]
        assert all("since=2023-12-31T00%3A00%3A00.000000Z" in path for _, path in api.requests)
        api.rows[5] = order(5) | {"at": "2024-01-01T00:30:00.000000Z"}
        api.requests = []
        assert "1 rows, 0 to the DLQ, 6 known" in pull.run()
        (path,) = (path for _, path in api.requests)
        assert path == "/cursor?since=2024-01-01T00%3A27%3A30.000000Z"  # 29:00 less 90 s


def test_links_in_the_answer(tmp_path: Path) -> None:
    with serving(Api([order(number) for number in range(35)])) as api:
        pages = {"by": "link", "next": "links.next", "size": 3, "size_param": "size"}
        pull = Pull(Lakehouse(tmp_path), api, "link", resource={"pages": pages, "records": "data"})
        pull.run()
        assert pull.ids() == list(range(35))


def test_positions_made_before_there_were_states(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    with serving(Api([order(number) for number in range(15)])) as api:
        pull = Pull(lakehouse, api, "cursor")
        program = (
            "import duckdb; from lakebed.lake import load_extensions; c = duckdb.connect();"
            f"load_extensions(c); c.execute(\"attach 'ducklake:{tmp_path}/lake/catalog.ducklake' as"
            f" lake (data_path '{tmp_path}/lake/files/'); create schema lake.ops; create table"
            " lake.ops.positions__shop (topic varchar, partition integer, position bigint,"
            " moved_at timestamp); insert into lake.ops.positions__shop values ('*', 0, 7, null)\")"
        )
        (tmp_path / "lake").mkdir()
        subprocess.run([sys.executable, "-c", program], check=True)
        pull.run()
        assert pull.ids() == list(range(15))
        batches = lakehouse.query("select distinct _batch_id from bronze.shop__orders order by 1")
        assert batches == [(8,), (9,)]


def test_the_documented_file_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(
        r"```yaml\n(# pulls/shop.yml.*?)```", (REPO / "docs/pull.md").read_text(), re.S
    )
    (tmp_path / "shop.yml").write_text(text)
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    config = read_pull(tmp_path / "shop.yml")
    assert config.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(config)


def test_what_stands_in_a_body(tmp_path: Path) -> None:
    """Numbers as such, what the body has besides, and an API that only says what went wrong."""
    (text,) = re.findall(
        r"```yaml\n(# pulls/graph.yml.*?)```", (REPO / "docs/pull.md").read_text(), re.S
    )
    (tmp_path / "graph.yml").write_text(text)
    config = read_pull(tmp_path / "graph.yml")
    resource = config.resources["orders"]
    first = paging.request(config, resource, paging.State())
    again = paging.request(config, resource, paging.State(at="é"))
    assert first.url == "https://api.example.com/graphql"
    assert first.body is not None
    assert first.body["variables"] == {"first": 100}
    assert again.body is not None
    assert again.body["variables"] == {"first": 100, "after": "é"}
    with serving(Api([order(1)])) as api:
        api.faults = ["errors"] * 9
        pull = Pull(Lakehouse(tmp_path), api, "search", retry=1)
        assert "one shard is away" in pull.run(code=1)
        assert pull.ids() == []


def test_bad_records_go_to_the_dlq_once(tmp_path: Path) -> None:
    rows: list[Any] = [
        order(0),
        {"at": "2024-01-01T00:00:00Z", "why": "no id"},
        order(1) | {"at": "yesterday"},
        order(2) | {"price": None},
        order(3) | {"id": 1.5},
        order(4) | {"id": "\ud800"},
        order(5) | {"price": float("nan")},
        "text",
        order(6),
    ]
    with serving(Api(rows)) as api:
        since = {"since": {"field": "at", "param": "since", "overlap": 86400}}
        pull = Pull(Lakehouse(tmp_path), api, "none", resource=since | {"required": ["price"]})
        assert "2 rows, 7 to the DLQ" in pull.run()
        assert "0 rows, 0 to the DLQ, 9 known" in pull.run()
        assert pull.ids() == [0, 6]
        found = pull.lakehouse.query(
            "select decode(record_value), category from ops.dlq order by position"
        )
        assert [text for text, _ in found] == [json.dumps(row) for row in rows[1:-1]]
        assert [kind for _, kind in found] == ["schema"] * 5 + ["malformed", "schema"]


def test_replayed_once_after_a_fix(tmp_path: Path) -> None:
    """An old version of a record that was refused comes before the newer one, where it belongs."""
    rows: list[Any] = [order(0), order(1) | {"price": None}, {"key": 2, "at": order(2)["at"]}]
    with serving(Api(rows)) as api:
        since = {"since": {"field": "at", "param": "since", "overlap": 86400}}
        lakehouse = Lakehouse(tmp_path)
        pull = Pull(lakehouse, api, "none", resource=since | {"required": ["price"]})
        assert "1 rows, 2 to the DLQ" in pull.run()
        api.rows[1] = order(1)
        assert "1 rows, 0 to the DLQ" in pull.run()

        def replay(*options: str) -> str:
            done = lakehouse.run("lakebed", "dlq", "replay", str(pull.file), *options)
            return done.stdout

        # What has no id cannot be bronze, whatever else is let pass.
        assert "0 delivered, 2 refused again" in replay()
        pull = Pull(lakehouse, api, "none", resource=since | {"required": []})
        assert "1 delivered, 1 refused again" in replay("--force")
        texts = lakehouse.query("select _record::json->>'price' from bronze.shop__orders"
                                " where _key = '1' order by _offset")  # fmt: skip
        assert texts == [(None,), ("1.1",)]
        # The newest is known, and so is what was delivered.
        assert "0 rows, 0 to the DLQ, 3 known" in pull.run()
        pull = Pull(lakehouse, api, "none", resource=since | {"id": "key"})
        assert "1 delivered, 0 refused again" in replay()
        keys = lakehouse.query("select _key from bronze.shop__orders order by _offset")
        assert [key for (key,) in keys] == ["0", "1", "2", "1"]


def test_tokens_of_an_identity_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for once while they live, anew when they are old or no longer taken."""
    oauth = {
        "client_id": "lake:bed",
        "client_secret": "{{ env_var('TOKEN') }}",
        "scope": "orders",
        "params": {"audience": "shop"},
    }
    form = {"grant_type": "client_credentials", "scope": "orders", "audience": "shop"}
    basic = "Basic " + base64.b64encode(b"lake%3Abed:t0k").decode()
    api = Api([order(number) for number in range(35)], form=form, basic=basic, token="none yet")
    with serving(api):
        oauth["token_url"] = f"{api.url}/token"
        pull = Pull(Lakehouse(tmp_path), api, "page", auth={"oauth2": oauth}, retry=20)
        api.faults = ["503", "429"]
        assert "35 rows" in pull.run()
        assert api.issued == 1
        # One that ends in the middle of a pull, of a server that says 401 then; and of its time.
        api.before = lambda number: setattr(api, "token", "gone") if number % 3 == 0 else None
        api.rows += [order(number) for number in range(35, 40)]
        assert "5 rows" in pull.run()
        assert 2 < api.issued < 20
        api.before, api.issued, api.life = None, 0, "0"
        pull.run()
        assert api.issued > 3

        api.basic = "another"
        assert 'gives no token (401: "invalid_client"): check `auth`.' in pull.run(code=1)
        # Id and secret in the form.
        api.basic, api.life = None, None
        api.form = form | {"client_id": "lake:bed", "client_secret": "t0k"}
        pull = Pull(
            pull.lakehouse, api, "page", auth={"oauth2": oauth | {"send": "body"}}, retry=20
        )
        api.issued = 0
        assert "0 rows" in pull.run()
        assert api.issued == 1
        monkeypatch.setenv("TOKEN", "t0k")
        assert "t0k" not in repr(read_pull(pull.file))


def test_a_schema_that_drifts_is_noticed(tmp_path: Path) -> None:
    with serving(Api([order(0), order(1) | {"note": None}])) as api:
        pull = Pull(Lakehouse(tmp_path), api, "none")
        assert "has changed" not in pull.run()
        api.rows += [order(2) | {"note": "x", "tags": []}, order(3) | {"price": "1.10"}, 7]
        told = pull.run()
        assert told.count("has changed") == 2
        assert "The schema of orders has changed: a new field 'tags' (list)." in told
        assert "orders has changed: 'price' may be text now, and was number." in told
        api.rows += [order(4) | {"tags": [1], "price": "2"}]
        assert "has changed" not in pull.run()
        (known,) = pull.lakehouse.query(
            "select state::json->>'fields' from ops.positions__shop where topic = 'orders'"
        )
        assert json.loads(known[0])["price"] == ["number", "text"]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.sampled_from([None, 1, 1.5, True, "x", [], {}]),
        ),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_fields_are_the_same_however_pages_are_cut(records: list[dict[str, Any]], cut: int) -> None:
    texts = [json.dumps(record) for record in records]
    whole, said = noticed({}, texts)
    assert said == []
    first, _ = noticed({}, texts[:cut])
    second, news = noticed(first, texts[cut:])
    assert second == whole
    new_names = set(whole) - set(first)
    new_types = [(n, t) for n in first if first[n] for t in whole[n] if t not in first[n]]
    assert len(news) == (len(new_names) + len(new_types) if first else 0)


def requests_of(tmp_path: Path, api: Api, **settings: Any) -> tuple[Any, Callable[[], Any]]:
    """A client in this process, and a request to it."""
    pull = Pull(Lakehouse(tmp_path), api, "page", **settings)
    config = read_pull(pull.file)
    client = Requests(config, lambda _line: None, threading.Event())
    found: list[Any] = []

    def ask() -> Any:
        def take(answer: paging.Answer) -> None:
            found.append(paging.read_page(config.resources["orders"], answer))

        client.ask(paging.Ask(api.url + "/page", {"page": "1"}), take)
        return found[-1]

    return client, ask


def test_what_is_tried_again_and_how_soon(tmp_path: Path) -> None:
    with serving(Api([order(1)])) as api:
        client, ask = requests_of(tmp_path, api, retry=20, rate={"requests": 4, "seconds": 1})
        with client:
            for fault, least in (("after:1", 1.0), ("date", 1.0), ("500", 0.2), ("drop", 0.2)):
                api.requests, api.faults = [], [fault]
                assert len(ask().records) == 1
                (before, _), (then, _) = api.requests
                assert least <= then - before < 4, fault
            # The client keeps its own pace, tries included.
            api.requests = []
            for _ in range(9):
                ask()
            times = [when for when, _ in api.requests]
            assert all(later - early > 0.95 for early, later in zip(times, times[4:], strict=False))


def test_what_is_not_tried_again(tmp_path: Path) -> None:
    cases = [
        ("404", UserError, "answers 404"),
        ("400", UserError, "answers 400"),
        ("403", UserError, "check `auth`"),
        ("moved", UserError, "answers 302 Found \\(to http://example.com/\\)"),
        ("bomb", UserError, "longer than 1,000,000 bytes"),
        ("endless", UserError, "longer than 1,000,000 bytes"),
        ("after:3600", TryLater, "answers 429"),  # longer than the budget: not waited for
    ]
    with serving(Api([order(1)])) as api:
        client, ask = requests_of(tmp_path, api, retry=60, max_bytes=1_000_000)
        with client:
            for fault, kind, says in cases:
                api.requests, api.faults = [], [fault]
                with pytest.raises(kind, match=says):
                    ask()
                assert len(api.requests) == 1, fault
        client, ask = requests_of(tmp_path, api, retry=1)
        with client:
            api.faults, started = ["malformed"] * 20, time.monotonic()
            with pytest.raises(TryLater, match="is not JSON"):
                ask()
            assert time.monotonic() - started < 5


def test_the_budget_ends_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with serving(Api([order(number) for number in range(30)])) as api:
        pull = Pull(Lakehouse(tmp_path), api, "cursor", retry=0.5)

        def fail(request: int) -> None:
            if request == 3:
                api.faults = ["500"] * 20

        api.before = fail
        # The third page itself comes; what comes after it does not.
        api.rows += [order(number) for number in range(30, 40)]
        output = pull.run(code=1)
        assert "answers 500" in output
        assert "it goes on there" in output
        assert pull.ids() == list(range(30))
        api.faults, api.requests = [], []
        pull.run()
        assert pull.ids() == list(range(40))
        assert [path for _, path in api.requests] == ["/cursor?after=30"]


def test_credentials_stay_with_their_host(tmp_path: Path) -> None:
    with serving(Api([order(1)], faults=["other-host"])) as api:
        output = Pull(Lakehouse(tmp_path), api, "link").run(code=1)
        assert "the next link leads to http://127.0.0.2:1" in output


@pytest.mark.team
def test_two_pulls_at_once(team: TeamLakehouse) -> None:
    with serving(Api([order(number) for number in range(200)])) as api:
        pull = Pull(team, api, "cursor")
        running = [pull.start() for _ in range(2)]
        said = "".join(process.communicate(timeout=60)[0] for process in running)
        assert [process.returncode for process in running] == [0, 0], said
        assert pull.ids() == list(range(200))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(json_values), json_values, st.sampled_from([None, 0, 3]), st.booleans())
def test_elements_are_the_bytes_received(
    values: list[Any], other: Any, indent: int | None, ascii_only: bool
) -> None:
    content = {"a": other, "b": {"c": other, "list": values, "d": [other]}, "e": other}
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    found = paging.elements(text, ["b", "list"])
    assert found is not None
    assert [json.loads(each) for each in found] == values
    assert all(each in text for each in found)


def test_numbers_keep_their_digits() -> None:
    text = ' { "x" : [1.10 , 12345678901234567890.123 , 1e400 ] , "x":[ 2.50 ] }'
    assert paging.elements(text, ["x"]) == ["2.50"]
    assert paging.elements("[ 1.10, -0.0 ]", []) == ["1.10", "-0.0"]
    assert paging.elements('{"x": {}}', ["x"]) is None
    assert paging.elements('{"x": 1}', ["y"]) is None


@pytest.mark.parametrize(
    ("text", "time", "expected"),
    [
        ("2024-01-31T10:00:00Z", "iso", "2024-01-31T10:00:00.000000Z"),
        ("2024-01-31T10:00:00.123456789+02:00", "iso", "2024-01-31T08:00:00.123456Z"),
        ("2024-01-31T10:00:00+0200", "iso", "2024-01-31T08:00:00.000000Z"),
        ("2024-01-31T10:00:00-02", "iso", "2024-01-31T12:00:00.000000Z"),
        ("2024-01-31T10:00:00 CET", "iso", None),
        ("2024-01-31 10:00", "iso", "2024-01-31T10:00:00.000000Z"),
        ("2024-01-31", "iso", "2024-01-31T00:00:00.000000Z"),
        (1706695200, "seconds", "2024-01-31T10:00:00.000000Z"),
        (1706695200123, "milliseconds", "2024-01-31T10:00:00.123000Z"),
        ("yesterday", "iso", None),
        (True, "seconds", None),
        (10**20, "seconds", None),
    ],
)
def test_times(text: Any, time: str, expected: str | None) -> None:
    when = paging.moment(text, time)
    assert (paging._iso(when) if when else None) == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "ftp://x"}, "url is an address"),
        ({"url": "http://user:pass@x"}, "leave the password out"),
        ({"auth": {"bearer": "written-down"}}, "must come from the environment"),
        ({"auth": {"header": "X-Key"}}, "give bearer, or header and value"),
        ({"auth": {"oauth2": {"client_id": "a"}}}, "auth: oauth2 needs client_secret"),
        (
            {"auth": {"oauth2": {"client_id": "a", "client_secret": "b"}}},
            "client_secret must come from the environment",
        ),
        ({"rate": {"requests": 0}}, "requests is a number above 0"),
        ({"resources": {}}, "resources is empty"),
        ({"resources": {"a": {"table": "a"}}}, "path begins with /"),
        ({"resources": {"a": {"table": "a", "path": "/a", "pages": {"by": "x"}}}}, "by is none"),
        (
            {"resources": {"a": {"table": "a", "path": "/a", "pages": {"by": "cursor"}}}},
            "needs param",
        ),
        (
            {"resources": {"a": {"table": "a", "path": "/a", "pages": {"by": "timestamp"}}}},
            "need since",
        ),
        ({"resources": {"a": {"table": "a", "path": "/a", "value": "text"}}}, "leave out value"),
        (
            {"resources": {"a": {"table": "a", "path": "/a", "body": {"least": float("nan")}}}},
            "it is sent as JSON",
        ),
        (
            {
                "resources": {
                    "a": {
                        **{"table": "a", "path": "/a", "body": {"page": 1}},
                        "pages": {"by": "page", "param": "page.number"},
                    }
                }
            },
            "page of page.number is no mapping",
        ),
        (
            {"resources": {"a": {"table": "a", "path": "/a", "body": {}, "pages": {"by": "link"}}}},
            "leave one out",
        ),
        ({"timeout": -1}, "timeout is a number above 0"),
        ({"wrong": 1}, "has no setting wrong"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    says: str,
) -> None:
    lakehouse = Lakehouse(tmp_path)
    content = {"url": "http://127.0.0.1:1", "resources": {"a": {"table": "a", "path": "/a"}}}
    file = tmp_path / "shop.yml"
    file.write_text(yaml.safe_dump(content | change), encoding="utf-8")
    for name, value in lakehouse.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(sys, "argv", ["lakebed", "pull", str(file)])
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 1
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "lake").exists()


def test_all_points_are_used() -> None:
    assert set(STEPS) | {"rows-written"} == set(POINTS)
