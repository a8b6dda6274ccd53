"""Published scores, to stand beside ours: offrl/reference/published_scores.csv."""

import csv
import functools
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from offrl.errors import UserError
from offrl.report.about import About

PUBLISHED_UPDATES = 1_000_000  # what the sources of d4rl-mujoco trained
SEED = "tianshou_seed_derived"
# what to say of a source instead of its citations
NOTES = {
    SEED: (
        "returns in examples/offline/README.md of thu-ml/tianshou, PR #996, normalised here by "
        "D4RL's references; neither seeds nor protocol are stated: most likely each is the best of "
        "201 evaluations of 10 episodes in a single run, with the defects that this suite has "
        "mended, CQL's above all"
    )
}

# what to say after them
CAVEATS = {"offlinerl_kit": "its std is doubtful: the trainer rescales it as if it were a score"}


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

    @property
    def column(self) -> str:
        return f"{self.source}/{self.protocol}"


def published(
    dataset_id: str, algo: str, metric: str = "normalized", norm_obs: bool | None = None
) -> list[Published]:
    """The numbers for exactly this dataset and its version, in the file's order.

    dataset_id: ours ("d4rl/hopper-medium-v2") or D4RL's ("hopper-medium-v2").
    norm_obs: leaves out the variants that say the opposite.
    """
    name = dataset_id.removeprefix("d4rl/")
    opposite = f"norm_obs={str(not norm_obs).lower()}" if norm_obs is not None else None
    found = _rows().get((name, algo, metric), ())
    return [p for p in found if not (opposite and opposite in p.variant)]


def in_column(about: About, column: str) -> list[Published]:
    """What one source says under one protocol ("corl/last") on the data of a group.

    Raises UserError for a column that the file does not have.
    """
    if column not in _columns():
        known = ", ".join(sorted(_columns()))
        raise UserError(f"report.published: {column!r} is none of {known}")
    if about.buffer_size is not None or about.n_updates < PUBLISHED_UPDATES:
        return []  # another experiment: a part of the data, or a shorter training
    algo = about.algo
    if column.startswith(SEED):
        algo = algo.removesuffix("_seed")  # conf/algo/*_seed.yaml: its own settings
    numbers = published(about.dataset_id or "", algo, norm_obs=about.norm_obs)
    return [p for p in numbers if p.column == column]


def columns_of(abouts: Sequence[About]) -> list[str]:
    """The columns with a number for any of these, in the file's order."""
    return [c for c in _columns() if any(in_column(a, c) for a in abouts)]


@functools.cache
def _columns() -> tuple[str, ...]:
    """Every source/protocol, in the file's order."""
    return tuple(dict.fromkeys(p.column for found in _rows().values() for p in found))


@functools.cache
def _rows() -> dict[tuple[str, str, str], tuple[Published, ...]]:
    """The numbers by (dataset, algo, metric), without printed averages over several datasets."""
    file = resources.files("offrl") / "reference" / "published_scores.csv"
    found: dict[tuple[str, str, str], list[Published]] = {}
    with file.open(encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if row["mean"] and not row["dataset"].startswith("average:"):
                found.setdefault((row["dataset"], row["algo"], row["metric"]), []).append(
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
                )
    return {key: tuple(numbers) for key, numbers in found.items()}
