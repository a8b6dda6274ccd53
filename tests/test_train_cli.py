"""The contract of benchmarks/train.py: commands, output, exit codes, what is skipped."""

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness import (
    SMALL_NET,
    TINY,
    TRAIN,
    Train,
    cell,
    complete,
    litter,
    manifest,
    results,
    snapshot,
    spawn,
    tiny,
    write_robot,
)

from offrl.data.subset import subset
from offrl.plan import choices, plan


def test_help_loads_nothing_slow_and_names_every_key() -> None:
    command = [sys.executable, "-X", "importtime", str(TRAIN), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "gymnasium", "pandas", "numpy"}
    c = cell()
    keys = [*c.config, *c.config["algo"], *c.config["dataset"], "threads", "compile"]
    for key in (*keys, "out", "on_mismatch", "dry_run"):
        if key != "id":  # of the dataset: computed
            assert f"{key}:" in done.stdout
    for group in ("algo", "env", "dataset", "launcher", "runtime", "experiment"):
        for choice in choices(group):
            assert choice.rpartition("/")[2] in done.stdout


def test_one_run_in_a_process_of_its_own(tmp_path: Path, hopper: Path) -> None:
    """From any folder; nothing but the run directory on stdout, nothing at all on stderr."""
    args = (*TINY, SMALL_NET, "dataset=file", f"dataset.path={hopper}")
    process = spawn(*args, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.count("\n") == 1
    run_dir = Path(out.strip())
    assert run_dir.parent == tmp_path / "runs"
    assert litter(run_dir) == []
    assert manifest(run_dir)["status"] == "complete"
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]  # no stray files


def test_the_same_command_again_changes_no_file(train: Train, hopper: Path) -> None:
    args = (*TINY, SMALL_NET, "dataset=file", f"dataset.path={hopper}")
    first = train(*args)
    before = snapshot(Path.cwd())
    second = train(*args)
    assert (first.code, first.err) == (second.code, second.err) == (0, "")
    assert first.run_dir == second.run_dir
    assert before
    assert snapshot(Path.cwd()) == before


def test_the_contract_for_one_run(train: Train, tmp_path: Path) -> None:
    done = train(
        *("algo=td3_bc", "env=hopper", "dataset=offrl/medium", "buffer_size=1200"),
        *("norm_obs=false", "seeds=[0,1]", "n_updates=40", "eval_every=20", "eval_episodes=2"),
        *("dataset.n_transitions=2000", SMALL_NET, f"out={tmp_path / 'o'}"),
    )
    assert done.code == 0, done.err
    content = manifest(done.run_dir)
    assert content["dataset"]["n_transitions"] == 1200
    assert content["normaliser"] is None
    c = cell(*content["overrides"])
    whole = c.source.open(c.env)
    returns = subset(whole, 1200).episode_returns()
    assert 0 < len(returns) < len(whole.episode_returns())
    assert content["dataset"]["return_mean"] == pytest.approx(returns.mean())
    assert content["dataset"]["return_best"] == returns.max()
    assert content["step"] == 40
    lines = (done.run_dir / "eval.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [seed, step, episode] for step in ("20", "40") for seed in "01" for episode in "01"
    ]


def test_the_contract_for_a_sweep(train: Train, hopper: Path, tmp_path: Path) -> None:
    args = (
        *("-m", "algo=bc,td3_bc", "env=hopper", "dataset=file", f"dataset.path={hopper}"),
        *("seeds=[0],[1],[2]", f"out={tmp_path / 'o'}", "n_updates=4", "eval_every=4"),
        *("eval_episodes=1", "batch_size=8", SMALL_NET),
    )
    done = train(*args)
    assert done.code == 0, done.err
    dirs = [Path(line) for line in done.out.splitlines()]
    assert len(set(dirs)) == 6
    names = {(c["config"]["algo"]["name"], *c["config"]["seeds"]) for c in map(manifest, dirs)}
    assert names == {(a, s) for a in ("bc", "td3_bc") for s in (0, 1, 2)}
    assert list(Path.cwd().iterdir()) == []

    before = snapshot(tmp_path / "o")
    again = train(*args)
    assert again.code == 0
    assert "6 complete already" in again.err
    assert snapshot(tmp_path / "o") == before


def test_a_sweep_without_m_is_refused(train: Train) -> None:
    done = train("algo=bc,td3_bc")
    assert done.code == 1
    assert done.err == "offrl: algo=bc,td3_bc: several values make a sweep; add -m\n"
    assert list(Path.cwd().iterdir()) == []


