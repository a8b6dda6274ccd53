"""Trains a behaviour policy online, and gathers data with it.

python benchmarks/collect.py env=hopper out=DIR
python benchmarks/collect.py env=hopper out=DIR publish=true
python benchmarks/collect.py env=pong algo=qrdqn out=DIR n_steps=1000000

publish=true puts the chosen policies into offrl/policies, from which dataset=offrl/... and
dataset=atari/qrdqn make data on demand.  The same command again continues an interrupted training,
bit for bit.
"""

import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled


@hydra.main(version_base="1.3", config_path="../conf", config_name="collect")
def main(cfg: DictConfig) -> None:
    from offrl import behaviour, behaviour_game
    from offrl.compiler import HAS_COMPILER
    from offrl.config import explain
    from offrl.engine import reproducible
    from offrl.errors import UserError, require_whole

    try:
        require_whole("threads", cfg.threads, 1)
        for key in ("compile", "publish"):  # "no" is text to Hydra, and true to Python
            if not isinstance(cfg[key], bool):
                raise UserError(f"{key}={cfg[key]}: must be true or false")
        reproducible(cfg.threads)
        if cfg.compile and not HAS_COMPILER:
            say("compile=true: no C++ compiler was found (CXX, else g++); training without")
            cfg.compile = False  # what settings.json and records say, too
        try:
            config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as e:
            raise UserError(explain(e, "", [])) from e
        run, played = online(cfg)
        if played is not None:
            require_gathering(cfg.n_steps, cfg.epsilon)
        train(run)
        if cfg.publish and played is None:
            behaviour.publish(run, config, cfg.env.name, ROOT, say)
        elif cfg.publish:
            behaviour_game.publish(run, config, played, ROOT, say)
        if played is not None and cfg.n_steps:
            print(behaviour_game.gather(run, config, played, say))
            return
    except UserError as e:
        sys.exit(f"offrl: {e}")
    except KeyboardInterrupt:
        sys.exit("offrl: stopped; the same command goes on")
    print(run.out)


def online(cfg: DictConfig) -> Any:
    """The run, and for a game how its data is gathered."""
    from offrl.config import algorithm_class, build
    from offrl.envs.atari import AtariSettings, AtariVector
    from offrl.envs.make import atari, spec_of
    from offrl.envs.vector import VectorEnv, env_spec
    from offrl.errors import UserError, require_whole
    from offrl.online import Online

    require_whole("batch_size", cfg.batch_size, 1)
    game = cfg.env.get("game")
    make_env: Any
    make_eval_env: Any
    kind = "discrete" if game else "continuous"
    cls = algorithm_class(cfg.algo)
    if not hasattr(cls, "explore") or cls.continuous != (kind == "continuous"):
        raise UserError(
            f"algo={cfg.algo.name}: needed is an online learner with {kind} actions: "
            "algo=sac for robots, algo=qrdqn for games"
        )
    if game:
        played = AtariSettings(game=game, **cfg.atari)
        make_env = partial(AtariVector, replace(played, **cfg.atari_training))
        make_eval_env = partial(AtariVector, played)
        env_id, env = atari(played).id, spec_of(atari(played))
        games = {"atari": dict(cfg.atari), "atari_training": dict(cfg.atari_training)}
    else:
        played, games = None, {}
        env_id = f"{cfg.env.task}-v5"  # the suite's own data is made on the current versions
        env = env_spec(env_id)
        make_env = make_eval_env = partial(VectorEnv, env_id)
    spec = env.with_batch(cfg.batch_size)
    made = ("algo", "env_id", "make_env", "make_eval_env", "games")
    settings = {f.name: cfg[f.name] for f in fields(Online) if f.name not in (*made, "out")}
    algo: Any = build(cfg.algo, spec)
    out = Path(cfg.out).expanduser()
    return Online(algo, env_id, make_env, make_eval_env, **settings, out=out, games=games), played


def require_gathering(n_steps: object, epsilon: object) -> None:
    """UserError, before the training, for what gather() could not do after it."""
    from offrl.errors import UserError, require_whole

    require_whole("n_steps", n_steps, 0)
    if not isinstance(epsilon, int | float) or not 0 <= epsilon <= 1:
        raise UserError(f"epsilon={epsilon}: must lie in [0, 1]")


def train(run: Any) -> None:
    from tqdm import tqdm

    with tqdm(total=run.train_steps, disable=None, unit="step", leave=False) as bar:

        def report(step: int, score: float, speed: float) -> None:
            bar.update(step - bar.n)
            tqdm.write(f"step {step}: return {score:.1f}, {speed:.0f} steps/s", file=sys.stderr)

        run.train(report)


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
