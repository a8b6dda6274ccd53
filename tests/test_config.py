"""Configuration: what is wrong is refused before any work, and says how it would be right."""

from pathlib import Path

import pytest
from harness import Train, cell, manifest

from offrl.errors import UserError
from offrl.plan import plan

# what is given -> what the one line on stderr must say
WRONG = [
    # unknown keys
    (["n_update=5"], ["n_update: unknown key", "n_updates", "eval_every"]),
    (["+n_update=5"], ["n_update: unknown key", "n_updates", "eval_every"]),
    (["algo.alfa=1"], ["algo.alfa: unknown key", "alpha", "policy_noise"]),
    (["+algo.alfa=1"], ["algo.alfa: unknown key", "alpha", "policy_noise"]),
    (["algo=bc", "algo.alpha=1"], ["algo.alpha: unknown key; algo has name, _target_, lr, hidden"]),
    (["dataset.pathh=x"], ["dataset.pathh: unknown key", "n_transitions"]),
    (["+env.color=red"], ["env.color: unknown key", "task"]),
    (["runtime.cores=2"], ["runtime.cores: unknown key", "threads"]),
    (["+report.colour=red"], ["report.colour: unknown key", "last_k"]),
    (["learner=bc"], ["learner: unknown key", "algo"]),
    # unknown choices
    (["algo=td3"], ["algo=td3", "bc, bc_seed", "td3_bc"]),
    (["env=ant"], ["env=ant", "halfcheetah, hopper, pong, walker2d"]),
    (["dataset=d4rl/best"], ["dataset=d4rl/best", "d4rl/expert", "offrl/medium", "file"]),
    (["launcher=pbs"], ["launcher=pbs", "joblib", "local"]),
    (["experiment=foo"], ["experiment=foo", "demo"]),
    (["experiment=null"], ["experiment=null", "must be a string"]),
    (["-m", "algo=bc,1"], ["algo=1", "must be a string"]),
    (["tuned=rebrac"], ["'tuned'", "+tuned=rebrac"]),
    (["env=cartpole", "dataset=file", "dataset.path=x.hdf5"], ["CartPole-v4", "dataset.env_id"]),
    (["out="], ["out=", "name a folder"]),
    (["out='~/runs'"], ["out=~/runs", "$HOME"]),
    (["on_mismatch=ignore"], ["on_mismatch=ignore", "stop", "restart"]),
    (["runtime.compile=maybe"], ["runtime.compile=maybe", "auto, true or false"]),
    (["runtime.device=tpu"], ["runtime.device=tpu", "cpu or cuda"]),
    (["runtime.eval_workers=-1"], ["runtime.eval_workers=-1", "at least 0"]),
    (["runtime.speed=high"], ["runtime.speed", "unknown key"]),
    (["algo.alpha=nan"], ["algo.alpha", "finite"]),
    (["algo.hidden=[256,0]"], ["algo.hidden", "at least one unit"]),
    (["algo=iql", "algo.actor_decay_steps=0"], ["algo.actor_decay_steps=0", "at least 1"]),
    (["algo=cql", "algo.n_actions=0"], ["algo.n_actions=0", "at least 1"]),
    (["algo=bcq", "algo.n_candidates=0"], ["algo.n_candidates=0", "at least 1"]),
    (["algo=bcq", "algo.vae_hidden=[0]"], ["algo.vae_hidden=[0]", "at least one unit"]),
    (["algo.tau=2"], ["algo.tau=2.0", "[0, 1]"]),
    (["algo=iql", "algo.expectile=2"], ["algo.expectile=2.0", "[0, 1]"]),
    (["algo.critic_lr=-1"], ["algo.critic_lr=-1.0", "at least 0"]),
    (["algo.noise_clip=-0.5"], ["algo.noise_clip=-0.5", "at least 0"]),
    (["algo=cql", "algo.max_grad_norm=0"], ["algo.max_grad_norm=0.0", "more than 0"]),
    (
        ["algo=discrete_bcq", "env=pong", "dataset=atari/qrdqn", "algo.threshold=1"],
        ["algo.threshold=1.0", "[0, 1)"],
    ),
    (
        ["algo=discrete_crr", "env=pong", "dataset=atari/qrdqn", "algo.beta=0"],
        ["algo.beta=0.0", "more than 0"],
    ),
    (["algo.period=1500", "n_updates=1500", "eval_every=1500"], ["algo.period=1500", "1000"]),
    (["algo=sac"], ["algo=sac", "collect.py"]),
    # types and values
    (["n_updates=1e6"], ["n_updates", "1e6", "1000000"]),
    (["n_updates=many"], ["n_updates", "many", "integer"]),
    (["buffer_size=1e5"], ["buffer_size", "1000000 and not 1e6"]),
    (["buffer_size=0"], ["buffer_size=0", "at least 1"]),
    (["norm_obs=perhaps"], ["norm_obs", "perhaps"]),
    (["algo.hidden=[64,x]"], ["algo.hidden", "'x'"]),
    (["algo.hidden=64"], ["algo.hidden", "must be a list"]),
    (["algo.tau=slow"], ["algo.tau", "slow"]),
    (["algo.period=0"], ["algo.period=0", "at least 1"]),
    (["dataset.n_transitions=0"], ["dataset.n_transitions=0", "at least 1"]),
    (["dataset.quality=perfect"], ["dataset.quality=perfect", "medium"]),
    (["runtime.threads=0"], ["runtime.threads=0", "at least 1"]),
    (["gamma=1.5"], ["gamma=1.5", "[0, 1]"]),
    (["gamma=nan"], ["gamma=nan", "finite"]),
    (["eval_episodes=0"], ["eval_episodes=0", "at least 1"]),
    (["n_updates=-2"], ["n_updates=-2", "at least 1"]),
    (["seeds=0"], ["seeds=[...]", "must be a list"]),
    (["seeds=[]"], ["seeds=[]", "[0,1]"]),
    (["seeds=[0,1,0]"], ["seeds=[0, 1, 0]", "different"]),
    (["seeds=[-1]"], ["seeds=[-1]", "from 0 on"]),
    (["seeds=[0.5]"], ["seeds", "0.5"]),
    (["n_updates=1001"], ["n_updates=1001", "multiple of algo.period=2"]),
    (["eval_every=7"], ["eval_every=7", "multiple of algo.period=2"]),
    # what is missing
    (["~gamma"], ["gamma: no value"]),
    (["~algo.tau"], ["algo.tau: no value"]),
    (["dataset=file"], ["dataset.path: no value; set dataset.path=..."]),
    (["dataset=file", "dataset.path=x", "dataset.name=a/b"], ["a/b", "slash"]),
    (["dataset=file", "dataset.path=x", "env.task=Hoppper"], ["Hoppper-v4"]),
    # misfits
    (["algo._target_=toy_algos.Discrete"], ["discrete actions", "env=hopper", "continuous"]),
    (["algo._target_=offrl.algos.nothing.X"], ["algo._target_", "offrl.algos.nothing"]),
    (["algo._target_=pathlib.Path"], ["algo._target_", "not a dataclass"]),
    # Hydra's own
    (["seeds=[0"], ["seeds=[0"]),
    (["--config-dir", "x"], ["hydra.searchpath"]),
    # one bad cell among good ones
    (["-m", "algo=bc,td3_bc", "seeds=[0],[1],[2,2]"], ["seeds=[2, 2]", "different"]),
    (["-m", "algo=bc,td3"], ["algo=td3", "td3_bc"]),
    (["-m", "n_updates=10,1e1"], ["n_updates", "1e6"]),
    (["-m", "n_updates=10,15"], ["n_updates=15", "multiple of algo.period=2"]),
    (["-m", "gamma=interval(0,1)"], ["gamma=interval(0,1)", "gamma=1,2"]),
    (["-m", "algo=bc,td3_bc", "algo.alpha=1"], ["algo.alpha: unknown key; algo has name", "lr"]),
    # a file is known by its name
    (
        ["-m", "algo=bc", "dataset=file", "dataset.path=a/x.hdf5,b/x.hdf5"],
        ["dataset.path=a/x.hdf5,b/x.hdf5", "bc_hopper_file-x", "different names"],
    ),
    # interpolations
    (["algo.alpha=${beta}"], ["offrl: algo.alpha: ", "'beta' not found", "algo.alpha=..."]),
    (["env=pong", "dataset=file", "dataset.path=x"], ["offrl: dataset.env_id: ", "env.task"]),
]


