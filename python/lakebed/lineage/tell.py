"""Lineage told as it happens: after each run of dbt, and by the sidecar.

Events go where OpenLineage's own settings say (OPENLINEAGE_URL, OPENLINEAGE_CONFIG,
openlineage.yml); without any, nothing is made. What cannot be sent stops nobody's work.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakebed.errors import UserError

if TYPE_CHECKING:
    from lakebed.lineage.arrivals import Arrival
    from lakebed.lineage.events import Event
    from lakebed.project import Lake, SparkLake

COMMANDS = ("build", "run", "seed", "snapshot", "test")
_SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")


def wanted() -> bool:
    """Whether somebody has said where events go."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").lower() == "true":
        return False
    files = (Path("openlineage.yml"), Path.home() / ".openlineage" / "openlineage.yml")
    return any(name.startswith(_SETTINGS) for name in os.environ) or any(
        file.is_file() for file in files
    )


def send(events: Iterable[Event], file: Path | None = None) -> int:
    """Send events where the settings say, or write them into a file; how many. Raises UserError."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.file import FileConfig, FileTransport

    sent = 0
    try:
        to_file = FileTransport(FileConfig(str(file), append=True)) if file else None
        client = OpenLineageClient(transport=to_file)
        for event in events:
            client.emit(event)
            sent += 1
        client.close()
    except Exception as error:  # each transport has its own
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"OpenLineage: event {sent + 1} was not sent: {line}") from error
    return sent


def of_run(project: Path, target: Path, output: Mapping[str, Any]) -> list[Event]:
    """The events of the run whose artifacts are in `target`. Raises UserError without any."""
    from lakebed.lineage import graph
    from lakebed.lineage.arrivals import configured
    from lakebed.lineage.events import Teller, lake_namespace

    try:
        results = json.loads((target / "run_results.json").read_text("utf-8"))
        manifest = json.loads((target / "manifest.json").read_text("utf-8"))
    except OSError as error:
        raise UserError(f"There is no {error.filename}: run `dbt build` first.") from error
    for result in results["results"]:
        if (node := manifest["nodes"].get(result["unique_id"])) and result.get("compiled_code"):
            node["compiled_code"] = result["compiled_code"]
    arrivals, _ = configured(project / "streams")
    name, lake = manifest["metadata"]["project_name"], lake_namespace(output, project)
    return list(Teller(name, lake, graph.build(manifest, arrivals)).of_dbt(manifest, results))


def after_dbt(invocation: str) -> None:
    """Send the events of the run of dbt in this process, which has just ended."""
    from dbt.flags import get_flags

    from lakebed.project import target_settings

    flags = get_flags()
    if getattr(flags, "WHICH", None) not in COMMANDS or not getattr(flags, "WRITE_JSON", True):
        return
    project = Path(flags.PROJECT_DIR)
    target = project / (getattr(flags, "TARGET_PATH", None) or "target")
    try:
        results = json.loads((target / "run_results.json").read_text("utf-8"))
        if results["metadata"]["invocation_id"] != invocation:
            return  # it ended before it did anything
        _, output = target_settings(project, Path(flags.PROFILES_DIR), flags.TARGET)
        send(of_run(project, target, output))
    except ImportError:
        _warn("OpenLineage events need packages more: pip install 'lakebed[lineage]'")
    except UserError as error:
        _warn(f"{error}. `lakebed lineage emit` sends this run's events again.")
    except Exception as error:  # a build is not to fail of what is told about it
        _warn(f"no lineage of this run: {type(error).__name__}: {error}")


@contextmanager
def telling(
    job: str, arrivals: Sequence[Arrival], lake: Lake | SparkLake, say: Callable[[str], None]
) -> Iterator[None]:
    """Say that a stream runs, and how it ended. The working folder is the project's. Raises
    UserError when packages are missing."""
    if not wanted():
        yield
        return
    try:
        from lakebed.lineage.events import of_stream
    except ImportError:
        raise UserError(
            "OpenLineage events need packages more: pip install 'lakebed[lineage]'"
        ) from None
    run = str(uuid.uuid4())

    def tell(state: str, error: BaseException | None = None) -> None:
        try:
            send([of_stream(job, run, state, arrivals, lake, Path.cwd(), error)])
        except UserError as failed:
            say(str(failed))

    tell("START")
    try:
        yield
    except BaseException as error:
        tell("FAIL" if isinstance(error, Exception) else "ABORT", error)
        raise
    tell("COMPLETE")


def _warn(line: str) -> None:
    print(f"Lakebed: {line}", file=sys.stderr)
