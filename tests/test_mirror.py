"""Loggers mirror the rows, never change a run, and never stop one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest
from harness import Train, cell, complete, litter, manifest, results, tiny
from omegaconf import OmegaConf

from offrl.errors import UserError
from offrl.loggers.interface import RunInfo
from offrl.mirror import build_logger, require_logger
from offrl.plan import choices
from offrl.record import Records
from offrl.run import run_dir_of

TOOLS = [name for name in choices("logger") if name != "none"]


@dataclass(frozen=True)
class Lines:
    """A tool that writes lines, and fails in the call that `fails` names."""

    package: ClassVar[str] = "json"
    path: str
    fails: str

    def open(self, run: RunInfo) -> "Lines":
        return self._line("open", [run.run_id])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._line("log", [step, dict(values)])

    def close(self) -> None:
        self._line("close", [])

    def _line(self, what: str, content: list[object]) -> "Lines":
        with Path(self.path).open("a") as f:
            f.write(json.dumps([what, *content]) + "\n")
        if what == self.fails:
            raise SystemExit("the tool is broken")
        return self


def logged(path: Path) -> list[list[object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_never_go_down_while_evaluations_overlap(hopper: Path, tmp_path: Path) -> None:
    path, logger = own(tmp_path)
    complete(tiny(hopper, tmp_path / "o", *logger, "n_updates=80", "runtime.eval_workers=1"))
    _, *rows, _ = logged(path)
    assert [r[1] for r in rows] == [20, 40, 60, 80]


def own(tmp_path: Path, fails: str = "never") -> tuple[Path, tuple[str, str]]:
    """A logger of a config folder of one's own, as overrides."""
    folder = tmp_path / "conf" / "logger"
    folder.mkdir(parents=True)
    path = tmp_path / "lines"
    text = f"_target_: test_mirror.Lines\npath: '{path}'\nfails: {fails}\n"
    (folder / "lines.yaml").write_text(text)
    return path, (f"hydra.searchpath=['{tmp_path / 'conf'}']", "logger=lines")


def test_the_rows_as_they_were_written(hopper: Path, tmp_path: Path) -> None:
    path, logger = own(tmp_path)
    c = tiny(hopper, tmp_path / "o", *logger, "seeds=[0,1]")
    run_dir = complete(c)
    first, *rows, last = logged(path)
    assert (first, last) == (["open", c.run_id], ["close"])
    records = Records(run_dir)
    assert [r[1] for r in rows] == [20, 40]
    names = [n for n in records.train_rows if n not in ("seed", "step")]
    for _, step, values in rows:
        assert isinstance(values, dict)
        for i, (seed, at) in enumerate(
            zip(records.train_rows["seed"], records.train_rows["step"], strict=True)
        ):
            if at == step:
                for n in names:
                    assert values[f"seed{seed}/train/{n}"] == records.train_rows[n][i]
        for seed in (0, 1):
            scores = [
                x
                for x, s, at in zip(
                    *(records.eval_rows[k] for k in ("score", "seed", "step")), strict=True
                )
                if (s, at) == (seed, step)
            ]
            assert values[f"seed{seed}/eval/score"] == pytest.approx(sum(scores) / len(scores))
        assert len(values) == 2 * (len(names) + 3)


def test_it_is_no_part_of_the_identity(hopper: Path, tmp_path: Path) -> None:
    _, logger = own(tmp_path)
    plain, mirrored = tiny(hopper, tmp_path / "a"), tiny(hopper, tmp_path / "b", *logger)
    assert mirrored.run_id == plain.run_id
    assert "logger" not in mirrored.command
    assert "logger=lines" in mirrored.again
    assert results(complete(mirrored)) == results(complete(plain))
    assert litter(run_dir_of(mirrored)) == []


@pytest.mark.parametrize("fails", ["open", "log", "close"])
def test_a_logger_that_fails_does_not_stop_a_run(
    hopper: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], fails: str
) -> None:
    path, logger = own(tmp_path, fails)
    c = tiny(hopper, tmp_path / "o", *logger)
    run_dir = complete(c)
    assert manifest(run_dir)["error"] is None
    assert results(run_dir) == results(complete(tiny(hopper, tmp_path / "plain")))
    err = capfd.readouterr().err
    assert err.count("the logger failed, the run goes on: SystemExit: the tool is broken") == 1
    calls = [line[0] for line in logged(path)]
    assert (
        calls
        == {
            "open": ["open"],
            "log": ["open", "log"],
            "close": ["open", "log", "log", "close"],
        }[fails]
    ), "what has failed is left alone"


def test_a_tool_that_is_not_installed_is_named() -> None:
    @dataclass(frozen=True)
    class Absent(Lines):
        package: ClassVar[str] = "no_such_tool"

    with pytest.raises(UserError, match=r"no_such_tool: not installed; pip install .*no_such_tool"):
        require_logger(Absent("x", "never"))
    require_logger(None)


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_an_extra(name: str) -> None:
    c = cell(f"logger={name}")
    assert c.logger is not None
    assert c.logger.package == name
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f"\n{name} = [" in text


def test_unknown_settings_are_refused() -> None:
    node = OmegaConf.create({"_target_": "offrl.loggers.wandb.Wandb", "projekt": "x"})
    with pytest.raises(UserError, match=r"logger.projekt: unknown key"):
        build_logger(node)


def needs(name: str) -> pytest.MarkDecorator:
    why = f"the extra {name!r} is not installed (make test-full installs it)"
    return pytest.mark.skipif(find_spec(name) is None, reason=why)


@pytest.mark.full
@needs("tensorboard")
def test_tensorboard(hopper: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    c = tiny(hopper, tmp_path / "o", "logger=tensorboard")
    records = Records(complete(c))
    events = EventAccumulator(str(tmp_path / "o" / ".tensorboard" / c.dirname))
    events.Reload()
    loss = events.Scalars("seed0/train/actor_loss")
    assert [e.step for e in loss] == [20, 40]
    assert [e.value for e in loss] == pytest.approx(records.train_rows["actor_loss"])
    assert "logger failed" not in capfd.readouterr().err


@pytest.mark.full
@needs("wandb")
def test_wandb_offline(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    c = tiny(hopper, tmp_path / "o", "logger=wandb")
    complete(c)
    (kept,) = (tmp_path / "o" / ".wandb" / "wandb").glob(f"offline-run-*-{c.run_id}")
    (file,) = kept.glob("*.wandb")
    assert b"seed0/train/actor_loss" in file.read_bytes()
    assert "logger failed" not in capfd.readouterr().err


@pytest.mark.full
@needs("mlflow")
def test_mlflow_in_a_local_store(
    hopper: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    c = tiny(hopper, tmp_path / "o", "logger=mlflow")
    records = Records(complete(c))
    assert "logger failed" not in capfd.readouterr().err
    client = MlflowClient(cell("logger=mlflow", f"out={tmp_path / 'o'}").logger.uri)
    experiment = client.get_experiment_by_name("offrl")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    history = client.get_metric_history(kept.info.run_id, "seed0/train/actor_loss")
    assert [m.step for m in history] == [20, 40]
    assert [m.value for m in history] == records.train_rows["actor_loss"]


def test_a_missing_tool_is_said_before_the_start(train: Train, hopper: Path) -> None:
    missing = [name for name in TOOLS if find_spec(name) is None]
    for name in missing:
        done = train("algo=bc", "dataset=file", f"dataset.path={hopper}", f"logger={name}")
        assert done.code == 1
        assert f"-e '.[{name}]'" in done.err
        assert not Path("runs").exists()
