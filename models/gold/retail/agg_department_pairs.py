"""Departments bought together: for each pair, in how many baskets, and how much more often
than if they were bought independently (lift)."""

import numpy as np
import pandas as pd
import pyarrow as pa

from lakebed import frames


def model(dbt, session):
    frame = frames.distinct(dbt.ref("bi_sales"), "basket_id", "department").dropna()
    baskets, ids = pd.factorize(frame["basket_id"])
    departments, names = pd.factorize(frame["department"], sort=True)
    bought = np.zeros((len(ids), len(names)))
    bought[baskets, departments] = 1
    # Counts below 2^53 are exact as floats, and floats are multiplied fast.
    together = (bought.T @ bought).astype("int64")
    alone = together.diagonal()
    left, right = np.triu_indices(len(names), k=1)
    pairs = pd.DataFrame(
        {
            "department": [names[i] for i in left],
            "other_department": [names[i] for i in right],
            "baskets": together[left, right],
            "lift": together[left, right] * len(ids) / (alone[left] * alone[right]),
        }
    )
    pairs = pairs[pairs["baskets"] > 0]
    pairs = pairs.sort_values(["department", "other_department"]).reset_index(drop=True)
    return frames.from_arrow(session, pa.Table.from_pandas(pairs, preserve_index=False))
