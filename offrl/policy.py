"""A trained policy: weights and normaliser together, so that it takes raw observations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from offrl.checkpoint import load_tensors, save_tensors
from offrl.config import build
from offrl.data.normalise import Normaliser
from offrl.envs.make import EnvRef, spec_of
from offrl.errors import UserError
from offrl.record import read_json
from offrl.rng import generator
from offrl.types import AnyAlgorithm

NAME = "policy.safetensors"


@dataclass(frozen=True)
class Policy:
    """What one seed of a run learnt."""

    algo: AnyAlgorithm
    state: Any
    normaliser: Normaliser | None

    def __call__(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Actions for raw observations [n, ...]; noise is normal [n, act_noise_dim]."""
        x = obs if self.normaliser is None else self.normaliser(obs)
        return self.algo.act(self.state, x, noise)

    @torch.inference_mode()
    def predict(self, obs: NDArray[Any]) -> NDArray[Any]:
        """The action for one raw observation, or [n, ...] for n of them.

        As in evaluation, a policy that draws (BCQ's candidates, epsilon-greedy) draws: from torch's
        generator here.  Observations are [D] or uint8 [4, 84, 84]; actions float32 [A], or int64
        without dimensions.
        """
        shape = self.algo.spec.obs_shape
        outer = np.shape(obs)[: np.ndim(obs) - len(shape)]
        pixels = torch.uint8 if len(shape) > 1 else torch.float32
        x = torch.as_tensor(obs, dtype=pixels).reshape(-1, *shape)
        noise = torch.randn(len(x), self.algo.act_noise_dim)
        actions: NDArray[Any] = self(x, noise).numpy()
        return actions.reshape((*outer, *actions.shape[1:]))


def save_policy(
    run_dir: Path,
    algo: AnyAlgorithm,
    seeds: Sequence[int],
    states: Sequence[Any],
    normaliser: Normaliser | None,
    step: int,
) -> None:
    """Writes what act() needs of every seed, and the normaliser, in one file."""
    tensors = {
        f"{seed}.{name}": getattr(state, name)
        for seed, state in zip(seeds, states, strict=True)
        for name in algo.policy_fields
    }
    if normaliser is not None:
        tensors |= {"normaliser.mean": normaliser.mean, "normaliser.std": normaliser.std}
    save_tensors(run_dir / NAME, tensors, {"step": str(step)})


def load_policies(run_dir: Path) -> tuple[dict[int, Policy], int]:
    """The policies of a run by seed, and the gradient step that they were saved at.

    Raises UserError where the folder is no run, or one that was not evaluated yet.
    """
    manifest = read_json(run_dir / "manifest.json")
    if not (run_dir / NAME).exists():
        raise UserError(f"{run_dir}: no {NAME} yet; it is written at the first evaluation")
    tensors, metadata = load_tensors(run_dir / NAME)
    try:
        config, ref = manifest["config"], env_of(manifest)
        seeds, batch_size, learner = (config[k] for k in ("seeds", "batch_size", "algo"))
    except (KeyError, TypeError, AttributeError) as e:
        file = run_dir / "manifest.json"
        raise UserError(f"{file}: not the manifest of a run ({e!r}); restore it") from e
    algo = build(OmegaConf.create(learner), spec_of(ref).with_batch(batch_size))
    normaliser = None
    if "normaliser.mean" in tensors:
        normaliser = Normaliser(tensors["normaliser.mean"], tensors["normaliser.std"])
    policies = {seed: Policy(algo, _state(algo, tensors, str(seed)), normaliser) for seed in seeds}
    return policies, int(metadata["step"])


def env_of(manifest: Mapping[str, Any]) -> EnvRef:
    """The environment that a run is evaluated on."""
    score = manifest["score"]
    return EnvRef(score["env_id"], score.get("settings", {}))


def load_policy(run_dir: Path | str, seed: int | None = None) -> Policy:
    """The policy of one seed of a run; `seed` may be left out if the run has only one."""
    policies, _ = load_policies(Path(run_dir))
    if seed is None and len(policies) == 1:
        return next(iter(policies.values()))
    if seed not in policies:
        raise UserError(f"{run_dir}: seed={seed}: the run has seeds {sorted(policies)}")
    return policies[seed]


def _state(algo: AnyAlgorithm, tensors: Mapping[str, Tensor], prefix: str) -> Any:
    """A state with the saved parts; act() reads no other."""
    saved = {name: tensors[f"{prefix}.{name}"] for name in algo.policy_fields}
    return algo.init(generator(0, "init"))._replace(**saved)
