"""Where the sample's events can go: a Kafka topic, a webhook, a file, standard output."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from lakebed.errors import UserError
from lakebed.sample.web import Destination, Sent
from lakebed.sample.writer import SampleError

PATTERNS = ["pat-streaming-ingest", "pat-webhook-sink"]

#: Environment variable with the secret that signs webhooks.
SECRET = "LAKEBED_WEBHOOK_SECRET"
TABLE = "web__clicks"
#: Settings of a stream's file that a producer has, too.
_SHARED = ("bootstrap.servers", "security.", "sasl.", "ssl.", "client.")
#: Seconds that a busy receiver is tried again for.
_PATIENCE = 60.0


def destination(to: str) -> Destination:
    """What `--to` means. Raises SampleError."""
    if to.startswith("kafka://"):
        parts = urlsplit(to)
        topic = parts.path.strip("/")
        if not parts.netloc or not topic or "/" in topic:
            raise SampleError(f"--to {to} is not like kafka://localhost:9092/clicks.")
        return Kafka({"bootstrap.servers": parts.netloc}, topic)
    if to.endswith((".yml", ".yaml")):
        return Kafka(*_of_stream(Path(to)))
    if to.startswith(("http://", "https://")):
        return Webhooks(to)
    if to == "-":
        return Lines(sys.stdout.buffer)
    try:
        return Lines(Path(to).open("wb"))
    except OSError as error:
        raise SampleError(f"Cannot write {to}: {error.strerror}.") from error


def _of_stream(file: Path) -> tuple[dict[str, Any], str]:
    """Kafka's settings and the topic of a stream's file that goes to `web__clicks`, or its only."""
    from lakebed.ingest.config import read_stream

    try:
        stream = read_stream(file)
    except UserError as error:
        raise SampleError(str(error)) from None
    topics = [name for name, entity in stream.topics.items() if entity.table == TABLE]
    topics = topics or list(stream.topics)
    if len(topics) != 1:
        raise SampleError(f"{file}: no topic goes to {TABLE}; give --to kafka://host:9092/topic.")
    shared = {key: value for key, value in stream.kafka.items() if key.startswith(_SHARED)}
    return shared, topics[0]


class Lines:
    """JSON lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def send(self, sent: Sent) -> None:
        self._file.write(sent.body + b"\n")

    def close(self) -> None:
        self._file.flush()
        if self._file is not sys.stdout.buffer:
            self._file.close()


class Kafka:
    """A topic; the key is the session, so that events of one session stay in one partition."""

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError:
            raise SampleError("Kafka needs a package more: pip install 'lakebed[kafka]'") from None
        self._topic, self._failed = topic, ""
        servers = settings["bootstrap.servers"]
        try:
            self._producer = Producer(
                {"linger.ms": 20, "log_level": 0, **settings, "enable.idempotence": True}
            )
            found = self._producer.list_topics(topic, timeout=10).topics[topic]
        except KafkaException as error:
            raise SampleError(f"Kafka at {servers}: {error.args[0].str()}.") from error
        if found.error is not None:
            raise SampleError(f"Kafka at {servers}: {topic}: {found.error.str()}; make the topic.")

    def send(self, sent: Sent) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=sent.event.session_id,
                    value=sent.body,
                    on_delivery=self._delivered,
                )
                break
            except BufferError:  # it has more than it can send at once
                self._producer.poll(0.1)
        self._producer.poll(0)
        self._check()

    def close(self) -> None:
        while self._producer.flush(1) and not self._failed:
            pass
        self._check()

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed = error.str()

    def _check(self) -> None:
        if self._failed:
            raise SampleError(f"Kafka did not take an event of {self._topic}: {self._failed}.")


class Webhooks:
    """An endpoint of `lakebed webhook`, or any that takes Standard Webhooks; one at a time."""

    def __init__(self, url: str) -> None:
        try:
            import httpx
            from standardwebhooks import Webhook
        except ImportError:
            raise SampleError("Webhooks need packages: pip install 'lakebed[http]'") from None
        if not (secret := os.environ.get(SECRET)):
            raise SampleError(f"Set {SECRET} to the secret that signs webhooks (whsec_...).")
        try:
            self._hook = Webhook(secret)
        except Exception:
            raise SampleError(f"{SECRET} is not base64, such as whsec_...") from None
        self._url, self._client, self._lost = url, httpx.Client(timeout=30), httpx.TransportError

    def send(self, sent: Sent) -> None:
        """Sent until it is answered with 2xx: the receiver knows a message by its id."""
        message = f"web_{sent.event.session_id}_{sent.position}"
        until, wait, why = time.monotonic() + _PATIENCE, 0.1, ""
        while time.monotonic() < until:
            now = datetime.now(timezone.utc)
            try:
                answer = self._client.post(
                    self._url,
                    content=sent.body,
                    headers={
                        "content-type": "application/json",
                        "webhook-id": message,
                        "webhook-timestamp": str(int(now.timestamp())),
                        "webhook-signature": self._sign(message, now, sent.body),
                    },
                )
            except self._lost as error:
                why = str(error) or type(error).__name__
            else:
                if answer.is_success or answer.status_code == 400:
                    return  # 400: damaged on purpose
                why = f"answers {answer.status_code} {answer.text[:100]}"
                if answer.status_code not in (429, 503):
                    break
                wait = max(wait, min(5.0, float(answer.headers.get("retry-after", 0))))
            time.sleep(wait)
            wait = min(5.0, wait * 2)
        raise SampleError(f"{self._url}: {why}")

    def _sign(self, message: str, now: datetime, body: bytes) -> str:
        try:
            return self._hook.sign(message, now, body.decode())
        except UnicodeDecodeError:
            return "v1,damaged"  # no signature is made of what is not text

    def close(self) -> None:
        self._client.close()