def test_dry_run_prints_the_cells_and_does_nothing(train: Train, hopper: Path) -> None:
    args = (*TINY, "dataset=file", f"dataset.path={hopper}")
    train(*args, "seeds=[1]")
    before = snapshot(Path.cwd())
    done = train("-m", *args, "seeds=[0],[1]", "dry_run=true")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.startswith("waiting ")
    assert second.startswith("done ")
    assert "1 of 2 cells complete; about " in done.err
    assert snapshot(Path.cwd()) == before
    _, _, command = second.partition("python benchmarks/train.py ")
    (c,) = plan(shlex.split(command)).cells
    assert c.dirname in second


def test_prefetch_gets_the_data_and_runs_nothing(
    train: Train, hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "empty_cache"
    monkeypatch.setenv("OFFRL_DATA", str(cache))
    args = ("-m", *TINY, "dataset=file", "seeds=[0],[1]", "prefetch=true")
    assert train(*args, f"dataset.path={hopper}").code == 0
    assert list(cache.glob("*/states.npy"))
    missing = train(*args, "dataset.path=/nowhere/x.hdf5")
    assert missing.code == 1
    assert "/nowhere/x.hdf5" in missing.err
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_printed_command_can_be_copied(train: Train, tmp_path: Path) -> None:
    """Also with a path that needs quotes for the shell and for Hydra."""
    folder = tmp_path / "a folder, k=v [x] it's"
    folder.mkdir()
    data = str(folder / "d.hdf5").replace("'", r"\'")
    out = str(folder / "runs").replace("'", r"\'")
    done = train(
        *("-m", *TINY, SMALL_NET, "dataset=file", f"dataset.path='{data}'", f"out='{out}'"),
        *("seeds=[3],[4]", "runtime.threads=1", "report.last_k=2"),
    )
    assert done.code == 1
    assert "no such file" in done.err.lower()
    commands = [x.partition("again: ")[2] for x in done.err.splitlines() if "again: " in x]
    assert len(commands) == 2
    write_robot(folder / "d.hdf5")
    python, script, *args = shlex.split(commands[1])
    assert (python, script) == ("python", "benchmarks/train.py")
    again = train(*args)
    assert again.code == 0, again.err
    assert again.run_dir.parent == folder / "runs"
    content = manifest(again.run_dir)
    assert content["config"]["seeds"] == [4]
    assert not [o for o in content["overrides"] if o.startswith(("report", "runtime", "out"))]
    assert plan(content["overrides"]).cells[0].dirname == again.run_dir.name


@pytest.mark.parametrize(
    "args",
    [
        ["experiment=demo", "algo=bc", "dataset=offrl/expert", "norm_obs=true", "seeds=[2]"],
        ["runtime=debug", "runtime.threads=2", "launcher=joblib", "algo=bc", "out=x"],
        ["report.title='a, b'", "hydra.verbose=true", "seeds=[5]"],
        ["algo=td3_bc", "algo.hidden=[8, 8]", "buffer_size=null", "on_mismatch=restart"],
    ],
)
def test_overrides_reproduce_the_run(args: list[str]) -> None:
    (c,) = plan(args).cells
    (again,) = plan(c.overrides).cells
    assert again.run_id == c.run_id
    unneeded = ("out", "launcher", "runtime.", "report", "on_mismatch", "hydra")
    assert not [o for o in c.overrides if o.startswith(unneeded)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed, time left, last score, losses; elsewhere nothing at all, see above."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    run_dir = complete(tiny(hopper, tmp_path, "algo=td3_bc"))
    text = sys.stderr.getvalue()
    for word in (run_dir.name, "40/40", "step/s", "score=", "critic_loss=", "actor_loss=", "<"):
        assert word in text
    assert text.endswith("\r")  # and is gone when the run is over


def test_seeds_may_share_a_process_or_not(train: Train, hopper: Path) -> None:
    """A seed learns the same alone and in company (the last bits of a batched product aside)."""
    args = (*TINY, "algo=td3_bc", SMALL_NET, "dataset=file", f"dataset.path={hopper}")
    both = train(*args, "seeds=[0,1]").run_dir
    alone = train(*args, "seeds=[1]").run_dir
    of_1 = [x for x in results(both)["eval.csv"].splitlines() if x.startswith(b"1,")]
    assert of_1 == results(alone)["eval.csv"].splitlines()[1:]


def test_a_run_on_other_data_is_no_success(train: Train, tmp_path: Path) -> None:
    data = write_robot(tmp_path / "d.hdf5", seed=0)
    args = (*TINY, SMALL_NET, "dataset=file", f"dataset.path={data}")
    assert train(*args).code == 0
    write_robot(data, seed=1)
    done = train(*args)
    assert done.code == 1
    assert "on_mismatch=restart" in done.err
