"""Choosing the behaviour policy of a game from an online run, and recording it.

Of the five best evaluated policies the one that is best in fresh games, measured in others again.
It acts by the mean of its quantiles, so one output per action is kept of them, in half precision.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from offrl.algos.qrdqn import QRDQN
from offrl.atomic import write_atomic
from offrl.checkpoint import load_tensors, save_tensors
from offrl.config import build
from offrl.data import atari
from offrl.data.atari_file import read_meta
from offrl.data.digest import sha256_file
from offrl.envs.atari import AtariSettings, action_names
from offrl.errors import UserError
from offrl.evaluate import CHUNK, evaluate
from offrl.online import Online, policy_path
from offrl.rng import generator
from offrl.versions import git_state, mismatch, numerics

SHORTLIST = 5  # of the best evaluated policies
SELECTION, FRESH = 16, 32  # games, from start states that no evaluation of the training has used


def select(run: Online, report: Callable[[str], None]) -> int:
    """The step of the policy that a run is remembered for."""
    curve = pd.read_csv(run.out / "eval.csv").groupby("step")["return"].mean()
    likeliest = [
        int(s) for s in curve.sort_values(ascending=False, kind="stable").index[:SHORTLIST]
    ]
    if len(likeliest) == 1:
        return likeliest[0]
    means = {}
    for step in likeliest:
        returns = _returns(run, run.algo, _critic(run, step), run.eval_episodes, SELECTION)
        means[step] = float(returns.mean())
        report(f"step {step}: {means[step]:.1f} over {SELECTION} games (selection)")
    return max(means, key=lambda step: means[step])


def publish(
    run: Online,
    config: Mapping[str, Any],
    settings: AtariSettings,
    root: Path,
    report: Callable[[str], None],
) -> None:
    """Writes offrl/policies/atari/<game>.safetensors and .json.

    `config` is what the run was trained with, `settings` how data is gathered with its policy,
    `root` the repository.
    """
    algo: Any = run.algo  # a QRDQN
    step = select(run, report)
    node: dict[str, Any] = {**config["algo"], "n_quantiles": 1}
    small = build(OmegaConf.create(node), run.algo.spec)
    critic = mean_quantiles(algo, _critic(run, step)).half()
    returns = _returns(run, small, critic.float(), run.eval_episodes + SELECTION, FRESH)
    report(f"step {step}: {returns.mean():.1f} over {FRESH} games (record)")
    folder = root / "offrl" / "policies" / "atari"
    folder.mkdir(exist_ok=True)
    path = folder / f"{settings.game}.safetensors"
    save_tensors(path, {"critic": critic}, {"env_id": run.env_id, "step": str(step)})
    record = {
        "env": asdict(settings),
        "actions": list(action_names(settings.game)),
        "algo": node,
        "training": {k: v for k, v in config.items() if k not in ("env", "out", "publish")},
        "trained_steps": int(pd.read_csv(run.out / "eval.csv")["step"].max()),
        "numerics": numerics(
            "cpu", int(config["threads"]), bool(config["compile"]), atari.SIMULATOR
        ),
        "git": git_state(root),
        "policy": {
            "sha256": sha256_file(path),
            "step": step,
            "fresh_episodes": FRESH,
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
        },
    }
    write_atomic(folder / f"{settings.game}.json", f"{json.dumps(record, indent=1)}\n".encode())


def gather(
    run: Online, config: Mapping[str, Any], settings: AtariSettings, report: Callable[[str], None]
) -> Path:
    """config["n_steps"] transitions of the run's policy, with config["epsilon"], in a file.

    One that is there already is kept.  Raises UserError if its games were played otherwise.
    """
    n, epsilon = int(config["n_steps"]), float(config["epsilon"])
    step = select(run, report)
    path = run.out / f"{settings.game}-step{step}-n{n}-eps{epsilon:g}.npz"
    policy = policy_path(run.out, step)
    behaviour = atari.Behaviour(
        settings, config["algo"], {"critic": _critic(run, step)}, sha256_file(policy)
    )
    if path.exists():
        there, asked = read_meta(path), atari.origin(behaviour, n, epsilon, run.seed)
        keys = asked.keys() - {"numerics"}
        if differences := mismatch({k: there.get(k) for k in keys}, {k: asked[k] for k in keys}):
            raise UserError(
                f"{path}: holds games that were played otherwise: {'; '.join(differences)}. "
                "Move it away, or restore the settings"
            )
        return path
    with tqdm(total=n, desc=f"playing {settings.game}", unit="step", disable=None) as bar:
        atari.gather(path, behaviour, n, epsilon, run.seed, bar.update)
    return path


def mean_quantiles(algo: QRDQN, theta: Tensor) -> Tensor:
    """The parameters of the same network with one output per action, the mean of its quantiles."""
    net = algo.critic.net
    (head,) = net.heads
    weight, bias = head.layers(theta[-head.size :])[-1]
    means = [torch.unflatten(x, -1, (-1, algo.n_quantiles)).mean(-1) for x in (weight, bias)]
    return torch.cat([theta[: -weight.numel() - bias.numel()], *(x.flatten() for x in means)])


def _critic(run: Online, step: int) -> Tensor:
    tensors, _ = load_tensors(policy_path(run.out, step))
    return tensors["critic"]


def _returns(
    run: Online, algo: Any, critic: Tensor, first: int, episodes: int
) -> NDArray[np.float64]:
    """Of `episodes` evaluation episodes from number `first` on."""
    state = algo.init(generator(0, "init"))._replace(critic=critic)
    env = run.make_eval_env(CHUNK)
    address = (run.seed, "record")
    found = evaluate(
        lambda o, z: algo.act(state, o, z), env, episodes, algo.act_noise_dim, address, first
    )
    env.close()
    return np.array([e.return_ for e in found])
