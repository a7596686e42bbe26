"""The README's worked example works: a new source, from a dropped file to gold."""

from __future__ import annotations

import re
import shutil
from decimal import Decimal
from pathlib import Path

from lakehouse import REPO, Lakehouse

PROVES = ["pat-file-drop-microbatch", "pat-schema-enforcement"]


def test_bring_your_own_data(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```(?:sql|yaml)\n(?:--|#) (models/\S+)\n(.*?)```", (REPO / "README.md").read_text(), re.S
    )
    assert len(blocks) == 4
    assert sum(text.count("\n") for _, text in blocks) < 20
    project = tmp_path / "project"
    for folder in ("macros", "models/bronze/landing"):
        shutil.copytree(REPO / folder, project / folder)
    for file in ("dbt_project.yml", "profiles.yml", "models/_groups.yml"):
        shutil.copy(REPO / file, project / file)
    for name, text in blocks:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    lakehouse = Lakehouse(tmp_path)
    orders = lakehouse.landing / "shop" / "orders"
    orders.mkdir(parents=True)
    header = "order_id,customer,amount,ordered_at\n"
    (orders / "1.csv").write_text(
        header + '1,"Ann, Bob",10.50,2024-01-01 10:00\n2,Zoë,-1,2024-01-01 10:00\n'
    )
    build = ("dbt", "build", "--project-dir", str(project))
    lakehouse.run(*build)
    (orders / "2.csv").write_text(
        "order_id,customer,total,ordered_at\n1,Ann,10.50,2024-01-01 10:00\n"
        "3,Zoë,2.25,31.01.2024 10:00\n"
    )
    lakehouse.run(*build)
    lakehouse.run(*build)
    assert lakehouse.query("select * from gold.agg_customer_orders order by customer") == [
        ("Ann, Bob", 1, Decimal("10.50")),
        ("Zoë", 1, Decimal("2.25")),
    ]
