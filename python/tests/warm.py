"""dbt and `lakebed` in processes that are warm already, which is most of a small run.

Every run is a process of its own, as users have it: the fork of one that has imported them, and
has parsed an empty project (warmed.py). A project's first run can begin with what was parsed of
Lakebed's macros there, or of the same project before: dbt's own partial parsing.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, Literal

import duckdb

Engine = Literal["duckdb", "spark"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("dbt.cli.main", "dbt.adapters.duckdb.impl", "dbt.adapters.spark.impl", "dbt_lakebed"),
        *("lakebed.cli", "lakebed.dbt_duckdb", "pandas", "pytest", __name__, "warmed"),
    ]
)


@cache
def trust_extensions() -> None:
    """Take DuckDB's extensions as they are: to check their signatures it reads all 80 MB of them,
    at each `duckdb.connect`, which is a third of a small run of dbt.
    """
    connect = duckdb.connect

    def trusting(*arguments: Any, config: Any = None, **named: Any) -> Any:
        config = {"allow_unsigned_extensions": "true", **(config or {})}
        return connect(*arguments, config=config, **named)

    duckdb.connect = trusting


@cache
def _start_server() -> None:
    """With this folder on its path: it does not have that of this process (CPython 117378)."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [path])])
    try:
        ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if path is not None:
            os.environ["PYTHONPATH"] = path


def run(
    command: tuple[str, ...],
    cwd: Path,
    env: Mapping[str, str],
    parsed: Path | Engine | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd`, with no other environment than `env`.

    `parsed` is what a first run of dbt begins with: a file in which the parsed project is kept
    for runs in other target folders; or Lakebed's macros for an engine.
    """
    if command[0] not in ("dbt", "lakebed"):
        return subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
    _start_server()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        saved = Path(cwd, env.get("DBT_TARGET_PATH", "target"), "partial_parse.msgpack")
        # Other variables than the last run's would have dbt parse all anew.
        again = isinstance(parsed, str) and "--vars" in command
        first = parsed is not None and command[0] == "dbt" and (again or not saved.exists())
        begin = (saved, parsed) if first else None
        process = _context.Process(target=_main, args=(command, str(cwd), dict(env), files, begin))
        process.start()
        try:
            process.join()
        finally:  # a test that has run out of time
            process.kill()
        texts = [file.read_text("utf-8") if file.exists() else "" for file in files]
    assert process.exitcode is not None
    if first and isinstance(parsed, Path) and not parsed.exists() and saved.exists():
        shutil.copyfile(saved, parsed)
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _main(
    command: tuple[str, ...],
    cwd: str,
    env: dict[str, str],
    files: list[Path],
    begin: tuple[Path, Any] | None,
) -> None:
    os.setsid()
    for descriptor, file in enumerate(files, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = list(command)
    trust_extensions()
    # What a new interpreter has: its own folder first, then PYTHONPATH.
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    if command[0] == "dbt":
        gc.disable()  # a tenth of parsing; the process ends soon
        if begin:
            _begin_with(*begin)
        from dbt.cli.main import cli as main
    else:
        from lakebed.cli import main
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()  # a process of multiprocessing forgets them


def _begin_with(saved: Path, parsed: Path | Engine) -> None:
    """Let dbt begin with what was parsed before, though its connection is to another folder."""
    import warmed
    from dbt.parser.hooks import HookParser
    from dbt.parser.manifest import ManifestLoader

    if isinstance(parsed, Path) and not parsed.exists():
        return
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_bytes(parsed.read_bytes() if isinstance(parsed, Path) else warmed.MACROS[parsed])
    check = ManifestLoader.is_partial_parsable

    def is_partial_parsable(self: Any, manifest: Any) -> Any:
        if not isinstance(parsed, Path):  # macros, which depend on nothing of what is checked
            manifest.state_check = self.manifest.state_check
        manifest.state_check.profile_hash = self.manifest.state_check.profile_hash
        return check(self, manifest)

    ManifestLoader.is_partial_parsable = is_partial_parsable
    parse = ManifestLoader.parse_project

    def parse_project(self: Any, project: Any, files: Any, parsers: Any) -> None:
        """And its hooks, which dbt takes for those of before."""
        parse(self, project, files, parsers)
        if HookParser in parsers and self.partially_parsing:
            self.partially_parsing = False
            parse(self, project, {}, [HookParser])
            self.partially_parsing = True

    if not isinstance(parsed, Path):
        ManifestLoader.parse_project = parse_project
