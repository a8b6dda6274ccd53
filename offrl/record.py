"""What a run leaves behind: manifest.json, eval.csv and train.csv, each whole at any moment."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from offrl.atomic import remove_leftovers, write_atomic
from offrl.errors import UserError

Column = list[Any]  # of int or float; every column of a table is as long as the others


class EvalRow(NamedTuple):
    """One episode of one evaluation."""

    seed: int
    step: int  # gradient steps done
    episode: int
    return_: float  # undiscounted
    length: int  # environment steps
    score: float  # normalised; the return itself where the dataset has no reference


class TrainRow(NamedTuple):
    """The means over one block of gradient steps."""

    seed: int
    step: int  # gradient steps at the block's end
    stats: Mapping[str, float]  # of scalars(); the same names in every row of a run


EVAL_COLUMNS = ("seed", "step", "episode", "return", "length", "score")
KEY_COLUMNS = ("seed", "step")  # of train.csv, before the fields of Stats
INTEGERS = frozenset(("seed", "step", "episode", "length"))


class Records:
    """The two tables of a run directory, as columns in memory and as CSV files.

    Rows are appended in memory; flush() writes them.  Floats come back from the files exactly.
    The constructor reads what is there and raises UserError for a file that it cannot understand.
    """

    def __init__(self, run_dir: Path) -> None:
        self._eval_path = run_dir / "eval.csv"
        self._train_path = run_dir / "train.csv"
        self.eval_rows: dict[str, Column] = _read_table(self._eval_path, EVAL_COLUMNS) or {
            name: [] for name in EVAL_COLUMNS
        }
        self.train_rows: dict[str, Column] = _read_table(self._train_path, KEY_COLUMNS) or {}

    def append_eval(self, rows: Iterable[EvalRow]) -> None:
        for row in rows:
            for name, value in zip(EVAL_COLUMNS, row, strict=True):
                self.eval_rows[name].append(_typed(name, value))

    def append_train(self, rows: Iterable[TrainRow]) -> None:
        """Raises ValueError for names of stats that are unlike those of the rows before."""
        for row in rows:
            names = [*KEY_COLUMNS, *row.stats]
            if len(set(names)) < len(names):
                raise ValueError(f"'seed' and 'step' cannot be fields of Stats: {names}")
            if not self.train_rows:
                self.train_rows = {name: [] for name in names}
            if list(self.train_rows) != names:
                raise ValueError(f"{self._train_path} has {list(self.train_rows)}, not {names}")
            for name, value in zip(names, (row.seed, row.step, *row.stats.values()), strict=True):
                self.train_rows[name].append(_typed(name, value))

    def truncate_after(self, step: int) -> None:
        """Drops, in memory, all rows of later gradient steps: a resumed run writes them again."""
        self.eval_rows = _truncated(self.eval_rows, step)
        self.train_rows = _truncated(self.train_rows, step)
        if not self.train_rows.get("step"):
            self.train_rows = {}  # nothing left that fixes the columns

    def flush(self) -> None:
        """Replaces both files atomically; one without rows is a header, or absent (train.csv).

        Only the process that owns the run directory may call this.  Raises UserError where they
        cannot be written.
        """
        for name in ("manifest.json", self._eval_path.name, self._train_path.name):
            remove_leftovers(self._eval_path.parent, name)
        tables = (self._eval_path, self.eval_rows), (self._train_path, self.train_rows)
        for path, table in tables:
            if table:
                _write_table(path, table)
            else:
                path.unlink(missing_ok=True)


def scalars(stats: Any, prefix: str = "") -> dict[str, Tensor | float]:
    """The columns of a Stats NamedTuple; those of a nested one are named "<field>/<its field>".

    The leaves are tensors (of any shape: seeds and blocks may lead) or numbers.
    """
    columns: dict[str, Tensor | float] = {}
    for name, value in zip(stats._fields, stats, strict=True):
        if hasattr(value, "_fields"):
            columns |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, Tensor | float | int):
            columns[prefix + name] = value
        else:
            raise TypeError(
                f"{type(stats).__name__}.{name} is a {type(value).__name__}, "
                "not a tensor, a number or another NamedTuple"
            )
    return columns


def write_json(path: Path, value: Any) -> None:
    """Writes atomically, keys sorted.  Raises ValueError for NaN and infinity, which are not JSON.

    Raises UserError where the file cannot be written.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e
    write_atomic(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Raises UserError where there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    except ValueError as e:
        raise UserError(f"{path}: not JSON: {e}. Restore it, or remove its run directory.") from e


def _typed(name: str, value: Any) -> int | float:
    return int(value) if name in INTEGERS else float(value)


def _truncated(table: dict[str, Column], step: int) -> dict[str, Column]:
    kept = [i for i, s in enumerate(table.get("step", [])) if s <= step]
    return {name: [column[i] for i in kept] for name, column in table.items()}


def _write_table(path: Path, table: dict[str, Column]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))  # a float is written by its repr: exact
    write_atomic(path, text.getvalue().encode())


def _read_table(path: Path, first_columns: tuple[str, ...]) -> dict[str, Column] | None:
    """The table in a file that begins with these columns, or None if there is no such file."""
    try:
        with path.open(encoding="utf-8", newline="") as f:
            header, *rows = csv.reader(f, strict=True)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (ValueError, csv.Error) as e:
        raise _not_a_record(path, str(e)) from e
    known = len(header) == len(first_columns) or first_columns == KEY_COLUMNS
    if tuple(header[: len(first_columns)]) != first_columns or not known:
        raise _not_a_record(path, f"its columns are {header}")
    if len(set(header)) < len(header):
        raise _not_a_record(path, "a column appears twice")
    parsers: list[Callable[[str], Any]] = [int if n in INTEGERS else float for n in header]
    columns: list[Column] = [[] for _ in header]
    for line, row in enumerate(rows, start=2):
        try:
            for column, parse, text in zip(columns, parsers, row, strict=True):
                column.append(parse(text))
        except ValueError as e:
            raise _not_a_record(path, f"line {line}: {e}") from e
    return dict(zip(header, columns, strict=True))


def _not_a_record(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: damaged, or not written by this suite: {why}. Remove it, or its run directory."
    )
