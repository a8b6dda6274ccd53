"""A cell: one resolved, type-checked configuration, and the identity that follows from it.

Only what can move a number is hashed; where a run is written and by which launcher it is run is
not, and neither are the device and the number of threads, which move last bits and are recorded.
"""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offrl.config import algorithm_class, build, explain, target_class, typed
from offrl.envs.make import spec_of
from offrl.errors import UserError
from offrl.loggers.interface import Logger
from offrl.loop import BLOCK
from offrl.mirror import build_logger
from offrl.report.suite import ReportOptions
from offrl.sources import Env, Game, Robot, Source
from offrl.types import AnyAlgorithm

# keys that came after the first published results: at these values a run keeps its identity
NEUTRAL = {"norm_reward": False}
ACTIONS = ("dry_run", "prefetch", "status")  # instead of a launch
UNHASHED = ("out", "launcher", "logger", "search", "runtime", "on_mismatch", "report", *ACTIONS)


@dataclass(frozen=True)
class Settings:
    """The plain keys of conf/train.yaml."""

    seeds: tuple[int, ...]
    n_updates: int
    eval_every: int
    eval_episodes: int
    buffer_size: int | None
    norm_obs: bool
    norm_reward: bool
    batch_size: int
    n_step: int
    gamma: float
    out: str
    on_mismatch: str
    dry_run: bool
    prefetch: bool
    status: bool


@dataclass(frozen=True)
class Runtime:
    """conf/runtime: how a run is executed."""

    device: str
    threads: int
    compile: str
    eval_workers: int


GROUPS = ("algo", "env", "dataset", "runtime", "logger", "report")


@dataclass(frozen=True)
class Cell:
    """What one run is; the algorithm is bound to its environment."""

    algo: AnyAlgorithm
    env: Env
    source: Source
    settings: Settings
    runtime: Runtime
    logger: Logger | None
    report: ReportOptions  # how its suite is shown
    config: dict[str, Any]  # what is hashed, as JSON
    overrides: list[str]  # what reproduces its numbers on the command line
    given: list[str]  # all overrides: also where and how it runs
    tuned: dict[str, Any] | None  # the row of conf/tuned that the algorithm looked up

    @property
    def run_id(self) -> str:
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def dirname(self) -> str:
        dataset = f"{self.config['dataset']['source']}-{self.config['dataset']['quality']}"
        return f"{self.config['algo']['name']}_{self.env.name}_{dataset}_{self.run_id}"

    @property
    def command(self) -> str:
        """The command that reproduces the numbers, wherever it is run."""
        return shlex.join(["python", "benchmarks/train.py", *self.overrides])

    @property
    def again(self) -> str:
        """The command that runs this very cell once more, into the same directory."""
        return shlex.join(["python", "benchmarks/train.py", *self.given])


def make_cell(cfg: DictConfig, overrides: Sequence[str]) -> Cell:
    """Checks everything that can be checked without the data.  Raises UserError, naming the key."""
    settings = _settings(cfg)
    env_class: type[Env] = Game if "game" in cfg.env else Robot
    robot = env_class(**typed(cfg.env, env_class, "env"))
    source_class = target_class(cfg.dataset, "dataset")
    source_values = typed(cfg.dataset, source_class, "dataset")
    source: Source = source_class(**source_values)
    task = source.task(robot)
    env = spec_of(task.env)
    cls = algorithm_class(cfg.algo)
    if hasattr(cls, "explore"):
        raise UserError(
            f"algo={cfg.algo.name}: learns online; benchmarks/collect.py trains it, "
            "and train.py trains offline algorithms"
        )
    if cls.continuous != env.continuous:
        kinds = {True: "continuous", False: "discrete"}
        raise UserError(
            f"algo={cfg.algo.name}: needs {kinds[cls.continuous]} actions, "
            f"but env={robot.name} ({task.env_id}) has {kinds[env.continuous]} ones"
        )
    if settings.norm_obs and len(env.obs_shape) > 1:
        raise UserError(
            f"norm_obs=true: {task.env_id} shows pictures; networks scale them, use false"
        )
    algo = build(cfg.algo, env.with_batch(settings.batch_size))
    if not 1 <= algo.period <= BLOCK:
        raise UserError(f"algo.period={algo.period}: must lie between 1 and {BLOCK}")
    for key in ("n_updates", "eval_every"):
        if getattr(settings, key) % algo.period:
            raise UserError(
                f"{key}={getattr(settings, key)}: must be a multiple of algo.period={algo.period}"
            )
    scientific = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    for key in (*UNHASHED, *(k for k, v in NEUTRAL.items() if scientific[k] == v)):
        scientific.pop(key, None)
    # the typed values, not their spelling: alpha=2 and alpha=2.0 are one run
    dataset = {k: v for k, v in source_values.items() if k not in source.unhashed}
    config = {
        **scientific,
        "algo": {k: cfg.algo[k] for k in ("name", "_target_")} | typed(cfg.algo, cls, "algo"),
        "env": {"name": robot.name, **asdict(robot)},
        "dataset": dataset | {"_target_": cfg.dataset["_target_"], "id": source.id(robot)},
    }
    where = next((o for o in overrides if o.startswith("experiment=")), "config")
    cell = Cell(
        algo,
        robot,
        source,
        settings,
        _runtime(cfg),
        build_logger(cfg.logger),
        ReportOptions.from_node(cfg.report, where),
        json.loads(json.dumps(config)),
        [o for o in overrides if _scientific(o)],
        [o for o in overrides if o.partition("=")[0] not in ACTIONS],
        _tuned(cfg),
    )
    if "/" in cell.dirname:
        raise UserError(f"{cell.dirname}: a name in it has a slash; it is to be the run's folder")
    return cell


