"""What a person reads when something outside the program is wrong: one line, and the way out."""

from __future__ import annotations

import errno
import re

#: A connection to the catalogue's PostgreSQL was lost, in its own words, and in those of DuckLake
#: for what fails a moment later because of it.
LOST = (
    "server closed the connection",
    "terminating connection",
    "no connection to the server",
    'Failed to execute query "ROLLBACK"',
    "Current transaction is aborted",
    # A read of rows inside the catalogue, 1.5.5 (an internal error) and later (its words).
    "access index 0 within vector of size 0",
    "Failed to read inlined data from DuckLake",
)


class UserError(Exception):
    """A mistake or a state that a person can mend; the message says how. Never a traceback."""


class LakeLocked(UserError):
    """Another process holds the catalogue's file; waiting helps."""

    @staticmethod
    def known(error: BaseException) -> bool:
        return "Could not set lock on file" in str(error)


def explain(error: BaseException) -> str | None:
    """One clear line for an error of DuckDB, DuckLake or the system, None when it is not known.

    The texts are those of DuckDB 1.5 and DuckLake 1.5 (measured, see python/tests/test_errors.py).
    """
    text = str(error)
    if lock := re.search(r'Could not set lock on file "([^"]+)"', text):
        holder = re.search(r"\(PID (\d+)\)", text)
        return (
            f"The lake's catalogue {lock[1]} is in use by "
            f"{f'process {holder[1]}' if holder else 'another process'}. Wait for it to end; "
            "several processes at once need the target `team` (catalogue in PostgreSQL)."
        )
    if version := re.search(r"catalog version is ([\w.-]+), .*requires version ([\w.-]+)", text):
        newer = _numbers(version[1]) > _numbers(version[2])
        return (
            f"The lake was made by another version of DuckLake: its catalogue is {version[1]}, "
            f"this one reads {version[2]}; nothing was changed. "
            + (
                "Upgrade Lakebed (`git pull && make build`)."
                if newer
                else "Copy the catalogue file, then migrate it: attach it once with DuckLake's "
                "option AUTOMATIC_MIGRATION."
            )
        )
    if foreign := re.search(r'The file "([^"]+)" exists, but it is not a valid DuckDB', text):
        return (
            f"{foreign[1]} is not a DuckLake catalogue, or is damaged: restore it from a copy, or "
            "set LAKEBED_HOME to another folder."
        )
    if "Existing DuckLake at metadata catalog" in text and "does not exist" in text:
        return "There is no lake in that catalogue yet: run `dbt build` first."
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in text:
        return (
            "The disk is full. Nothing half-written is in the lake: free some space and run the "
            "same command again."
        )
    if "Permission denied" in text:
        place = getattr(error, "filename", None)
        return (
            f"No permission for {place}." if place else _first_line(text)
        ) + " Check who owns the folder (LAKEBED_HOME, LAKEBED_LANDING)."
    if "Unable to connect to Postgres" in text:
        # The connection string in DuckDB's message may hold a password: only the cause is shown.
        cause = text.rsplit("failed: ", 1)[1] if "failed: " in text else "no answer"
        return (
            f"The catalogue's PostgreSQL cannot be reached ({_first_line(cause)}): check "
            "LAKEBED_POSTGRES, and that the server runs."
        )
    if any(words in text for words in LOST):
        return (
            "The connection to the catalogue's PostgreSQL was lost, and whether the last commit "
            "was made is not known. Run the same command again: it continues where this one ended."
        )
    if refused := re.search(r"to URL (s3://\S+): .*\(HTTP code (\d+)\)\s*(.*)", text, re.DOTALL):
        cause = _first_line(refused[3]) if refused[3].strip() else f"HTTP code {refused[2]}"
        return f"The object store did not take or give {refused[1]} ({cause.rstrip('.')})." + (
            " Check the key that AWS's variables or files give, and its rights."
            if refused[2] in ("401", "403")
            else " Check LAKEBED_STORE, and that the bucket is there."
            if refused[2] == "404"
            else ""
        )
    if away := re.search(r"([^:]*?)(?: error)? for HTTP \w+ to '(\w+://[^/']+)", text):
        cause = away[1].strip()
        if re.search("HTTP 4(?!29)", cause):
            return f"The object store {away[2]} refuses ({cause}): check the key, and its rights."
        return (
            f"The object store {away[2]} does not answer as it should ({cause}): check "
            "AWS_ENDPOINT_URL, and that it runs."
        )
    if "Transaction conflict" in text:
        return (
            "Another writer changed the same tables first, so this one was rolled back. Run the "
            "same command again: it continues where the other ended."
        )
    if "Exceeded the maximum retry count" in text:
        return (
            "So many others write to the lake that this commit never had its turn, and was rolled "
            "back. Run the same command again."
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return None


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
