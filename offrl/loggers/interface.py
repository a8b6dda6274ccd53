"""What a tool has to do for offrl.mirror."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class RunInfo(NamedTuple):
    """The run that is to be shown."""

    run_id: str
    name: str
    folder: Path  # the run directory
    config: dict[str, Any]


class Sink(Protocol):
    """A run in the tool, open for writing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` gradient steps; steps never go down."""

    def close(self) -> None: ...


class Logger(Protocol):
    """A tool and its settings (conf/logger): a frozen dataclass, picklable."""

    @property
    def package(self) -> str:
        """What must be importable; also the name of the extra that brings it."""

    def open(self, run: RunInfo) -> Sink:
        """Begins to show a run, or goes on with one of this id where the tool can."""
