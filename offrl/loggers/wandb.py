"""Weights & Biases; offline by default, and then uploaded by `wandb sync`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from offrl.loggers.interface import RunInfo, Sink


@dataclass(frozen=True)
class Wandb:
    package: ClassVar[str] = "wandb"
    folder: str
    project: str
    entity: str | None
    mode: str  # "offline" or "online"

    def open(self, run: RunInfo) -> Sink:
        return _Sink(self, run)


class _Sink:
    def __init__(self, settings: Wandb, run: RunInfo) -> None:
        wandb: Any = import_module("wandb")  # checked alike whether the extra is installed or not
        folder = Path(settings.folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,
            dir=str(folder),
            id=run.run_id,
            name=run.name,
            config=run.config,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
