"""A build killed at any moment, and run again, ends with the lake of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lakehouse import REPO, Lakehouse

PROVES = ["pat-idempotent", "pat-file-drop-microbatch"]

#: Both lakes have a landing folder of their own.
PATH = ("path",)
AS_OF = "2018-02-01 00:00:00"
COMMAND = ["dbt", "build", "--exclude", "resource_type:unit_test", "--vars"]


def killed_build(lakehouse: Lakehouse, after: float) -> int:
    """`dbt build`, killed `after` seconds; its exit code, -9 when it was still at work."""
    build = subprocess.Popen(
        [*COMMAND, json.dumps({"as_of": AS_OF})],
        cwd=REPO,
        env=lakehouse.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return build.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(build.pid, signal.SIGKILL)
        return build.wait()


def kill_and_resume(home: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    undisturbed = Lakehouse(home / "undisturbed")
    undisturbed.land("--until", "2017-01-08", "--promotion-weeks", "1", "--faults", "5")
    start = time.monotonic()
    undisturbed.dbt("build", "--exclude", "resource_type:unit_test", as_of=AS_OF)
    length = time.monotonic() - start
    expected = undisturbed.hashes(exclude=PATH)

    moments = []
    disturbed = Lakehouse(home / "disturbed")
    shutil.copytree(undisturbed.landing, disturbed.landing)  # with the files' times
    while len(moments) < kills:
        moment = rng.uniform(3.0, length)
        if killed_build(disturbed, moment) == 0:
            # Nothing was left to kill: start again with a new lake.
            assert disturbed.hashes(exclude=PATH) == expected
            shutil.rmtree(disturbed.home / "lake")
            continue
        moments.append(moment)
    disturbed.dbt("build", "--exclude", "resource_type:unit_test", as_of=AS_OF)
    assert disturbed.hashes(exclude=PATH) == expected, moments


def test_killed_builds_end_the_same(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=3, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_killed_builds_end_the_same_soak(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, kills=20, seed=seed)
