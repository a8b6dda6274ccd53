"""The algorithms under test, found and built from their configs, and random data for them."""

import pkgutil
from functools import cache
from typing import Any

import torch
from composite import Curious
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

import offrl.algos
from offrl.algos.td3_bc import TD3BC
from offrl.config import algorithm_class, build
from offrl.plan import CONF
from offrl.rng import generator
from offrl.types import AnyAlgorithm, Spec, Transition

COMPOSITE = "composite"
MODULES = sorted(m.name for m in pkgutil.iter_modules(offrl.algos.__path__))
CASES = [*MODULES, COMPOSITE]  # everything that obeys the protocol
CONFIGS = sorted(p.stem for p in (CONF / "algo").glob("*.yaml"))


@cache
def config(name: str) -> DictConfig:
    """The `algo` node of conf/algo/<name>.yaml, composed as for a run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node: DictConfig = compose("train", [f"algo={name}"]).algo
        if not algorithm_class(node).continuous:  # tuned for games: here it takes the row for files
            node = compose("train", [f"algo={name}", "dataset=file", "dataset.path=any"]).algo
    return node


def algorithm(name: str, spec: Spec | None = None, **hyperparameters: Any) -> AnyAlgorithm:
    """The algorithm of a config, or the composite; by default for a small problem and narrow."""
    if name == COMPOSITE:
        return Curious(TD3BC(**vars(algorithm("td3_bc", spec, **hyperparameters))), 1e-3, 0.1)
    node: Any = config(name)
    continuous = algorithm_class(node).continuous
    small = Spec((5,), 3, 1.5, 16) if continuous else Spec((2, 36, 36), 3, 0.0, 16)
    narrow: dict[Any, Any] = {
        key: [32] * len(width) for key, width in node.items() if str(key).endswith("hidden")
    }
    if "n_quantiles" in node:
        narrow["n_quantiles"] = 8
    return build(DictConfig({**node, **narrow, **hyperparameters}), spec or small)


def batch(algo: AnyAlgorithm, *address: int | str) -> Transition:
    """Random data for one update; an eighth of it ends in a terminal."""
    g, spec = generator(*address, "data"), algo.spec
    n = spec.batch_size * algo.period
    discount = 0.99 * (torch.rand(n, generator=g) > 1 / 8)
    obs, next_obs = _obs(spec, n, g), _obs(spec, n, g)
    action, next_action = _action(algo, n, g), _action(algo, n, g)
    reward, return_to_go = torch.randn(n, generator=g), torch.randn(n, generator=g)
    return Transition(obs, action, reward, next_obs, next_action, discount, return_to_go)


def noise(algo: AnyAlgorithm, *address: int | str) -> Any:
    """The noise of one update."""
    return tree_map(lambda x: x[0], algo.noise(1, generator(*address, "noise")))


def _obs(spec: Spec, n: int, g: torch.Generator) -> Tensor:
    if len(spec.obs_shape) == 1:
        return torch.randn(n, *spec.obs_shape, generator=g)
    return torch.randint(256, (n, *spec.obs_shape), generator=g, dtype=torch.uint8)


def _action(algo: AnyAlgorithm, n: int, g: torch.Generator) -> Tensor:
    if not algo.continuous:
        return torch.randint(algo.spec.action_dim, (n,), generator=g)
    return algo.spec.max_action * (2 * torch.rand(n, algo.spec.action_dim, generator=g) - 1)


def same_bits(a: Any, b: Any) -> bool:
    """Whether two trees of tensors are equal in structure, type and every bit."""
    (xs, x_spec), (ys, y_spec) = tree_flatten(a), tree_flatten(b)
    return x_spec == y_spec and all(
        x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(xs, ys, strict=True)
    )


def distance(a: Any, b: Any) -> float:
    """The largest relative distance, in norm, of corresponding tensors of two trees.

    A norm, because Adam's first steps blow the rounding of single tiny gradients up to full steps.
    """
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return max(float((x - y).norm() / y.norm().clamp(min=1e-12)) for x, y in pairs)
