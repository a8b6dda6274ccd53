"""Every choice of conf/ composes; a run's identity is what can move a number, and nothing else."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from harness import cell

from offrl.data.digest import sha256_file
from offrl.data.package import behaviour_record
from offrl.data.rollout import ACTIONS
from offrl.errors import UserError
from offrl.plan import CONF, choices, plan

POLICIES = CONF.parent / "offrl" / "policies"


def promised(env: str, dataset: str) -> bool:
    """Whether the suite has this data: D4RL's always, its own where a record says so."""
    source, _, quality = dataset.partition("/")
    record = POLICIES / f"{env}.json"
    if source != "offrl":
        return True
    if not record.exists():
        return False
    known = json.loads(record.read_text())
    if quality == "medium-replay":
        return "replay" in known
    return {*quality.split("-")} <= {*known["policies"]}


def composed(algo: str, env: str, dataset: str) -> str | None:
    """The run id, or None where the suite has no such data, which is then refused."""
    overrides = (f"algo={algo}", f"env={env}", f"dataset={dataset}")
    if dataset == "file":
        return cell(*overrides, "dataset.path=x.hdf5").run_id
    if not promised(env, dataset):
        with pytest.raises(UserError, match=env):
            cell(*overrides)
        return None
    c = cell(*overrides)
    assert c.config["algo"]["name"] == algo
    assert c.dirname.startswith(f"{algo}_{env}_{dataset.replace('/', '-')}_")
    return c.run_id


ONLINE = {"sac", "qrdqn"}  # benchmarks/collect.py trains these
OFFLINE = sorted(a for a in {*choices("algo")} - ONLINE if not a.startswith("discrete_"))
OTHERS = (
    "atari",
    "breakout",
    "cartpole",
    "pong",
)  # test_{atari_data,discrete_runs,rl_unplugged}.py
ROBOTS = [e for e in choices("env") if e not in OTHERS]
DATASETS = [d for d in choices("dataset") if not d.startswith(("atari/", "rlu"))]
CUBE = [*itertools.product(OFFLINE, ROBOTS, DATASETS)]


@pytest.mark.parametrize(
    "cases",
    [
        [c for c in CUBE if c[1:] == ("hopper", "d4rl/medium")],
        [c for c in CUBE if c[0] == "td3_bc"],
        pytest.param(CUBE, marks=pytest.mark.full),
    ],
    ids=["algorithms", "environments and datasets", "all"],
)
def test_every_choice_composes(cases: list[tuple[str, str, str]]) -> None:
    ids = [i for case in cases if (i := composed(*case)) is not None]
    assert len(set(ids)) == len(ids) >= 4


def test_the_promised_policies_are_there() -> None:
    records = list(POLICIES.glob("*.json"))
    assert records
    for record in records:
        known = behaviour_record(record.stem)
        files = {q: policy["sha256"] for q, policy in known["policies"].items()}
        for quality, policy in known["policies"].items():
            if ACTIONS in policy:
                files[f"{quality}-{ACTIONS}"] = policy[ACTIONS]
        if "replay" in known:
            files["replay"] = known["replay"]["sha256"]
        for name, digest in files.items():
            assert sha256_file(POLICIES / f"{record.stem}-{name}.safetensors") == digest
        mine = {path.name for path in POLICIES.glob(f"{record.stem}-*.safetensors")}
        assert mine == {f"{record.stem}-{name}.safetensors" for name in files}


# algorithms x robots x qualities x seeds; hundreds of cells take a while to compose
SIZES = {
    "d4rl_mujoco": 6 * 3 * 6 * 5,
    "offrl_mujoco": 6 * 3 * 5 * 3,
    "seed_d4rl": 4 * 1 * 2 * 5,
    "seed_norm_obs": 2 * 2 * 2 * 5,  # two normalisations of one algorithm
}
LARGE = {"d4rl_mujoco", "offrl_mujoco"}


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=[pytest.mark.full] if name in LARGE else [])
        for name in choices("experiment")
    ],
)
def test_every_experiment_is_a_suite(experiment: str) -> None:
    work = plan([f"experiment={experiment}"])
    assert work.sweep, "without hydra.mode: MULTIRUN it would run one default cell in silence"
    cells = work.cells
    assert len(cells) == SIZES.get(experiment, len(cells)) > 0
    assert len({c.run_id for c in cells}) == len({c.dirname for c in cells}) == len(cells)
    for c in (cells[0], cells[-1]):  # every cell's command is that cell alone
        (again,) = plan(c.overrides).cells
        assert again.run_id == c.run_id


