"""The command `lakebed`."""

from __future__ import annotations

import typer

from lakebed.sample.cli import app as sample

app = typer.Typer(no_args_is_help=True, help="Lakebed: a lakehouse you can clone.")
app.add_typer(sample, name="sample")


@app.callback()
def main() -> None:
    """Lakebed: a lakehouse you can clone."""
