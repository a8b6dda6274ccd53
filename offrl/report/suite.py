"""What a report must know of a suite: its cells and how to show them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from offrl.config import typed
from offrl.errors import UserError

TRAIN = "python benchmarks/train.py"


class SuiteCell(Protocol):
    """One run of a suite, done or not; `offrl.plan.plan` makes them."""

    @property
    def run_id(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]:
        """The scientific config, as in a manifest."""

    @property
    def overrides(self) -> Sequence[str]:
        """What reproduces the run on the command line."""

    @property
    def command(self) -> str:
        """The whole command line."""


# a row per group; per dataset with a column per algorithm; per pair that differs by norm_obs; per
# game and buffer size with a column per algorithm
LAYOUTS = ("rows", "grid", "norm_obs", "games")


# the options of reports, with their defaults
TRAIN_YAML = Path(__file__).resolve().parents[2] / "conf" / "train.yaml"


@dataclass(frozen=True)
class ReportOptions:
    """The `report:` node of a composed configuration; the defaults stand in conf/train.yaml."""

    title: str | None
    caption: str | None  # stands first under every table of the suite
    last_k: int  # evaluations in the second score column; 1 means no such column
    best: bool  # a column of each seed's best evaluation, which needs online access
    baseline: str | None  # the algorithm to which the rows show their differences
    floor: int  # gradient steps; a run with fewer counts as not run, one with more counts
    layout: str
    published: tuple[str, ...]  # columns beside D4RL scores

    @classmethod
    def from_node(cls, node: Any, where: str) -> "ReportOptions":
        """Raises UserError, naming `where` and the key, for an unknown key or a wrong type."""
        if not isinstance(node, DictConfig):
            raise UserError(f"{where}: report={node}: must be a mapping, as in conf/train.yaml")
        values = typed(node, cls, f"{where}: report")
        for key, least in (("last_k", 1), ("floor", 0)):
            if values[key] < least:
                raise UserError(f"{where}: report.{key}={values[key]}: must be at least {least}")
        if values["layout"] not in LAYOUTS:
            layout = f"{where}: report.layout={values['layout']}"
            raise UserError(f"{layout}: choose {', '.join(LAYOUTS)}")
        if values["baseline"] is not None and values["layout"] != "rows":
            raise UserError(f"{where}: report.baseline: only report.layout=rows has differences")
        return cls(**values)


def report_options(**changes: Any) -> ReportOptions:
    """The defaults, with some changes."""
    node = OmegaConf.merge(_defaults(), changes)
    return ReportOptions.from_node(node, TRAIN_YAML.name)


@functools.cache
def _defaults() -> DictConfig:
    node = OmegaConf.select(OmegaConf.load(TRAIN_YAML), "report")
    assert isinstance(node, DictConfig)
    return node


@dataclass(frozen=True)
class Suite:
    """A named set of runs that are reported together."""

    name: str
    cells: Sequence[SuiteCell]
    options: ReportOptions = field(default_factory=report_options)
    at: Callable[[int], Sequence[SuiteCell]] = lambda n_updates: ()  # the cells at another length
    train: str = TRAIN
