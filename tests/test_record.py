"""Records: exact floats, whole files, one set of columns; and how Stats compose."""

import math
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from offrl.errors import UserError
from offrl.record import EvalRow, Records, TrainRow, read_json, scalars, write_json


def eval_row(step: int, episode: int = 0, return_: float = 1.0) -> EvalRow:
    return EvalRow(0, step, episode, return_, 10, return_ / 3)


def train_row(step: int, **stats: float) -> TrainRow:
    return TrainRow(0, step, stats or {"critic_loss": 0.1, "bc/actor_loss": math.pi * step})


def test_tables_come_back_exactly(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 3.0]
    records = Records(tmp_path)
    records.append_eval(eval_row(1000, k, v) for k, v in enumerate(values))
    records.append_train([train_row(1000), train_row(2000)])
    records.flush()
    again = Records(tmp_path)
    assert again.eval_rows == records.eval_rows
    assert again.train_rows == records.train_rows
    assert list(map(repr, again.eval_rows["return"])) == list(map(repr, values))
    assert (tmp_path / "eval.csv").read_text().splitlines()[:2] == [
        "seed,step,episode,return,length,score",
        f"0,1000,0,0.1,10,{0.1 / 3!r}",
    ]
    assert (tmp_path / "train.csv").read_text().startswith("seed,step,critic_loss,bc/actor_loss\n")
    frame = pd.read_csv(tmp_path / "eval.csv", float_precision="round_trip")
    assert list(frame["return"]) == values


def test_numbers_of_other_libraries_are_plain_in_the_file(tmp_path: Path) -> None:
    records = Records(tmp_path)
    row: list[Any] = [np.int64(0), np.int64(5), 0, np.float64(0.1), np.int32(3), np.float32(0.5)]
    records.append_eval([EvalRow(*row)])
    records.append_train([TrainRow(0, 5, {"loss": torch.tensor(0.1).item(), "nan": math.nan})])
    records.flush()
    assert (tmp_path / "eval.csv").read_text().splitlines()[1] == "0,5,0,0.1,3,0.5"
    loss, nan = (Records(tmp_path).train_rows[k][0] for k in ("loss", "nan"))
    assert np.float32(loss) == np.float32(0.1)
    assert math.isnan(nan)


def test_an_unwritten_table_is_empty(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.flush()
    assert Records(tmp_path).eval_rows == {k: [] for k in records.eval_rows}
    assert not (tmp_path / "train.csv").exists()


def test_truncate_after_drops_later_rows_only(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for step in (1000, 2000, 3000):
        records.append_eval([eval_row(step, k) for k in range(2)])
        records.append_train([train_row(step)])
    records.truncate_after(2000)
    assert records.eval_rows["step"] == [1000, 1000, 2000, 2000]
    assert records.train_rows["step"] == [1000, 2000]
    records.append_train([train_row(3000)])
    records.truncate_after(0)
    records.append_train([train_row(1000, other=1.0)])  # nothing is left that fixes the columns
    records.flush()
    assert list(Records(tmp_path).train_rows) == ["seed", "step", "other"]
    records.truncate_after(0)
    records.flush()
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize(
    "stats", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"b": 1.0, "a": 1.0}]
)
def test_a_different_set_of_stats_is_an_error(tmp_path: Path, stats: dict[str, float]) -> None:
    records = Records(tmp_path)
    records.append_train([train_row(1, a=1.0, b=2.0)])
    records.flush()
    with pytest.raises(ValueError, match=r"train\.csv"):
        Records(tmp_path).append_train([TrainRow(0, 2, stats)])


def test_stats_cannot_take_the_names_of_the_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step"):
        Records(tmp_path).append_train([TrainRow(0, 1, {"step": 1.0})])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("eval.csv", "", "damaged"),
        ("eval.csv", "time,reward\n1,2\n", r"its columns are \['time', 'reward'\]"),
        ("eval.csv", "seed,step,episode,return,length,score,more\n", "its columns"),
        ("eval.csv", "seed,step,episode,return,length,score\n0,1,0,1.0\n", "line 2"),
        ("eval.csv", "seed,step,episode,return,length,score\n0,1,0,1.0,2,much\n", "much"),
        ("eval.csv", "seed,step,episode,return,length,score\n0,1.5,0,1.0,2,1\n", "line 2"),
        ("train.csv", "step,seed,loss\n1,0,1.0\n", "its columns"),
        ("train.csv", "seed,step,a,a\n0,1,1.0,2.0\n", "twice"),
        ("train.csv", 'seed,step,a\n0,1,"1.0\n', "damaged"),
    ],
)
def test_a_foreign_or_damaged_table_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as e:
        Records(tmp_path)
    assert str(tmp_path / name) in str(e.value)


