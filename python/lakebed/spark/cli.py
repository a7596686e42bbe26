"""`lakebed spark`: a cluster on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError

app = typer.Typer(no_args_is_help=True, help="A Spark cluster on this machine.")

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the lake's Spark tables. Default: LAKEBED_HOME/spark."),
]


def lake_home(home: Path | None = None) -> Path:
    """Where the Spark tables of the lake are."""
    from lakebed.spark.settings import spark_home

    return (home or spark_home()).resolve()


@app.command()
def up(
    workers: Annotated[
        int, typer.Option(min=0, help="Workers of one core each; 0: the driver works itself.")
    ] = 2,
    thrift_port: Annotated[int, typer.Option(help="Where dbt connects.")] = 10000,
    connect_port: Annotated[int, typer.Option(help="Where Python models connect.")] = 15002,
    table_format: Annotated[
        str | None, typer.Option(help="Of a new lake: delta (the default) or iceberg.")
    ] = None,
    home: Home = None,
) -> None:
    """Start a master, workers and a Thrift server, for the target `spark`.

    Needs the extra `spark` and Java 17. Example: lakebed spark up --workers 2
    """
    from lakebed.spark import cluster

    started = cluster.up(lake_home(home), workers, thrift_port, connect_port, table_format)
    typer.echo(f"A cluster with {workers} workers answers. Build on it:\n")
    values = " ".join(f"{name}={value}" for name, value in started.environment.items())
    default = (thrift_port, connect_port, started.table_format) == (10000, 15002, "delta")
    typer.echo(f"  {'' if default else values + ' '}dbt build --target spark\n")
    typer.echo("`lakebed spark status` looks at it, `lakebed spark down` ends it.")


@app.command()
def status(home: Home = None) -> None:
    """The cluster's processes and workers; exit code 1 when it cannot answer.

    Example: lakebed spark status
    """
    from rich.console import Console
    from rich.table import Table

    from lakebed.spark import cluster

    folder = lake_home(home)
    found = cluster.running(folder)
    if found is None:
        raise UserError(f"No cluster on {folder}: `lakebed spark up` starts one.")
    table = Table("process", "pid", "state")
    for role, runs in found.alive().items():
        table.add_row(role, str(found.processes[role]), "runs" if runs else "ended")
    console = Console()
    console.print(table)
    alive = [worker for worker in cluster.workers(found) if worker["state"] == "ALIVE"]
    console.print(
        f"{len(alive)} workers with {sum(worker['cores'] for worker in alive)} cores; "
        f"SQL on port {found.thrift}, Python on {found.connect}; logs in {folder / 'logs'}."
    )


@app.command()
def down(home: Home = None) -> None:
    """End the cluster; its tables stay. Example: lakebed spark down"""
    from lakebed.spark import cluster

    folder = lake_home(home)
    typer.echo("The cluster is down." if cluster.down(folder) else f"No cluster on {folder}.")
