"""The file of `lakebed consolidate`: regions, tables, and what of each column may leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lakebed.errors import UserError
from lakebed.ingest.config import mapping, named, only
from lakebed.project import Lake
from lakebed.regions.mask import ACTIONS, WHOLE, Tree, masks, tree
from lakebed.rendering import render_data

_SHORTEST_KEY = 16
#: Columns that the central table has of its own.
OWN = ("region", "_batch_id", "_region_batch_id", "consolidated_at")


@dataclass(frozen=True)
class Shipment:
    """A table: where it is in a region, and the rule of each of its columns."""

    target: str
    source: str
    rules: dict[str, str | Tree]
    regions: tuple[str, ...]

    @property
    def masks(self) -> bool:
        """Whether it needs the region's key."""
        return any(map(masks, self.rules.values()))


@dataclass(frozen=True)
class Region:
    """A regional lake, and the key that its identifiers are masked with."""

    name: str
    lake: Lake
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Regions:
    """The whole file. Regions stay as they are written until one is asked for: their secrets
    need only be where their work is done."""

    file: Path
    name: str
    regions: Mapping[str, Any] = field(repr=False)
    shipments: tuple[Shipment, ...]

    def open(self, name: str) -> Region:
        """A region with its secrets. Raises UserError."""
        where = f"{self.file}: regions: {name}"
        settings = mapping(render_data(self.regions[name], self.file), where)
        only(settings, {"lake", "options", "key"}, where)
        path = str(settings.get("lake") or "")
        if not path.startswith("ducklake:"):
            raise UserError(f"{where}: lake is a DuckLake, e.g. ducklake:/srv/eu/catalog.ducklake.")
        key = str(settings.get("key") or "").encode()
        if len(key) < _SHORTEST_KEY and any(
            each.masks for each in self.shipments if name in each.regions
        ):
            raise UserError(
                f"{where}: key is a secret of {_SHORTEST_KEY} characters or more, e.g. "
                "\"{{ env_var('EU_KEY') }}\"; keep it: masked values are joined by it ever after."
            )
        options = mapping(settings.get("options") or {}, f"{where}: options")
        return Region(name, Lake(name, path, "lakebed_region", options), key)


def read_regions(file: Path) -> Regions:
    """Read the file. Raises UserError for everything that is not right."""
    where = str(file)
    try:
        content = mapping(yaml.safe_load(file.read_text(encoding="utf-8")), where)
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}.") from error
    only(content, {"name", "regions", "tables"}, where)
    regions = mapping(content.get("regions"), f"{where}: regions")
    for region in regions:
        named(region, f"{where}: regions: {region}")
    shipments = [
        _shipment(str(target), settings, tuple(regions), f"{where}: tables: {target}")
        for target, settings in mapping(content.get("tables"), f"{where}: tables").items()
    ]
    name = named(content.get("name", file.stem), f"{where}: name")
    return Regions(file, name, regions, tuple(shipments))


def _shipment(target: str, settings: Any, regions: tuple[str, ...], where: str) -> Shipment:
    settings = mapping(settings, where)
    only(settings, {"from", "regions", "columns"}, where)
    source = str(settings.get("from", f"bronze.{target}"))
    for part in source.split("."):
        named(part, f"{where}: from")
    if source.count(".") != 1:
        raise UserError(f"{where}: from is schema.table, such as bronze.web__orders.")
    chosen = settings.get("regions") or list(regions)
    if not isinstance(chosen, list) or (unknown := [r for r in chosen if r not in regions]):
        raise UserError(f"{where}: regions is a list of {', '.join(regions)}; not {unknown[0]!r}.")
    columns = mapping(settings.get("columns"), f"{where}: columns")
    rules = {str(name): _rule(str(name), rule, where) for name, rule in columns.items()}
    if all(rule == "drop" for rule in rules.values()):
        raise UserError(f"{where}: columns leaves nothing: keep at least one.")
    return Shipment(named(target, where), source, rules, tuple(chosen))


def _rule(name: str, rule: Any, where: str) -> str | Tree:
    where = f"{where}: columns: {name}"
    if '"' in name:
        raise UserError(f"{where}: a column with a quotation mark in its name is not taken.")
    if name in OWN:
        raise UserError(f"{where}: the central table has this column of its own; leave it out.")
    if isinstance(rule, Mapping):
        return tree(rule, where)
    if rule not in ACTIONS:
        raise UserError(
            f"{where}: an action is {', '.join(ACTIONS)}, or JSON paths with theirs, not {rule!r}."
        )
    if rule == "keep" and name in WHOLE:
        raise UserError(
            f"{where}: a whole record would take along what is new in it: name the JSON paths that "
            "may leave, e.g. {order_id: keep, customer.email: mask}, or drop it."
        )
    return str(rule)
