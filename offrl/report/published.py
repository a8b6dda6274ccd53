"""Published scores, to stand beside ours: offrl/reference/published_scores.csv."""

import csv
import functools
from importlib import resources
from typing import NamedTuple

from offrl.errors import UserError
from offrl.report.manifest import About

PUBLISHED_UPDATES = 1_000_000  # what the sources of d4rl-mujoco trained


class Published(NamedTuple):
    """One printed number."""

    source: str
    protocol: str  # last, best, last10mean, unstated
    citation: str
    table: str
    variant: str  # tuning or settings, free text
    n_seeds: int | None
    mean: str  # as printed
    std: str  # as printed; over seeds, never an interval; "" where there is none


def published(
    dataset_id: str, algo: str, metric: str = "normalized", norm_obs: bool | None = None
) -> list[Published]:
    """The numbers for exactly this dataset and its version, in the file's order.

    dataset_id: ours ("d4rl/hopper-medium-v2") or D4RL's ("hopper-medium-v2").
    norm_obs: leaves out the variants that say the opposite.
    """
    name = dataset_id.removeprefix("d4rl/")
    opposite = f"norm_obs={str(not norm_obs).lower()}" if norm_obs is not None else None
    return [
        Published(
            row["source"],
            row["protocol"],
            row["citation"],
            row["table"],
            row["variant"],
            int(row["n_seeds"]) if row["n_seeds"] else None,
            row["mean"],
            row["std"],
        )
        for row in _rows()
        if (row["dataset"], row["algo"], row["metric"]) == (name, algo, metric)
        and row["mean"]
        and not (opposite and opposite in row["variant"])
    ]


def in_column(about: About, column: str) -> list[Published]:
    """What one source says under one protocol ("corl/last") on the data of a cell.

    Raises UserError for a column that the file does not have.
    """
    known = sorted({f"{row['source']}/{row['protocol']}" for row in _rows()})
    if column not in known:
        raise UserError(f"report.published: {column!r} is none of {', '.join(known)}")
    if about.buffer_size is not None or about.n_updates < PUBLISHED_UPDATES:
        return []  # another experiment: a part of the data, or a shorter training
    numbers = published(about.dataset_id or "", about.algo, norm_obs=about.norm_obs)
    return [p for p in numbers if f"{p.source}/{p.protocol}" == column]


@functools.cache
def _rows() -> tuple[dict[str, str], ...]:
    """The rows that stand for a dataset: printed averages over several are left out."""
    file = resources.files("offrl") / "reference" / "published_scores.csv"
    with file.open(encoding="utf-8") as f:
        return tuple(r for r in csv.DictReader(f) if not r["dataset"].startswith("average:"))