def test_a_binary_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_bytes(b"\x89HDF\xff\xfe\x00")
    with pytest.raises(UserError, match=r"eval\.csv: damaged"):
        Records(tmp_path)


KILLED = """
import sys
from pathlib import Path
from offrl.record import EvalRow, Records, write_json
records = Records(Path(sys.argv[1]))
print("ready", flush=True)
for step in range(1, 100_000):
    records.append_eval([EvalRow(0, step, k, 1.0, 10, 1.0) for k in range(10)])
    records.flush()
    write_json(Path(sys.argv[1]) / "manifest.json", {"step": step, "long": list(range(1000))})
"""


@pytest.mark.full
def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        seen = 0
        while seen < 5:  # a reader beside the writer never sees half a file either
            if (tmp_path / "manifest.json").exists():
                seen += 1
                assert read_json(tmp_path / "manifest.json")["long"][-1] == 999
            steps = Records(tmp_path).eval_rows["step"]
            assert len(steps) % 10 == 0
        writer.kill()
        writer.wait()
        assert len(Records(tmp_path).eval_rows["step"]) % 10 == 0
        for path in tmp_path.glob("*.csv"):
            path.unlink()
    (tmp_path / ".eval.csv.0a1b2c3d.tmp").write_text("half")
    Records(tmp_path).flush()
    assert not list(tmp_path.glob(".*.tmp"))


def test_json_comes_back_and_is_stable(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"b": [1, 2.5, None], "a": {"z": True, "y": "ü"}})
    assert read_json(path) == {"a": {"y": "ü", "z": True}, "b": [1, 2.5, None]}
    first = path.read_bytes()
    write_json(path, {"a": {"y": "ü", "z": True}, "b": [1, 2.5, None]})
    assert path.read_bytes() == first
    assert first.startswith(b'{\n "a": {\n  "y"')
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match=r"manifest\.json"):
        write_json(path, {"a": value})
    assert read_json(path) == {"a": 1}


def test_bad_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        read_json(path)
    path.write_text("{half")
    with pytest.raises(UserError, match=r"manifest\.json: not JSON"):
        read_json(path)
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "absent" / "x.json", {})


class Inner(NamedTuple):
    critic_loss: Any
    q_mean: Any


class Middle(NamedTuple):
    policy: Inner
    aux_loss: Any


class Outer(NamedTuple):
    total: Any
    wrapped: Middle


def declared(stats: type, prefix: str = "") -> list[str]:
    """The columns that a Stats class declares, from its annotations alone."""
    names = []
    for name, kind in typing.get_type_hints(stats).items():
        nested = isinstance(kind, type) and hasattr(kind, "_fields")
        names += declared(kind, f"{prefix}{name}/") if nested else [prefix + name]
    return names


def outer(**changed: float) -> Outer:
    v = {"total": 1.0, "critic_loss": 2.0, "q_mean": 3.0, "aux_loss": 4.0} | changed
    return Outer(v["total"], Middle(Inner(v["critic_loss"], v["q_mean"]), v["aux_loss"]))


def test_nested_stats_get_prefixed_columns() -> None:
    assert scalars(outer()) == {
        "total": 1.0,
        "wrapped/policy/critic_loss": 2.0,
        "wrapped/policy/q_mean": 3.0,
        "wrapped/aux_loss": 4.0,
    }


def test_declared_keys_are_logged_keys(tmp_path: Path) -> None:
    stats = scalars(outer())
    records = Records(tmp_path)
    records.append_train([TrainRow(0, 1, {k: float(v) for k, v in stats.items()})])
    records.flush()
    assert list(Records(tmp_path).train_rows) == ["seed", "step", *declared(Outer)]


def test_tensors_pass_through_and_other_leaves_are_refused() -> None:
    loss = torch.arange(6.0).view(2, 3)
    assert scalars(Inner(loss, 1.0))["critic_loss"] is loss
    with pytest.raises(TypeError, match=r"Inner\.q_mean is a str"):
        scalars(Inner(1.0, "high"))
