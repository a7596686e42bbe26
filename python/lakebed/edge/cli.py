"""`lakebed edge`: the client by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError

app = typer.Typer(no_args_is_help=True, help="A device's side: records to the gateway.")

SECRET = "LAKEBED_EDGE_SECRET"
#: The steps of the client, for --fail-at.
POINTS = (
    "rolled",  # a new segment is begun
    "written",  # a record is in its segment
    "synced",  # and on the disk
    "packed",  # a batch is made, nothing is sent
    "answered",  # the gateway has answered; nothing of it is noted
    "position-kept",  # noted
    "deleted",  # a segment that the gateway has is gone
    "dropped",  # a segment that it has not is gone, for want of room
)

Device = Annotated[str, typer.Option(help="The device's name.")]


@app.callback()
def edge() -> None:
    """A device's side: records to the gateway."""


@app.command()
def send(
    device: Device,
    url: Annotated[str, typer.Option(help="The gateway's endpoint: http://.../edge/<endpoint>.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where records wait; ./edge-<device> if absent.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Records of one batch.")] = 1000,
    age: Annotated[
        float, typer.Option(min=0, help="Seconds after which a batch goes, however small.")
    ] = 60,
    max_disk: Annotated[
        int, typer.Option(min=8192, help="The most bytes that the folder may take.")
    ] = 256 * 1024 * 1024,
    drop_oldest: Annotated[
        bool,
        typer.Option("--drop-oldest", help="Give up the oldest records when it is full."),
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying at the end of the input.")
    ] = 30,
    fail_at: Annotated[
        str | None,
        typer.Option(
            help=f"For tests: die (SIGKILL) at a step: {', '.join(POINTS)}.", show_default=False
        ),
    ] = None,
) -> None:
    """Send each line of the input as a record; what cannot be sent stays in the folder.

    The secret is in LAKEBED_EDGE_SECRET: the endpoint's, or the device's own (`lakebed edge
    secret`). Ends with 1 when records still wait, or there was no room for one.

    Example: lakebed edge send --device pump-7 --url http://localhost:8089/edge/pumps < lines.jsonl
    """
    from lakebed.edge import Edge, EdgeError
    from lakebed.ingest.faults import Faults

    faults = Faults(fail_at, POINTS)
    place = folder or Path(f"edge-{device}")
    taken = 0
    try:
        with Edge(
            device,
            url,
            _secret(),
            place,
            batch=batch,
            age=age,
            max_disk=max_disk,
            full="drop_oldest" if drop_oldest else "refuse",
            reach=faults.reach,
        ) as client:
            before = client.waiting
            try:
                for line in sys.stdin.buffer:
                    record = line.rstrip(b"\r\n")
                    if record:
                        client.send(record)
                        taken += 1
            finally:
                left = client.flush(wait)
                dropped, trouble = client.dropped, client.trouble
                typer.echo(
                    f"{device}: {taken:,} records taken, {before:,} waited before,"
                    f" {dropped:,} given up, {left:,} wait now."
                )
    except EdgeError as error:
        raise UserError(
            f"{error} (line {taken + 1} of the input)" if taken else str(error)
        ) from error
    if left:
        raise UserError(
            f"{left:,} records wait in {place}: {trouble or 'there was no time'}. "
            "Run the same command again, with or without input."
        )


@app.command()
def secret(device: Device) -> None:
    """Print the secret for one device, made of the endpoint's in LAKEBED_EDGE_SECRET.

    The gateway accepts it for this device only, and needs no list of devices.

    Example: lakebed edge secret --device pump-7
    """
    from lakebed.edge import EdgeError
    from lakebed.edge.post import device_secret

    try:
        typer.echo(device_secret(_secret(), device))
    except EdgeError as error:
        raise UserError(str(error)) from error


def _secret() -> str:
    if not (value := os.environ.get(SECRET)):
        raise UserError(
            f"{SECRET} is not set: it is the secret of the gateway's endpoint, whsec_..."
        )
    return value
