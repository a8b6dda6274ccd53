"""tianshou's algorithms with our hyperparameters, built as its offline examples build them."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from benchmarks.timing import peer_tianshou_atari
from benchmarks.timing.clock import Work
from benchmarks.timing.problem import EPISODE, Problem

algorithms: Any = import_module("tianshou.algorithm")
data: Any = import_module("tianshou.data")
common: Any = import_module("tianshou.utils.net.common")
continuous: Any = import_module("tianshou.utils.net.continuous")
torch_utils: Any = import_module("tianshou.utils.torch_utils")
optim: Any = import_module("tianshou.algorithm.optim")
imitation: Any = import_module("tianshou.algorithm.imitation.imitation_base")
bcq: Any = import_module("tianshou.algorithm.imitation.bcq")
sac: Any = import_module("tianshou.algorithm.modelfree.sac")
ddpg: Any = import_module("tianshou.algorithm.modelfree.ddpg")


def training(p: Problem, make: Callable[[Any], Any]) -> Work | None:
    """The training step of tianshou's OfflineTrainer; None for what tianshou does not have."""
    algo = make(p.algo)
    if algo is None:
        return None
    obs, action, reward, next_obs = p.arrays()
    truncated = np.arange(1, len(obs) + 1) % EPISODE == 0
    no = np.zeros_like(truncated)
    buffer = data.ReplayBuffer.from_data(obs, action, reward, no, truncated, truncated, next_obs)

    def work(steps: int) -> None:
        with torch_utils.policy_within_training_step(algo.policy):
            for _ in range(steps):
                algo.update(buffer=buffer, sample_size=p.batch_size)

    return work


def _adam(lr: float) -> Any:
    return optim.AdamOptimizerFactory(lr=lr)


def _space(a: Any) -> Box:
    limit = a.spec.max_action
    return Box(-limit, limit, (a.spec.action_dim,))


def _critic(a: Any) -> Any:
    net = common.Net(
        state_shape=a.spec.obs_shape,
        action_shape=a.spec.action_dim,
        hidden_sizes=a.hidden,
        concat=True,
    )
    return continuous.ContinuousCritic(preprocess_net=net)


def _actor(a: Any) -> Any:
    net = common.Net(state_shape=a.spec.obs_shape, hidden_sizes=a.hidden)
    return continuous.ContinuousActorDeterministic(
        preprocess_net=net, action_shape=(a.spec.action_dim,), max_action=a.spec.max_action
    )


def _gaussian_policy(a: Any) -> Any:
    net = common.Net(state_shape=a.spec.obs_shape, hidden_sizes=a.hidden)
    actor = continuous.ContinuousActorProbabilistic(
        preprocess_net=net,
        action_shape=(a.spec.action_dim,),
        unbounded=True,
        conditioned_sigma=True,
    )
    return sac.SACPolicy(actor=actor, action_space=_space(a))


def _twins(a: Any) -> dict[str, Any]:
    return {
        "critic": _critic(a),
        "critic_optim": _adam(a.critic_lr),
        "critic2": _critic(a),
        "critic2_optim": _adam(a.critic_lr),
        "tau": a.tau,
    }


def _bc(a: Any) -> Any:
    policy = imitation.ImitationPolicy(actor=_actor(a), action_space=_space(a))
    return imitation.OfflineImitationLearning(policy=policy, optim=_adam(a.lr))


def _td3_bc(a: Any) -> Any:
    policy = ddpg.ContinuousDeterministicPolicy(actor=_actor(a), action_space=_space(a))
    return algorithms.TD3BC(
        policy=policy,
        policy_optim=_adam(a.actor_lr),
        policy_noise=a.policy_noise,
        noise_clip=a.noise_clip,
        update_actor_freq=a.period,
        alpha=a.alpha,
        **_twins(a),
    )


def _cql(a: Any) -> Any:
    alpha = sac.AutoAlpha(-float(a.spec.action_dim), 0.0, _adam(a.actor_lr))
    return algorithms.CQL(
        policy=_gaussian_policy(a),
        policy_optim=_adam(a.actor_lr),
        alpha=alpha,
        cql_weight=a.min_q_weight,
        with_lagrange=a.lagrange_threshold is not None,
        num_repeat_actions=a.n_actions,
        min_action=-a.spec.max_action,
        max_action=a.spec.max_action,
        calibrated=a.calibrated,
        **_twins(a),
    )


def _sac(a: Any) -> Any:
    alpha = sac.AutoAlpha(-float(a.spec.action_dim), 0.0, _adam(a.alpha_lr))
    twins = _twins(a)
    return algorithms.SAC(
        policy=_gaussian_policy(a), policy_optim=_adam(a.actor_lr), alpha=alpha, **twins
    )


def _bcq(a: Any) -> Any:
    obs, action, latent = a.spec.obs_shape[0], a.spec.action_dim, a.latent_dim
    vae = continuous.VAE(
        encoder=_mlp(obs + action, a.vae_hidden),
        decoder=_mlp(obs + latent, a.vae_hidden, action),
        hidden_dim=a.vae_hidden[-1],
        latent_dim=latent,
        max_action=a.spec.max_action,
    )
    # a Net, not an MLP as in the example: of an MLP's output, Perturbation takes the first row
    net = common.Net(state_shape=obs + action, action_shape=action, hidden_sizes=a.hidden)
    perturbation = continuous.Perturbation(
        preprocess_net=net, max_action=a.spec.max_action, phi=a.phi
    )
    twins = _twins(a)
    policy = bcq.BCQPolicy(
        actor_perturbation=perturbation,
        action_space=_space(a),
        critic=twins.pop("critic"),
        vae=vae,
    )
    return algorithms.BCQ(
        policy=policy,
        actor_perturbation_optim=_adam(a.actor_lr),
        vae_optim=_adam(a.vae_lr),
        lmbda=a.lmbda,
        num_sampled_action=a.n_candidates,
        **twins,
    )


def _mlp(n: int, hidden: Sequence[int], out: int = 0) -> Any:
    return common.MLP(input_dim=n, hidden_sizes=hidden, output_dim=out)


ALGORITHMS = {
    "bc": _bc,
    "td3_bc": _td3_bc,
    "cql": _cql,
    "sac": _sac,
    "bcq": _bcq,
    **peer_tianshou_atari.ALGORITHMS,
}