def test_the_demo_is_what_the_readme_says() -> None:
    cells = plan(["experiment=demo"]).cells
    assert len(cells) == 2 * 2 * 2 * 3
    for c in cells:
        s = c.settings
        assert (s.n_updates, s.eval_every, s.eval_episodes) == (5000, 1000, 5)
        assert c.config["buffer_size"] == 100_000
        assert c.config["dataset"]["n_transitions"] == 100_000


FILE = ("algo=td3_bc", "dataset=file", "dataset.path=a/data.hdf5")
BASE = cell(*FILE)
GOLDEN = json.loads(Path(__file__).with_name("run_id.json").read_text())

SAME = [
    "out=elsewhere",
    "launcher=joblib",
    "runtime.threads=4",
    "runtime.compile=true",
    "on_mismatch=restart",
    "dry_run=true",
    "prefetch=true",
    "report.title=x",
    "report.last_k=5",
    "dataset.path=b/data.hdf5",
    "hydra.verbose=true",
]


@pytest.mark.parametrize("override", SAME)
def test_how_it_is_run_is_not_its_identity(override: str) -> None:
    assert cell(*FILE, override).run_id == BASE.run_id


OTHER: dict[str, Any] = {
    "seeds": "[1]",
    "n_updates": 2000,
    "eval_every": 2500,
    "eval_episodes": 7,
    "buffer_size": 1000,
    "norm_obs": "false",
    "batch_size": 32,
    "n_step": 3,
    "gamma": 0.9,
    "algo.name": "other",
    "algo._target_": "toy_algos.SameTD3BC",
    "algo.hidden": "[8]",
    "algo.period": 4,
    "env.name": "other",
    "env.task": "Walker2d",
    "dataset.source": "other",
    "dataset._target_": "toy_algos.SameFile",
    "dataset.quality": "other",
    "dataset.name": "other",
    "dataset.keep_timeouts": "true",
    "dataset.env_id": "Hopper-v5",
}


def keys(config: dict[str, Any]) -> list[str]:
    """algo.lr and the like, for every leaf."""
    nested = [f"{k}.{inner}" for k, v in config.items() if isinstance(v, dict) for inner in keys(v)]
    return nested + [k for k, v in config.items() if not isinstance(v, dict)]


@pytest.mark.parametrize("key", [k for k in keys(GOLDEN["config"]) if k != "dataset.id"])
def test_every_other_key_is(key: str) -> None:
    value = OTHER.get(key, 0.125)  # what is not listed is a float
    assert cell(*FILE, f"{key}={value}").run_id != BASE.run_id


def test_a_key_younger_than_the_results_leaves_old_identities_alone() -> None:
    assert cell(*FILE, "norm_reward=false").run_id == BASE.run_id
    assert "norm_reward" not in BASE.config
    assert cell(*FILE, "norm_reward=true").run_id != BASE.run_id


def test_identity_of_data() -> None:
    """By id, version and parameters; D4RL's mirrors are only where it comes from."""
    d4rl = cell("dataset=d4rl/medium")
    assert cell("dataset=d4rl/medium", "dataset.mirrors=[http://x]").run_id == d4rl.run_id
    own = cell("dataset=offrl/medium")
    assert own.config["dataset"]["id"].startswith("offrl/hopper/medium-v")
    assert cell("dataset=offrl/medium", "dataset.n_transitions=1000").run_id != own.run_id


def test_the_run_id_does_not_change_by_itself() -> None:
    """A changed id orphans all runs that users have; that needs an entry in the CHANGELOG."""
    c = cell(*GOLDEN["overrides"])
    assert c.config == GOLDEN["config"]
    assert c.run_id == GOLDEN["run_id"]
