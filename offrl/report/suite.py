"""What a report must know of a suite: its cells and how to show them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args

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
Layout = Literal["rows", "grid", "norm_obs", "games"]


@dataclass(frozen=True)
class ReportOptions:
    """The `report:` node of an experiment."""

    title: str | None = None
    caption: str | None = None  # stands first under every table of the suite
    last_k: int = 1  # evaluations in the second score column; 1 means no such column
    best: bool = False  # a column of each seed's best evaluation, which needs online access
    floor: int = 0  # gradient steps; a run with fewer counts as not run, one with more counts
    layout: Layout = "rows"
    published: tuple[str, ...] = ("corl/last", "rebrac_paper/last")  # columns beside D4RL scores

    @classmethod
    def from_node(cls, node: Mapping[str, Any], where: str) -> "ReportOptions":
        """Raises UserError, naming `where` and the key, for an unknown key or a wrong type."""
        known = {f.name: f.default for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in node.items():
            if key not in known:
                raise UserError(
                    f"{where}: report.{key}: unknown key; report has {', '.join(known)}"
                )
            if value is None:
                continue  # the default
            values[key] = _typed(key, value, known[key], where)
        return cls(**values)


@dataclass(frozen=True)
class Suite:
    """A named set of runs that are reported together."""

    name: str
    cells: Sequence[SuiteCell]
    options: ReportOptions = ReportOptions()
    at: Callable[[int], Sequence[SuiteCell]] = lambda n_updates: ()  # the cells at another length
    train: str = TRAIN


def _typed(key: str, value: Any, default: Any, where: str) -> Any:
    if key == "layout":
        if value not in get_args(Layout):
            known = ", ".join(get_args(Layout))
            raise UserError(f"{where}: report.layout: {value!r} is none of {known}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{where}: report.{key}: {value!r} is not true or false")
        return value
    if isinstance(default, int):
        low = 1 if key == "last_k" else 0
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise UserError(f"{where}: report.{key}: {value!r} is not an integer >= {low}")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UserError(f"{where}: report.{key}: {value!r} is not a list")
        return tuple(str(v) for v in value)
    if not isinstance(value, str):
        raise UserError(f"{where}: report.{key}: {value!r} is not a text")
    return value
