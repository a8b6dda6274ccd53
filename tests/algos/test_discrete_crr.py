"""CRR's loss by hand: the weight belongs to its sample and is a number, not a function."""

import math
from typing import Any

import pytest
import torch
from problem import algorithm
from torch import Tensor

from offrl.errors import UserError
from offrl.rng import generator
from offrl.types import Spec

LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # pi = (1/4, 3/4), (1/2, 1/2)
Q = torch.tensor([[1.0, 3.0], [2.0, -2.0]])  # E_pi Q = 2.5, 0
ACTION = torch.tensor([1, 0])  # advantages 0.5 and 2, log pi = log 3/4 and log 1/2
SPEC = Spec((2,), 2, 0.0, 2)


def crr(**changes: Any) -> Any:
    return algorithm("discrete_crr", SPEC, hidden=[], **changes)


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, (math.exp(0.5), math.exp(2.0))),
        ({"beta": 2.0}, (math.exp(0.25), math.exp(1.0))),
        ({"max_weight": 3.0}, (math.exp(0.5), 3.0)),
        ({"mode": "binary"}, (1.0, 1.0)),
        ({"mode": "all"}, (1.0, 1.0)),
    ],
)
def test_the_actors_loss_is_the_mean_of_products(
    changes: dict[str, Any], weights: tuple[float, float]
) -> None:
    loss, weight = crr(**changes).actor_loss(LOGITS, Q, ACTION)
    products = [-weights[0] * math.log(3 / 4), -weights[1] * math.log(1 / 2)]
    assert float(loss) == pytest.approx(sum(products) / 2)
    assert float(weight) == pytest.approx(sum(weights) / 2)
    of_means = sum(weights) / 2 * -(math.log(3 / 4) + math.log(1 / 2)) / 2
    if weights[0] != weights[1]:
        assert float(loss) != pytest.approx(of_means, rel=1e-2)


def test_binary_weights_are_0_for_what_is_worse_than_the_policy() -> None:
    loss, weight = crr(mode="binary").actor_loss(LOGITS, Q, torch.tensor([0, 0]))
    assert float(weight) == 0.5
    assert float(loss) == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("mode", ["exp", "binary", "all"])
def test_the_actors_loss_does_not_move_the_critic(mode: str) -> None:
    algo = crr(mode=mode)
    theta = algo.net.init(generator(0)).requires_grad_()
    logits, q = algo.net(theta, torch.randn(16, 2, generator=generator(1)))
    loss, _ = algo.actor_loss(logits, q, torch.arange(16) % 2)
    (grad,) = torch.autograd.grad(loss, theta)
    actor, critic = grad.split([net.size for net in algo.net.heads])
    assert (critic == 0).all()
    assert (actor != 0).any()


def test_the_weight_is_a_constant_for_the_actor() -> None:
    """The gradient in the logits is that of -f log pi with the number f, per sample."""
    logits = LOGITS.clone().requires_grad_()
    loss, _ = crr().actor_loss(logits, Q, ACTION)
    (grad,) = torch.autograd.grad(loss, logits)
    f = torch.tensor([math.exp(0.5), math.exp(2.0)])
    one_hot = torch.nn.functional.one_hot(ACTION, 2)
    torch.testing.assert_close(grad, f[:, None] * (LOGITS.softmax(-1) - one_hot) / 2)


def test_the_target_is_the_expectation_over_the_target_policy() -> None:
    algo = crr()
    # one state of zeros: the heads' outputs are their biases
    theta = torch.cat((torch.zeros(4), LOGITS[0], torch.zeros(4), Q[0]))
    zeros: Tensor = torch.zeros(2, 2)
    b: Any = type("B", (), {"next_obs": zeros, "reward": 1.0, "discount": torch.tensor([0.5, 0])})
    assert algo.td_target(theta, b).tolist() == [1.0 + 0.5 * 2.5, 1.0]


def test_evaluation_is_greedy_or_samples() -> None:
    state = crr().init(generator(0))
    theta = torch.cat((torch.zeros(4), LOGITS[0], torch.zeros(6)))
    s = state._replace(actor_critic=theta)
    obs, z = torch.zeros(20_000, 2), torch.randn(20_000, 2, generator=generator(0))
    assert crr().act_noise_dim == 0
    assert (crr().act(s, obs, z[:, :0]) == 1).all()
    sampling = crr(sample=True)
    assert sampling.act_noise_dim == 2
    assert float(sampling.act(s, obs, z).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(UserError, match=r"algo\.mode=max: must be one of exp, binary, all"):
        crr(mode="max")
