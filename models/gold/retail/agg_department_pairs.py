"""Departments bought together: for each pair, in how many baskets, and how much more often
than if they were bought independently (lift)."""

import numpy as np
import pandas as pd


def model(dbt, session):
    lines = dbt.ref("bi_sales")
    frame = lines.select("basket_id, department").distinct().df()
    table = pd.crosstab(frame["basket_id"], frame["department"]).to_numpy(dtype="int64")
    names = sorted(frame["department"].unique())
    together = table.T @ table
    alone = together.diagonal()
    left, right = np.triu_indices(len(names), k=1)
    pairs = pd.DataFrame(
        {
            "department": [names[i] for i in left],
            "other_department": [names[i] for i in right],
            "baskets": together[left, right],
            "lift": together[left, right] * len(table) / (alone[left] * alone[right]),
        }
    )
    pairs = pairs[pairs["baskets"] > 0]
    return pairs.sort_values(["department", "other_department"]).reset_index(drop=True)
