"""What a report must know of a suite: its cells and how to show them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from omegaconf import OmegaConf

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


@dataclass(frozen=True)
class ReportOptions:
    """The `report:` node of an experiment."""

    title: str | None = None
    caption: str | None = None  # stands first under every table of the suite
    last_k: int = 1  # evaluations in the second score column; 1 means no such column
    best: bool = False  # a column of each seed's best evaluation, which needs online access
    baseline: str | None = None  # the algorithm to which the rows show their differences
    floor: int = 0  # gradient steps; a run with fewer counts as not run, one with more counts
    layout: str = "rows"
    published: tuple[str, ...] = ("corl/last", "rebrac_paper/last")  # columns beside D4RL scores

    @classmethod
    def from_node(cls, node: Mapping[str, Any], where: str) -> "ReportOptions":
        """Raises UserError, naming `where` and the key, for an unknown key or a wrong type."""
        given = {k: v for k, v in node.items() if v is not None}  # null: the default
        values = typed(OmegaConf.create(asdict(cls()) | given), cls, f"{where}: report")
        for key, least in (("last_k", 1), ("floor", 0)):
            if values[key] < least:
                raise UserError(f"{where}: report.{key}={values[key]}: must be at least {least}")
        if values["layout"] not in LAYOUTS:
            layout = f"{where}: report.layout={values['layout']}"
            raise UserError(f"{layout}: choose {', '.join(LAYOUTS)}")
        if values["baseline"] is not None and values["layout"] != "rows":
            raise UserError(f"{where}: report.baseline: only report.layout=rows has differences")
        return cls(**values)


@dataclass(frozen=True)
class Suite:
    """A named set of runs that are reported together."""

    name: str
    cells: Sequence[SuiteCell]
    options: ReportOptions = ReportOptions()
    at: Callable[[int], Sequence[SuiteCell]] = lambda n_updates: ()  # the cells at another length
    train: str = TRAIN
