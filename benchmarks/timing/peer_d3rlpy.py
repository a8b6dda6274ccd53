"""d3rlpy's algorithms with our hyperparameters."""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.timing.clock import Work
from benchmarks.timing.problem import EPISODE, Problem

# d3rlpy refuses to be imported beside an old gym, which none of its algorithms uses
_healthcheck: Any = ModuleType("d3rlpy.healthcheck")
_healthcheck.run_healthcheck = lambda: None
sys.modules.setdefault("d3rlpy.healthcheck", _healthcheck)
_structlog: Any = import_module("structlog")
_structlog.configure(wrapper_class=_structlog.make_filtering_bound_logger(logging.ERROR))
d3: Any = import_module("d3rlpy")


def training(p: Problem, config: Callable[[Any], Any]) -> Work:
    """The body of d3rlpy's fit()."""
    obs, action, reward, _ = p.arrays()
    ends = (np.arange(1, len(obs) + 1) % EPISODE == 0).astype(np.float32)
    if action.ndim == 1:
        action = action[:, None]
    data = d3.dataset.MDPDataset(obs, action, reward, 0 * ends, timeouts=ends)
    algo = config(p.algo).create(device="cpu:0")
    algo.build_with_dataset(data)

    def work(steps: int) -> None:
        for _ in range(steps):
            algo.update(data.sample_transition_batch(p.batch_size))

    return work


def _net(hidden: Sequence[int], layer_norm: bool = False) -> Any:
    return d3.models.VectorEncoderFactory(list(hidden), use_layer_norm=layer_norm)


def _actor_critic(a: Any, layer_norm: bool = False) -> dict[str, Any]:
    return {
        "batch_size": a.spec.batch_size,
        "actor_learning_rate": a.actor_lr,
        "critic_learning_rate": a.critic_lr,
        "actor_encoder_factory": _net(a.hidden),
        "critic_encoder_factory": _net(a.hidden, layer_norm),
        "tau": a.tau,
    }


def _td3(a: Any) -> dict[str, Any]:
    return {
        "target_smoothing_sigma": a.policy_noise,
        "target_smoothing_clip": a.noise_clip,
        "update_actor_interval": a.period,
    }


def _bc(a: Any) -> Any:
    return d3.algos.BCConfig(
        batch_size=a.spec.batch_size, learning_rate=a.lr, encoder_factory=_net(a.hidden)
    )


def _td3_bc(a: Any) -> Any:
    return d3.algos.TD3PlusBCConfig(alpha=a.alpha, **_td3(a), **_actor_critic(a))


def _rebrac(a: Any) -> Any:
    return d3.algos.ReBRACConfig(
        actor_beta=a.actor_bc_coef,
        critic_beta=a.critic_bc_coef,
        **_td3(a),
        **_actor_critic(a, layer_norm=True),
    )


def _iql(a: Any) -> Any:
    return d3.algos.IQLConfig(
        expectile=a.expectile,
        weight_temp=a.beta,
        value_encoder_factory=_net(a.hidden),
        **_actor_critic(a),
    )


def _cql(a: Any) -> Any:
    return d3.algos.CQLConfig(
        temp_learning_rate=a.actor_lr,
        # a weight of its own only where ours learns one
        alpha_learning_rate=0.0 if a.lagrange_threshold is None else a.critic_lr,
        conservative_weight=a.min_q_weight,
        n_action_samples=a.n_actions,
        soft_q_backup=a.backup_entropy,
        **_actor_critic(a),
    )


def _bcq(a: Any) -> Any:
    return d3.algos.BCQConfig(
        imitator_learning_rate=a.vae_lr,
        imitator_encoder_factory=_net(a.vae_hidden),
        lam=a.lmbda,
        n_action_samples=a.n_candidates,
        action_flexibility=a.phi,
        beta=a.kl_weight,
        **_actor_critic(a),
    )


def _sac(a: Any) -> Any:
    return d3.algos.SACConfig(temp_learning_rate=a.alpha_lr, **_actor_critic(a))


def _pixels(a: Any) -> dict[str, Any]:
    """Of vectors d3rlpy's own default is an MLP; pixels are left unscaled, which costs less."""
    images = len(a.spec.obs_shape) == 3
    return {
        "batch_size": a.spec.batch_size,
        "learning_rate": a.lr,
        "encoder_factory": d3.models.PixelEncoderFactory(feature_size=a.hidden[-1])
        if images
        else _net(a.hidden),
    }


def _quantiles(a: Any) -> dict[str, Any]:
    """One quantile is a mean: d3rlpy's default head."""
    factories = d3.models.q_functions
    head = (
        factories.MeanQFunctionFactory()
        if a.n_quantiles == 1
        else factories.QRQFunctionFactory(n_quantiles=a.n_quantiles)
    )
    return {"q_func_factory": head, "target_update_interval": a.target_period, **_pixels(a)}


def _discrete_bc(a: Any) -> Any:
    return d3.algos.DiscreteBCConfig(**_pixels(a))


def _discrete_bcq(a: Any) -> Any:
    """Its heads share the hidden layer too."""
    return d3.algos.DiscreteBCQConfig(
        action_flexibility=a.threshold,
        beta=a.logits_penalty,
        target_update_interval=a.target_period,
        **_pixels(a),
    )


def _discrete_cql(a: Any) -> Any:
    """Always double Q-learning."""
    return d3.algos.DiscreteCQLConfig(alpha=a.min_q_weight, **_quantiles(a))


def _qrdqn(a: Any) -> Any:
    config = d3.algos.DoubleDQNConfig if a.double else d3.algos.DQNConfig
    return config(**_quantiles(a))


ALGORITHMS = {
    "bc": _bc,
    "td3_bc": _td3_bc,
    "rebrac": _rebrac,
    "iql": _iql,
    "cql": _cql,
    "bcq": _bcq,
    "sac": _sac,
    "discrete_bc": _discrete_bc,
    "discrete_bcq": _discrete_bcq,
    "discrete_cql": _discrete_cql,
    "qrdqn": _qrdqn,
}
