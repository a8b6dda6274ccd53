"""TensorBoard: event files beside the runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from offrl.loggers.interface import RunInfo, Sink


@dataclass(frozen=True)
class TensorBoard:
    package: ClassVar[str] = "tensorboard"
    folder: str  # event files lie in <folder>/<run>

    def open(self, run: RunInfo) -> Sink:
        return _Sink(Path(self.folder).expanduser() / run.name)


class _Sink:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
