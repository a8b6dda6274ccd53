"""The rows of a run, shown in another tool as well.

A mirror is never the truth: it follows what has been written into the run directory, nothing reads
it, and where it fails the run goes on without it.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from statistics import fmean
from types import TracebackType

from omegaconf import DictConfig
from tqdm import tqdm

from offrl.config import target_class, typed
from offrl.errors import UserError, missing_extra
from offrl.loggers.interface import Logger, RunInfo, Sink
from offrl.record import KEY_COLUMNS, Records

Rows = dict[int, dict[str, float]]  # step -> name -> value


def build_logger(node: DictConfig | None) -> Logger | None:
    """The tool that a config names, or None.  Raises UserError for bad settings."""
    if node is None:
        return None
    cls = target_class(node, "logger")
    logger: Logger = cls(**typed(node, cls, "logger"))
    return logger


def require_logger(logger: Logger | None) -> None:
    """Raises UserError, naming the extra, where the tool is not installed."""
    if logger is not None and find_spec(logger.package) is None:
        raise UserError(f"logger={logger.package}: {missing_extra(logger.package)}")


class Mirror:
    """Follows the records of one run, from the gradient step at which it goes on; a context."""

    def __init__(self, logger: Logger | None, run: RunInfo, step: int) -> None:
        self._sink: Sink | None = None
        self._name = run.name
        self._step = step  # what is older has been sent before
        if logger is not None:
            self._try(lambda: self._begin(logger.open(run)))

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        sink = self._sink
        if sink is not None:
            self._try(sink.close)

    def follow(self, records: Records, step: int) -> None:
        """Sends the rows that are new, up to `step`; to be called when they are on disk."""
        sink = self._sink
        if sink is None:
            return
        for at, values in sorted(_after(records, self._step).items()):
            if self._sink is not None and at <= step:
                self._try(partial(sink.log, at, values))
        self._step = step

    def _begin(self, sink: Sink) -> None:
        self._sink = sink

    def _try(self, what: Callable[[], object]) -> None:
        """What fails is said once, and the tool is left alone from then on."""
        try:
            what()
        except (Exception, SystemExit) as e:
            self._sink = None
            text = f"{self._name}: the logger failed, the run goes on: {type(e).__name__}: {e}"
            tqdm.write(text, file=sys.stderr)


def _after(records: Records, step: int) -> Rows:
    """Per later step: every seed's row of train.csv, and the means of its episodes in eval.csv."""
    rows: Rows = {}
    train = records.train_rows
    names = [n for n in train if n not in KEY_COLUMNS]
    for i, at in enumerate(train.get("step", [])):
        if at > step:
            seed = train["seed"][i]
            rows.setdefault(at, {}).update({f"seed{seed}/train/{n}": train[n][i] for n in names})
    episodes: dict[tuple[int, str], list[float]] = {}
    for i, at in enumerate(records.eval_rows["step"]):
        if at > step:
            seed = records.eval_rows["seed"][i]
            for n in ("return", "length", "score"):
                key = at, f"seed{seed}/eval/{n}"
                episodes.setdefault(key, []).append(records.eval_rows[n][i])
    for (at, name), values in episodes.items():
        rows.setdefault(at, {})[name] = fmean(values)
    return rows
