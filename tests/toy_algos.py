"""Algorithms that only the tests use; a config names them by `_target_`."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Generator

from offrl.algos.bc import BC, State
from offrl.algos.td3_bc import TD3BC
from offrl.sources import File


@dataclass(frozen=True)
class Discrete(BC):
    continuous: ClassVar[bool] = False


@dataclass(frozen=True)
class Logged(BC):
    """Writes down every start of a run."""

    log: str

    def init(self, g: Generator) -> State:
        with Path(self.log).open("a") as f:
            f.write(f"{os.getpid()}\n")
        return super().init(g)


@dataclass(frozen=True)
class Lethal(BC):
    """Kills its process: the first time, or, where `once` is empty, every time."""

    once: str

    def init(self, g: Generator) -> State:
        if not self.once or not Path(self.once).exists():
            if self.once:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().init(g)


@dataclass(frozen=True)
class SameTD3BC(TD3BC):
    """By another name."""


@dataclass(frozen=True)
class SameFile(File):
    """By another name."""
