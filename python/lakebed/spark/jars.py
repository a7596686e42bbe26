"""The jars of the table formats, from Maven Central: fetched once, kept in a cache.

The Maven client is used where there is one, because it knows the mirror and the proxy that a
company has configured. Otherwise Spark fetches them itself (`spark.jars.packages`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

from lakebed.errors import UserError

#: What belongs together: each was tested with pyspark 4.0 (Scala 2.13), and with no other.
PACKAGES = {
    "delta": ("io.delta:delta-spark_2.13:4.0.0",),
    "iceberg": ("org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.11.0",),
}
#: Hadoop's file system for S3, in the version of Spark's own Hadoop, with the parts of AWS's SDK
#: that it uses; the bundle that it asks for is all of AWS, half a gigabyte. Later SDKs send
#: checksums that servers other than AWS's may refuse.
S3 = (
    "org.apache.hadoop:hadoop-aws:3.4.1",
    "software.amazon.awssdk:s3:2.29.52",
    "software.amazon.awssdk:s3-transfer-manager:2.29.52",
    "software.amazon.awssdk:sts:2.29.52",
)
#: Apache Kafka itself; the tests of `lakebed stream` run it.
KAFKA = ("org.apache.kafka:kafka_2.13:3.9.1",)

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>lakebed</groupId><artifactId>jars</artifactId><version>1</version>
<dependencies>{}</dependencies>
</project>"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
    "<exclusions>{}</exclusions></dependency>"
)
#: Spark brings its own jars, and Scala's.
_HAS_SPARK = (
    "<exclusion><groupId>org.apache.spark</groupId><artifactId>*</artifactId></exclusion>"
    "<exclusion><groupId>org.scala-lang</groupId><artifactId>*</artifactId></exclusion>"
)
S3_EXCLUSIONS = _HAS_SPARK + "".join(
    f"<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>"
    for group, artifact in (
        ("software.amazon.awssdk", "bundle"),
        ("org.apache.hadoop", "hadoop-client-api"),
        ("org.slf4j", "*"),
    )
)


def cache_folder() -> Path:
    """Where jars are kept: LAKEBED_JARS, else below the user's cache folder."""
    given = os.environ.get("LAKEBED_JARS")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "lakebed" / "jars"


def known_format(table_format: str) -> str:
    """The format itself. Raises UserError for one that there is not."""
    if table_format not in PACKAGES:
        raise UserError(
            f"No table format '{table_format}' on Spark; there is: {', '.join(sorted(PACKAGES))}."
        )
    return table_format


def cached(table_format: str) -> list[Path]:
    """The jars of a format that are in the cache; none when it was never fetched."""
    return sorted(_folder(PACKAGES[known_format(table_format)]).glob("*.jar"))


def fetch(table_format: str) -> list[Path]:
    """The jars of a format, from the cache or by Maven. Raises UserError when Maven cannot."""
    return fetch_packages(PACKAGES[known_format(table_format)], table_format, _HAS_SPARK)


def fetch_packages(packages: tuple[str, ...], name: str, exclusions: str = "") -> list[Path]:
    """The jars of Maven packages (group:artifact:version) and of what they need.

    `name` is what messages call them, `exclusions` is XML of a POM. Raises UserError.
    """
    folder = _folder(packages)
    if found := sorted(folder.glob("*.jar")):
        return found
    maven = shutil.which("mvn")
    if maven is None:
        raise UserError(
            f"The jars of {name} are not in {folder}, and there is no Maven (`mvn`) to "
            "fetch them: install it, or set LAKEBED_JARS to a folder that has them."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        pom = Path(work) / "pom.xml"
        dependencies = (
            _DEPENDENCY.format(*map(escape, package.split(":")), exclusions) for package in packages
        )
        pom.write_text(_POM.format("".join(dependencies)), encoding="utf-8")
        out = Path(work) / "jars"
        done = subprocess.run(
            [
                *(maven, "--batch-mode", "--quiet", "--file", str(pom)),
                *("dependency:copy-dependencies", f"-DoutputDirectory={out}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not list(out.glob("*.jar")):
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise UserError(
                f"Maven could not fetch {', '.join(packages)}: "
                f"{(lines or [done.stderr.strip() or 'no message'])[0]}"
            )
        # In one step: a fetch that was killed leaves nothing that looks whole.
        try:
            out.rename(folder)
        except OSError:
            if not list(folder.glob("*.jar")):  # somebody else was faster, or it is a real error
                raise
    return sorted(folder.glob("*.jar"))


def _folder(packages: tuple[str, ...]) -> Path:
    """One folder for each set of versions."""
    return cache_folder() / "+".join(
        package.rsplit(":", 2)[1] + "-" + package.rsplit(":", 1)[1] for package in packages
    )