@pytest.mark.parametrize(("args", "words"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_refused_before_any_work(train: Train, args: list[str], words: list[str]) -> None:
    done = train(*args)
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("offrl: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert list(Path.cwd().iterdir()) == []


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A config folder of a user's own: an algorithm with a tuned table, and an experiment."""
    files = {
        "algo/tuned_bc.yaml": """
            # @package _global_
            defaults:
              - /tuned@_global_.tuned: mine
              - _self_
            batch_size: 32
            algo:
              name: tuned_bc
              _target_: offrl.algos.bc.BC
              lr: ${tuned.${tuned.row}.lr}
              hidden: [16]
            tuned:
              row: ${dataset.source}/${env.name}/${dataset.quality}
            """,
        "tuned/mine.yaml": """
            offrl/hopper/medium: {lr: 2e-3}
            offrl/hopper/medium-expert: {lr: 3e-3}
            """,
        "experiment/slow.yaml": """
            # @package _global_
            algo:
              lr: 1e-5
            batch_size: 48
            """,
        "experiment/wrong.yaml": """
            # @package _global_
            n_update: 5
            """,
        "experiment/wrong_sweep.yaml": """
            # @package _global_
            hydra:
              mode: MULTIRUN
              sweeper:
                params:
                  algo: bc,td3
            """,
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[12:] for line in text.splitlines()[1:]))
    return tmp_path / "conf"


@pytest.fixture
def path(conf: Path) -> str:
    return f"hydra.searchpath=['{conf}']"


def test_tuned_values(path: str) -> None:
    assert cell(path, "algo=tuned_bc").config["algo"]["lr"] == 2e-3
    with_hyphen = cell(path, "algo=tuned_bc", "dataset=offrl/medium-expert")
    assert with_hyphen.config["algo"]["lr"] == 3e-3
    assert "tuned" not in with_hyphen.config


def test_a_run_says_which_row_it_was_tuned_by(path: str) -> None:
    values = {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01}
    row = {"table": "rebrac", "row": "hopper/medium", "values": values}
    assert cell("algo=rebrac").tuned == row
    assert cell("algo=rebrac", "algo.actor_bc_coef=1").tuned == row  # what was set is in the config
    assert cell("algo=bc").tuned is None
    assert cell(path, "algo=tuned_bc", "dataset=offrl/expert", "algo.lr=4e-3").tuned is None
    given = [f"algo.{k}={v}" for k, v in values.items()]
    table = cell("algo=rebrac", "tuned.row=table", *given).tuned  # a row that is one value
    assert table == {"table": "rebrac", "row": "table", "values": "rebrac"}


def test_a_missing_tuned_cell_is_refused(train: Train, path: str) -> None:
    done = train(path, "algo=tuned_bc", "dataset=offrl/expert")
    assert done.code == 1
    for word in ("offrl: algo.lr: ", "offrl/hopper/expert", "conf/tuned", "command line"):
        assert word in done.err
    assert list(Path.cwd().iterdir()) == []


def test_the_command_line_stands_in_for_a_missing_tuned_cell(path: str) -> None:
    c = cell(path, "algo=tuned_bc", "dataset=offrl/expert", "algo.lr=4e-3")
    assert c.config["algo"]["lr"] == 4e-3


def test_precedence(path: str) -> None:
    """base < algo < tuned < experiment < command line"""
    lr, batch_size = [], []
    for overrides in (
        ["algo=bc"],
        ["algo=tuned_bc"],
        ["algo=tuned_bc", "experiment=slow"],
        ["algo=tuned_bc", "experiment=slow", "algo.lr=7e-4", "batch_size=64"],
        ["batch_size=64", "algo.lr=7e-4", "experiment=slow", "algo=tuned_bc"],
    ):
        config = cell(path, *overrides).config
        lr.append(config["algo"]["lr"])
        batch_size.append(config["batch_size"])
    assert lr == [1e-3, 2e-3, 1e-5, 7e-4, 7e-4]
    assert batch_size == [256, 32, 48, 64, 64]
    assert cell("algo=bc").config["norm_obs"] is False  # of the base
    assert cell("algo=td3_bc").config["norm_obs"] is True  # of the algorithm
    assert cell("algo=td3_bc", "norm_obs=false").config["norm_obs"] is False


def test_an_unknown_key_in_an_experiment(train: Train, path: str) -> None:
    done = train(path, "experiment=wrong")
    assert done.code == 1
    assert "n_update: unknown key; there are" in done.err
    assert "n_updates" in done.err
    done = train(path, "experiment=wrong_sweep")
    assert done.code == 1
    assert "algo=td3: unknown choice" in done.err
    assert list(Path.cwd().iterdir()) == []


def test_a_run_with_configs_of_ones_own_can_be_reproduced(train: Train, path: str) -> None:
    tiny = ("n_updates=4", "eval_every=4", "eval_episodes=1", "dataset.n_transitions=500")
    done = train(path, "algo=tuned_bc", *tiny)
    assert done.code == 0, done.err
    (again,) = plan(manifest(done.run_dir)["overrides"]).cells
    assert again.dirname == done.run_dir.name


def test_yaml_words_for_compile() -> None:
    assert cell("runtime.compile=true").runtime.compile == "true"
    assert cell("runtime.compile=false").runtime.compile == "false"


def test_a_seed_twice_is_an_error_of_make_cell_itself() -> None:
    with pytest.raises(UserError, match="different"):
        cell("seeds=[4,4]")
