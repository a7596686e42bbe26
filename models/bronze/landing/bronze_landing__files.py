"""The manifest: every file ever found in the landing folder, once for each version.

Bronze models load the files that stand here as `ready`. The clock and the limits
come from the config beside this file (_landing__bronze.yml).
"""

from pathlib import Path

import pyarrow as pa

from lakebed import frames, landing

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("entity", pa.string()),
        ("file_id", pa.string()),
        ("file_name", pa.string()),
        ("path", pa.string()),
        ("encoding", pa.string()),
        ("header", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("modified_ns", pa.int64()),
        ("batch_id", pa.int64()),
        ("ingested_at", pa.timestamp("us")),
    ]
)


def model(dbt, session):
    settings = dbt.config.get("meta")
    known, loaded, last_batch = [], set(), 0
    if dbt.is_incremental:
        rows = frames.rows(
            session,
            "select file_name, bytes, modified_ns, source, entity, file_id, status, batch_id"
            f" from {dbt.this}",
        )
        known = [row[:3] for row in rows]
        loaded = {row[3:6] for row in rows if row[6] == "ready"}
        last_batch = max((row[7] for row in rows), default=0)

    folder = Path(settings["landing"])
    new = landing.take(
        landing.pending(folder, known), settings["max_files"], settings["max_bytes"]
    )
    ingested_at = landing.clock(settings["as_of"])

    found = []
    for file in new:
        facts = landing.inspect(file.path)
        status, reason = facts.status, facts.reason
        content = (file.source, file.entity, facts.file_id)
        if status == "ready" and content in loaded:
            status, reason = "duplicate", "the same content has been loaded under another name"
        elif status == "ready":
            loaded.add(content)
        found.append(
            {
                "source": file.source,
                "entity": file.entity,
                "file_id": facts.file_id,
                "file_name": file.name,
                "path": file.path.as_posix(),
                "encoding": facts.encoding,
                "header": facts.header,
                "status": status,
                "reason": reason,
                "bytes": file.bytes,
                "rows": facts.rows,
                "modified_ns": file.modified_ns,
                "batch_id": last_batch + 1,
                "ingested_at": ingested_at,
            }
        )
    return frames.from_arrow(session, pa.Table.from_pylist(found, schema=SCHEMA))
