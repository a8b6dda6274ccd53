"""tianshou's discrete algorithms with our hyperparameters, as its Atari examples build them.

Pixels are left unscaled, as they are there by default, which costs less.
"""

from importlib import import_module
from typing import Any

from gymnasium.spaces import Discrete

algorithms: Any = import_module("tianshou.algorithm")
discrete: Any = import_module("tianshou.utils.net.discrete")
atari: Any = import_module("tianshou.env.atari.atari_network")
optim: Any = import_module("tianshou.algorithm.optim")
bcq: Any = import_module("tianshou.algorithm.imitation.discrete_bcq")
imitation: Any = import_module("tianshou.algorithm.imitation.imitation_base")
qrdqn: Any = import_module("tianshou.algorithm.modelfree.qrdqn")
reinforce: Any = import_module("tianshou.algorithm.modelfree.reinforce")


def _sizes(a: Any) -> dict[str, Any]:
    c, h, w = a.spec.obs_shape
    return {"c": c, "h": h, "w": w, "action_shape": a.spec.action_dim}


def _body(a: Any) -> Any:
    return atari.DQNet(**_sizes(a), features_only=True)


def _actor(a: Any, body: Any) -> Any:
    return discrete.DiscreteActor(
        preprocess_net=body,
        action_shape=a.spec.action_dim,
        hidden_sizes=a.hidden,
        softmax_output=False,
    )


def _adam(a: Any) -> Any:
    return optim.AdamOptimizerFactory(lr=a.lr)


def _quantiles(a: Any) -> dict[str, Any]:
    """Always double Q-learning; its network has 512 units."""
    net = atari.QRDQNet(**_sizes(a), num_quantiles=a.n_quantiles)
    return {
        "policy": qrdqn.QRDQNPolicy(model=net, action_space=Discrete(a.spec.action_dim)),
        "optim": _adam(a),
        "num_quantiles": a.n_quantiles,
        "target_update_freq": a.target_period,
    }


def _bc(a: Any) -> Any:
    net = atari.DQNet(**_sizes(a))
    policy = imitation.ImitationPolicy(actor=net, action_space=Discrete(a.spec.action_dim))
    return imitation.OfflineImitationLearning(policy=policy, optim=_adam(a))


def _bcq(a: Any) -> Any:
    body = _body(a)
    policy = bcq.DiscreteBCQPolicy(
        model=_actor(a, body),
        imitator=_actor(a, body),
        target_update_freq=a.target_period,
        unlikely_action_threshold=a.threshold,
        action_space=Discrete(a.spec.action_dim),
    )
    return algorithms.DiscreteBCQ(
        policy=policy,
        optim=_adam(a),
        target_update_freq=a.target_period,
        imitation_logits_penalty=a.logits_penalty,
    )


def _cql(a: Any) -> Any:
    if a.n_quantiles == 1:  # refused there
        return None
    return algorithms.DiscreteCQL(min_q_weight=a.min_q_weight, **_quantiles(a))


def _crr(a: Any) -> Any:
    body = _body(a)
    space = Discrete(a.spec.action_dim)
    policy = reinforce.DiscreteActorPolicy(actor=_actor(a, body), action_space=space)
    critic = discrete.DiscreteCritic(
        preprocess_net=body, hidden_sizes=a.hidden, last_size=a.spec.action_dim
    )
    return algorithms.DiscreteCRR(
        policy=policy,
        critic=critic,
        optim=_adam(a),
        policy_improvement_mode=a.mode,
        ratio_upper_bound=a.max_weight,
        beta=a.beta,
        min_q_weight=a.min_q_weight,
        target_update_freq=a.target_period,
    )


ALGORITHMS = {"discrete_bc": _bc, "discrete_bcq": _bcq, "discrete_cql": _cql, "discrete_crr": _crr}
