"""Trains a behaviour policy online; publish=true puts the chosen policies into offrl/policies.

python benchmarks/collect.py env=hopper out=DIR
python benchmarks/collect.py env=hopper out=DIR publish=true

The same command again continues an interrupted training, bit for bit.
"""

import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone works uninstalled


@hydra.main(version_base="1.3", config_path="../conf", config_name="collect")
def main(cfg: DictConfig) -> None:
    from tqdm import tqdm

    from offrl.behaviour import publish
    from offrl.config import build
    from offrl.engine import reproducible
    from offrl.envs.vector import VectorEnv, env_spec
    from offrl.errors import UserError
    from offrl.online import Online
    from offrl.types import Spec

    reproducible(cfg.threads)
    try:
        env_id = f"{cfg.env.task}-v5"  # the suite's own data is made on the current versions
        env = env_spec(env_id)
        spec = Spec(env.obs_shape, env.action_dim, env.max_action, cfg.batch_size)
        algo: Any = build(cfg.algo, spec)
        make_env = partial(VectorEnv, env_id)
        keys = {f.name for f in fields(Online)} - {"algo", "env_id", "make_env", "make_eval_env"}
        settings = {k: cfg[k] for k in keys} | {"out": Path(cfg.out).expanduser()}
        run = Online(algo, env_id, make_env, make_env, **settings)
        with tqdm(total=run.train_steps, disable=None, unit="step", leave=False) as bar:

            def report(step: int, score: float, speed: float) -> None:
                bar.update(step - bar.n)
                tqdm.write(f"step {step}: return {score:.1f}, {speed:.0f} steps/s", file=sys.stderr)

            run.train(report)
        if cfg.publish:
            config: Any = OmegaConf.to_container(cfg, resolve=True)
            publish(run, config, cfg.env.name, ROOT, lambda t: print(t, file=sys.stderr))
    except UserError as e:
        sys.exit(f"offrl: {e}")
    print(run.out)


if __name__ == "__main__":
    main()
