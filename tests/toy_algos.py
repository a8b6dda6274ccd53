"""Algorithms that only the tests use; a config names them by `_target_`."""

import os
import signal
import time
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
class DiesOnce(BC):
    """Kills its process, but not if the file `sign` is there, which it makes."""

    sign: str

    def init(self, g: Generator) -> State:
        if not Path(self.sign).exists():
            Path(self.sign).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().init(g)


@dataclass(frozen=True)
class Dies(BC):
    """Kills its process, as soon as the file `sign` is there."""

    sign: str

    def init(self, g: Generator) -> State:
        while not Path(self.sign).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return super().init(g)


@dataclass(frozen=True)
class SameTD3BC(TD3BC):
    """By another name."""


@dataclass(frozen=True)
class SameFile(File):
    """By another name."""
