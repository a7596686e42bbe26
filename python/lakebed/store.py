"""Lakes whose files are in an object store: S3, or a server that speaks it.

`LAKEBED_STORE` (`s3://bucket/folder`) says where; who we are and where the server is, the variables
and files of AWS's own tools say, the same on both engines: AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, AWS_REGION, a machine's role. The catalogue stays where it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import duckdb

from lakebed.errors import UserError
from lakebed.lake import load_extension

#: What AWS itself calls it when nothing is said; a store of one's own takes any.
REGION = "us-east-1"
#: The extensions of DuckDB that S3 needs: the file system, and where AWS's tools find keys.
EXTENSIONS = ("httpfs", "aws")


def is_object_store(place: str) -> bool:
    """Whether a path is in an object store."""
    return "://" in place


def check_store(place: str) -> None:
    """Raises UserError for a store that is not known."""
    parts = urlsplit(place)
    if parts.scheme != "s3" or not parts.netloc:
        raise UserError(f"LAKEBED_STORE is s3://bucket/folder, or a folder, not {place!r}.")


def endpoint() -> str | None:
    """The URL of the S3 server that is not AWS's."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"AWS_ENDPOINT_URL is http://host:port or https://host, not {url!r}.")
    return url


def region() -> str | None:
    """The region that was chosen; of a server of one's own it is any."""
    given = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    return given or (REGION if endpoint() else None)


def reach(connection: duckdb.DuckDBPyConnection, place: str) -> None:
    """Let DuckDB read and write `place`; a folder needs nothing. Raises UserError when the packages
    of the extra `s3` are missing, or no key is found."""
    if not is_object_store(place):
        return
    check_store(place)
    try:
        for name in EXTENSIONS:
            load_extension(connection, name)
    except ImportError as error:
        raise UserError(
            f"A lake in {place} needs packages more: pip install 'lakebed[s3]'."
        ) from error
    settings = {"type": "s3", "provider": "credential_chain", "refresh": "auto"}
    if chosen := region():
        settings["region"] = chosen
    if url := endpoint():
        parts = urlsplit(url)
        settings |= {
            "endpoint": parts.netloc + parts.path.rstrip("/"),
            "url_style": "path",
            "use_ssl": str(parts.scheme == "https").lower(),
        }
    listed = ", ".join(f"{name} '{value}'" for name, value in settings.items())
    try:
        connection.execute(f"create or replace secret lakebed_store ({listed})")
    except duckdb.Error as error:
        if "Secret Validation Failure" not in str(error):
            raise
        raise UserError(
            f"No key for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
            "or run where a role gives one."
        ) from error


def filesystem(place: str) -> tuple[Any, str]:
    """The file system (of pyarrow) that a folder or a place in a store is in, and its path there.
    Raises UserError."""
    from pyarrow.fs import LocalFileSystem, S3FileSystem

    if not is_object_store(place):
        return LocalFileSystem(), place
    check_store(place)
    parts = urlsplit(endpoint() or "")
    server = {"scheme": parts.scheme, "endpoint_override": parts.netloc} if parts.netloc else {}
    return S3FileSystem(region=region(), **server), place.partition("://")[2]


def files_below(place: str) -> list[str]:
    """The files below a folder, not through links, or the objects below a place in a store."""
    from pyarrow.fs import FileSelector

    if not is_object_store(place):
        return sorted(str(path) for path in Path(place).rglob("*") if path.is_file())
    files, root = filesystem(place)
    listed = files.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
    return sorted(f"s3://{each.path}" for each in listed if each.is_file)


def objects(place: str) -> Iterator[tuple[str, Path]]:
    """Each object below a place in a store: its name, and a copy of it that goes when the next one
    is asked for. Old versions that the store itself keeps are not seen. None of a folder."""
    if not is_object_store(place):
        return
    files, _ = filesystem(place)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "object"
        for name in files_below(place):
            path = name.removeprefix("s3://")
            with files.open_input_stream(path) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            yield name, copy


def remove_empty_folders(place: str, spare: str | None = None) -> None:
    """Those below a folder, or a place in a store, where they are objects of no length: partitions
    are named by values. `spare`: not those whose first name begins with it."""
    from pyarrow.fs import FileSelector

    files, root = filesystem(place)
    listed = files.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
    above = [
        parent for each in listed if each.is_file for parent in PurePosixPath(each.path).parents
    ]
    full = {str(parent) for parent in above}
    for each in sorted(listed, key=lambda each: each.path.count("/"), reverse=True):
        first = each.path.removeprefix(f"{root.rstrip('/')}/").split("/")[0]
        if each.is_file or each.path in full or (spare and first.startswith(spare)):
            continue
        if is_object_store(place):
            files.delete_dir(each.path)
        else:
            with suppress(OSError):  # somebody has just put a file into it
                Path(each.path).rmdir()


def spark_settings(place: str) -> dict[str, str]:
    """What Spark needs to reach `place`; the same variables count. Raises UserError."""
    check_store(place)
    settings = {
        # One name for one place on both engines.
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
        ),
    }
    if url := endpoint():
        settings["spark.hadoop.fs.s3a.endpoint"] = url
        settings["spark.hadoop.fs.s3a.path.style.access"] = "true"
    if chosen := region():
        settings["spark.hadoop.fs.s3a.endpoint.region"] = chosen
    return settings
