"""Signatures in the manner of GitHub and Stripe."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from lakebed.ingest.signatures import STYLES, Message
from lakehouse import Lakehouse
from webhooks import mutated, serving

PROVES = ["pat-webhook-sink"]


def github(body: bytes, secret: str, delivery: str) -> dict[str, str]:
    """As GitHub's documentation says: a hexadecimal HMAC of the body."""
    mark = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={mark}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
    }


def stripe(body: bytes, *secrets: str, age: float = 0, version: str = "v1") -> dict[str, str]:
    """As Stripe's documentation says: of the time and the body; with each secret there is."""
    moment = int(time.time() - age)
    marks = [
        hmac.new(secret.encode(), f"{moment}.".encode() + body, "sha256").hexdigest()
        for secret in secrets
    ]
    parts = [f"t={moment}", *(f"{version}={mark}" for mark in marks), "v0=abc"]
    return {"Stripe-Signature": ",".join(parts)}


def test_the_documented_signature_of_github() -> None:
    # From 'Validating webhook deliveries' of GitHub's documentation.
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    mark = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={mark}", "x-github-delivery": "d1"}
    assert STYLES["github"].message([secret], body, headers) == Message("d1", None)
    assert STYLES["github"].message([secret], body + b"!", headers) is None


@pytest.mark.parametrize("style", ["github", "stripe"])
def test_signatures_that_do_not_hold(style: str) -> None:
    """Forged, cut off and mixed up in every place: never taken, never an error."""
    body = b'{"id": "evt_1", "text": "\xc3\xa9"}'
    made = github(body, "new", "d1") if style == "github" else stripe(body, "new")
    headers = {name.lower(): value for name, value in made.items()}
    rule = STYLES[style]
    found = rule.message(["new"], body, headers)
    assert found is not None
    assert found.id == ("d1" if style == "github" else "evt_1")
    # While the secret is changed the old one holds, and not after.
    assert rule.message(["newer", "new"], body, headers) == found
    assert rule.message(["newer"], body, headers) is None
    assert rule.message([], body, headers) is None
    (name,) = [each for each in headers if "signature" in each]
    text = headers[name]
    for end in range(len(text) - len(",v0=abc") * (style == "stripe")):
        assert rule.message(["new"], body, headers | {name: text[:end]}) is None
    generator = random.Random(3)
    for _ in range(300):
        place = generator.randrange(len(body))
        changed = body[:place] + generator.randbytes(1) + body[place + 1 :]
        if changed != body:
            assert rule.message(["new"], changed, headers) is None
        assert rule.message(["new"], body, headers | {name: mutated(text[:64], generator)}) is None
    for wrong in ("", ",", "=", "t=", "é", "t=1,t=2", "sha256=", "sha1=", text.upper(), f"é{text}"):
        assert rule.message(["new"], body, headers | {name: wrong}) is None
    assert rule.message(["new"], body, {}) is None


def test_when_stripe_signed_it() -> None:
    rule, body = STYLES["stripe"], b'{"id": "evt_1"}'

    def message(**how: Any) -> Message | None:
        headers = stripe(body, "secret", **how)
        return rule.message(["secret"], body, {"stripe-signature": headers["Stripe-Signature"]})

    assert message(age=290) is not None
    assert message(age=310) is None
    assert message(age=-310) is None
    assert message(version="v0") is None
    # Two secrets at the sender, as while one is rolled.
    both = {"stripe-signature": stripe(body, "old", "secret")["Stripe-Signature"]}
    assert rule.message(["secret"], body, both) is not None
    # What is signed and has no id of its own is known by its bytes.
    for other in (b"[]", b'{"id": 5}', b'{"id": ""}', b"no json", b'{"id": "%s"}' % (b"x" * 201)):
        mark = {"stripe-signature": stripe(other, "secret")["Stripe-Signature"]}
        found = rule.message(["secret"], other, mark)
        assert found is not None
        assert found.id == f"sha256:{hashlib.sha256(other).hexdigest()}"


def test_github_and_stripe(tmp_path: Path) -> None:
    endpoints = {
        "code": {"table": "git__events", "secret": "code secret", "signature": "github"},
        "money": {
            "table": "pay__events",
            "secret": ["rolled", "money secret"],
            "signature": "stripe",
        },
    }
    lakehouse = Lakehouse(tmp_path)
    with serving(lakehouse, endpoints=endpoints) as (_, client):

        def post(name: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
            answer = client.post(f"/webhooks/{name}", content=body, headers=headers)
            return answer.status_code, answer.json().get("status")

        push, paid = b'{"ref": "main"}', b'{"id": "evt_1", "type": "paid"}'
        assert post("code", push, github(push, "code secret", "d1")) == (200, "stored")
        # Sent again, as GitHub does with the same id.
        assert post("code", push, github(push, "code secret", "d1")) == (200, "duplicate")
        assert post("code", push, github(push, "wrong", "d2"))[0] == 401
        assert post("code", push, github(push, "code secret", "d" * 201))[0] == 400
        assert post("money", paid, stripe(paid, "money secret")) == (200, "stored")
        assert post("money", paid, stripe(paid, "rolled", "another")) == (200, "duplicate")
        # Of the right secret, and of another endpoint's style; and replayed after its time.
        assert post("money", paid, github(paid, "money secret", "d3"))[0] == 401
        assert post("money", paid, stripe(paid, "money secret", age=400))[0] == 401
        assert post("money", b"{broken", stripe(b"{broken", "rolled")) == (200, "dlq")
        assert post("money", b"{broken", stripe(b"{broken", "rolled")) == (200, "duplicate")
    assert lakehouse.query("select _key, _record, _sent_at from bronze.git__events") == [
        ("d1", push.decode(), None)
    ]
    ((headers,),) = lakehouse.query("select _headers from bronze.git__events")
    assert ["x-github-event", "push"] in json.loads(headers)
    assert lakehouse.query(
        "select _key, _record, _sent_at is not null from bronze.pay__events"
    ) == [("evt_1", paid.decode(), True)]
