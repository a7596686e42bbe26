"""What a person reads when something outside the program is wrong: one line, and the way out."""

from __future__ import annotations

import errno
import re


class UserError(Exception):
    """A mistake or a state that a person can mend; the message says how. Never a traceback."""


def explain(error: BaseException) -> str | None:
    """One clear line for an error of DuckDB, DuckLake or the system, None when it is not known.

    The texts are those of DuckDB 1.5 and DuckLake 1.5 (measured, see python/tests/test_errors.py).
    """
    text = str(error)
    if lock := re.search(r'Could not set lock on file "([^"]+)".*?\(PID (\d+)\)', text, re.S):
        return (
            f"The lake's catalogue {lock[1]} is in use by process {lock[2]}. Wait for it to end; "
            "several processes at once need the target `team` (catalogue in PostgreSQL)."
        )
    if "Could not set lock" in text or "Conflicting lock" in text:
        return (
            "The lake's catalogue is in use by another process. Wait for it to end; several "
            "processes at once need the target `team` (catalogue in PostgreSQL)."
        )
    if version := re.search(r"catalog version is ([\w.]+), but .* requires version ([\w.]+)", text):
        return (
            f"The lake was made by another version of DuckLake: its catalogue is {version[1]}, "
            f"this one reads {version[2]}. Use the Lakebed it was made with, or upgrade this one; "
            "nothing was changed."
        )
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in text:
        return (
            "The disk is full. Nothing half-written is in the lake: free some space and run the "
            "same command again."
        )
    if "Permission denied" in text:
        return f"{_first_line(text)} Check who owns the folder (LAKEBED_HOME, LAKEBED_LANDING)."
    if "could not connect to server" in text or "Unable to connect to Postgres" in text:
        return "The catalogue's PostgreSQL cannot be reached: check LAKEBED_POSTGRES."
    if "Transaction conflict" in text:
        return (
            "Another writer changed the same tables first, so this one was rolled back. Run the "
            "same command again: it continues where the other ended."
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return None


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
