"""One request: plan, rows, landing files, history, receipt. Each step may be killed and rerun."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lakebed.erase import files as landed
from lakebed.erase import policy
from lakebed.erase.hashing import Hasher, key_id, normal, secret
from lakebed.errors import UserError

SUBJECTS = "LAKEBED_ERASURE_SUBJECTS"
_ANSWER = re.compile(r"^LAKEBED (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A dbt project, and how to run dbt in it."""

    folder: Path
    target: str | None = None
    profiles: Path | None = None

    def dbt(self, *command: str, subjects: Sequence[str] = ()) -> str:
        """What dbt prints. It writes no log and no artifact: those would hold what it was asked.

        Raises UserError with dbt's own error.
        """
        done = subprocess.run(
            self._command(command),
            cwd=self.folder,
            env={**os.environ, SUBJECTS: json.dumps(list(subjects))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(_reason(done.stdout + done.stderr))
        return done.stdout

    def _command(self, command: Sequence[str]) -> list[str]:
        return [
            *(sys.executable, "-c", "from dbt.cli.main import cli; cli()"),
            *("--quiet", "--no-use-colors", "--log-level-file", "none"),
            *("--no-send-anonymous-usage-stats", *command),
            *(("--target", self.target) if self.target else ()),
            *(("--profiles-dir", str(self.profiles)) if self.profiles else ()),
        ]

    def lines(self, name: str, arguments: dict[str, Any]) -> Iterator[str]:
        """Run a macro of Lakebed; what it prints, line by line, as it prints it.

        Raises UserError with dbt's own error at the end.
        """
        command = ("--no-write-json", "run-operation", f"lakebed.{name}")
        with subprocess.Popen(
            self._command((*command, "--args", json.dumps(arguments))),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            said = []
            try:
                for line in running.stdout or ():
                    said.append(line)
                    yield line.rstrip("\n")
            except BaseException:
                running.kill()
                raise
        if running.returncode:
            raise UserError(_reason("".join(said)))

    def operation(self, name: str, arguments: dict[str, Any], subjects: Sequence[str] = ()) -> str:
        """Run a macro of Lakebed."""
        return self.dbt(
            *("--no-write-json", "run-operation", f"lakebed.{name}"),
            *("--args", json.dumps(arguments)),
            subjects=subjects,
        )

    def manifest(self) -> dict[str, Any]:
        """The project as dbt reads it."""
        # Parsed whole: after a partial parse the tags of unchanged models were seen to be missing.
        self.dbt("--no-partial-parse", "parse")
        target = self.folder / (os.environ.get("DBT_TARGET_PATH") or "target")
        found: dict[str, Any] = json.loads((target / "manifest.json").read_text("utf-8"))
        return found


@dataclass(frozen=True)
class Request:
    """What is to be erased, and what is known about it before anything is touched."""

    subject: str
    keys: list[str]
    request_id: str
    key_id: str
    hashes: list[str]
    tables: list[policy.TablePlan]
    landing: Path | None
    found: list[tuple[Any, Any, int]]  # landing files with lines of the subject
    rules: dict[tuple[str, str], policy.LineRule]
    is_erased: dict[tuple[str, str], Callable[[str], bool]]


def prepare(project: Project, subject: str, keys: Sequence[str]) -> Request:
    """Check everything that can be checked. Raises UserError; touches nothing."""
    key = secret()
    manifest = project.manifest()
    tables = policy.plan(manifest, subject)
    kinds = {kind for table in tables for kind in _kinds(table)}
    if len(kinds) > 1:
        raise UserError(
            f"'{subject}' is {' here and '.join(sorted(kinds))} there: give its key one data_type."
        )
    kind = kinds.pop() if kinds else "string"
    wanted = sorted({normal(text, kind) for text in keys} - {""})
    if not wanted:
        raise UserError("No key was given: whom shall be erased?")
    for table in tables:
        for column in table.keys:
            if str(table.values.get(column["name"])) in wanted:
                raise UserError(
                    f"{table.values[column['name']]} is what {table.name} writes in place of a "
                    f"{subject} that was erased; it is nobody's key."
                )
    hasher = Hasher(key, subject, kind)
    hashes = [hasher.of(text) for text in wanted]
    rules = {table.landed: table.line for table in tables if table.landed and table.line}
    erased = set(hashes)
    tests: dict[tuple[str, str], Callable[[str], bool]] = {
        place: lambda text: hasher.of(text) in erased for place in rules
    }
    landing = _landing(project, manifest)
    found = list(landed.affected(landing, rules, tests, wanted)) if landing and rules else []
    mark = hmac.new(key, "\n".join([subject, *hashes]).encode(), hashlib.sha256).hexdigest()
    return Request(
        subject, wanted, mark[:16], key_id(key), hashes, tables, landing, found, rules, tests
    )


def erase(project: Project, request: Request, dry_run: bool = False) -> dict[str, Any]:
    """Rows and landing files; with `dry_run` only count. Returns {tables: {name: rows}, known}."""
    staged = []
    if not dry_run:
        if request.landing:
            landed.discard(request.landing)
        for file, facts, lines in request.found:
            place = (file.source, file.entity)
            staged.append(
                landed.stage(file, facts, lines, request.rules[place], request.is_erased[place])
            )
    plan = {
        "request_id": request.request_id,
        "key_id": request.key_id,
        "subject": request.subject,
        "hashes": request.hashes,
        "tables": [asdict(table) for table in request.tables],
        "files": [file.version() for file in staged],
        "file_count": len(request.found),
    }
    answer = project.operation("erase_rows", {"plan": plan, "dry_run": dry_run}, request.keys)
    for file in staged:
        file.replace()
    return _answer(answer)


def erase_history(project: Project, request: Request) -> list[str]:
    """Old files and a fresh start of each table's log; returns the folders of the tables."""
    names = ("database", "schema", "identifier")
    tables = [{name: getattr(table, name) for name in names} for table in request.tables]
    found: list[str] = _answer(project.operation("erase_history", {"tables": tables}))["folders"]
    return found


def _answer(printed: str) -> dict[str, Any]:
    match = _ANSWER.search(printed)
    if match is None:
        raise UserError(f"dbt did not say what it did: {printed[-500:]}")
    found: dict[str, Any] = json.loads(match[1])
    return found


def complete(project: Project, request: Request, rows: int) -> None:
    """The receipt that closes the request."""
    project.operation(
        "erase_complete",
        {
            "request_id": request.request_id,
            "subject": request.subject,
            "key_id": request.key_id,
            "row_count": rows,
            "file_count": len(request.found),
        },
    )


def _kinds(table: policy.TablePlan) -> set[str]:
    declared = [column["data_type"] for column in table.keys if column["data_type"]]
    declared += [table.line.data_type] if table.line else []
    return {_kind(data_type) for data_type in declared}


def _kind(data_type: str) -> str:
    if policy.is_whole(data_type):
        return "bigint"
    return "string" if data_type in ("varchar", "text") else data_type


def _landing(project: Project, manifest: dict[str, Any]) -> Path | None:
    for node in manifest["nodes"].values():
        if node["name"] == "bronze_landing__files":
            where = policy.meta(node).get("landing")
            return (project.folder / where).resolve() if where else None
    return None


def _reason(output: str) -> str:
    """dbt's error in one line, without the place in a file that it adds."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if "Lakebed: " in line:
            return line.split("Lakebed: ", 1)[1]
    shown = [line for line in lines if not line.startswith(("Encountered an error", "> in macro"))]
    return " ".join(shown)[-800:] or "dbt failed and said nothing."