def _tuned(cfg: DictConfig) -> dict[str, Any] | None:
    """None also where the table has no such row, and the command line had to say the values."""
    try:
        row = cfg.tuned.row
        values = cfg.tuned[row]
    except OmegaConfBaseException:
        return None
    if OmegaConf.is_config(values):
        values = OmegaConf.to_container(values)
    return {"table": cfg.tuned.get("table"), "row": row, "values": values}


def _scientific(override: str) -> bool:
    """Whether an override can move a number: `runtime=debug` can, `runtime.threads=2` must not."""
    key = override.lstrip("+~").partition("=")[0]
    if key in ("runtime", "hydra.searchpath"):
        return True
    return key not in UNHASHED and not key.startswith(("runtime.", "logger.", "report.", "hydra"))


def _runtime(cfg: DictConfig) -> Runtime:
    r = Runtime(**typed(cfg.runtime, Runtime, "runtime"))
    compile = r.compile.lower()  # YAML's true arrives as "True"
    if compile not in ("auto", "true", "false"):
        raise UserError(f"runtime.compile={r.compile}: choose auto, true or false")
    if r.device not in ("cpu", "cuda"):
        raise UserError(f"runtime.device={r.device}: choose cpu or cuda")
    for key, least in (("threads", 1), ("eval_workers", 0)):
        if getattr(r, key) < least:
            raise UserError(f"runtime.{key}={getattr(r, key)}: must be at least {least}")
    return replace(r, compile=compile)


def _settings(cfg: DictConfig) -> Settings:
    allowed = {f.name for f in fields(Settings)}
    unknown = [str(k) for k in cfg if k not in allowed and k not in (*GROUPS, "tuned")]
    if unknown:
        raise UserError(f"{unknown[0]}: unknown key; there are {', '.join(sorted(allowed))}")
    plain = OmegaConf.masked_copy(cfg, sorted(allowed))
    try:
        for k in allowed:
            if OmegaConf.is_interpolation(cfg, k):  # into what the copy lacks
                plain[k] = cfg[k]
    except OmegaConfBaseException as e:
        raise UserError(explain(e, "", sorted(allowed))) from e
    s = Settings(**typed(plain, Settings, ""))
    for key in ("n_updates", "eval_every", "eval_episodes", "batch_size", "n_step"):
        if getattr(s, key) < 1:
            raise UserError(f"{key}={getattr(s, key)}: must be at least 1")
    if s.buffer_size is not None and s.buffer_size < 1:
        raise UserError(f"buffer_size={s.buffer_size}: must be at least 1, or null for all data")
    if not 0 <= s.gamma <= 1:
        raise UserError(f"gamma={s.gamma}: must lie in [0, 1]")
    if not s.seeds or len(set(s.seeds)) < len(s.seeds) or min(s.seeds) < 0:
        raise UserError(f"seeds={list(s.seeds)}: must be different integers from 0 on, e.g. [0,1]")
    if s.on_mismatch not in ("stop", "restart"):
        raise UserError(f"on_mismatch={s.on_mismatch}: choose stop or restart")
    if not s.out:
        raise UserError("out=: name a folder for the runs")
    if s.out.startswith("~"):  # Hydra would make a folder of that name
        raise UserError(f"out={s.out}: write the home folder out, $HOME in a shell")
    return s
