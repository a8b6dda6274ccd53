"""BCQ: a plain loop from the paper, each part by itself, and a task whose optimum is known."""

from dataclasses import replace
from functools import cache
from typing import Any

import lqr
import pytest
import torch
from problem import algorithm, batch, distance, noise, same_bits
from reference.bcq import BCQ as Plain
from reference.networks import flat, load
from test_learning import assert_near_the_optimum, data, train
from test_reference import GAMMA, columns, dims, stacked
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from offrl.algos.bcq import State
from offrl.rng import generator
from offrl.types import Spec, Transition

LIMIT = 1.5  # max_action of the small problem
LINE = Spec((5,), 1, LIMIT, 64)
# all different, so that none can stand for another
WIDTHS: dict[str, Any] = {"hidden": [32, 24], "vae_hidden": [40, 28]}
RATES: dict[str, Any] = {"vae_lr": 2e-3, "actor_lr": 5e-4, "critic_lr": 1e-3}


@pytest.fixture
def algo() -> Any:
    return algorithm("bcq", n_eval_candidates=7)


def start(algo: Any) -> State:
    """A state whose targets are networks of their own, as later in training."""
    s: State = algo.init(generator(0, "init"))
    other: State = algo.init(generator(1, "init"))
    return s._replace(target_actor=other.actor, target_critic=other.critic)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("normal"))


def test_losses_parameters_and_actions_equal_those_of_a_plain_loop(tolerance: float) -> None:
    algo: Any = algorithm("bcq", **WIDTHS, **RATES, n_eval_candidates=7)
    given = {k: v for k, v in vars(algo).items() if k != "spec" and "candidates" not in k}
    plain = Plain(*dims(algo), gamma=GAMMA, **given)
    s = algo.init(generator(0, "init"))
    modules = plain.vae, plain.actor, plain.critic_1, plain.critic_2
    for module, theta in zip(modules, (s.vae, s.actor, *s.critic), strict=True):
        load(module, theta)
    plain.copy_targets()
    for u in range(5):
        b, z = batch(algo, u), noise(algo, u)
        s, stats = algo.update(s, b, z)
        expected = plain.train_step(*columns(b), z.posterior, z.target, z.actor[0])
        assert stats._asdict() == pytest.approx(expected, rel=tolerance, abs=tolerance / 10)
        parameters = {
            "vae": flat(plain.vae),
            "actor": flat(plain.actor),
            "critic": stacked(plain.critic_1, plain.critic_2),
            "target_actor": flat(plain.target_actor),
            "target_critic": stacked(plain.target_critic_1, plain.target_critic_2),
        }
        assert set(parameters) == {n for n in s._fields if not n.endswith("_opt")}
        for name, theta in parameters.items():
            assert distance(getattr(s, name), theta) < tolerance, (u, name)

    obs, z = batch(algo, 5).obs, normal(16, algo.act_noise_dim)
    actions = [plain.select_action(x, n.view(7, -1)) for x, n in zip(obs, z, strict=True)]
    assert distance(algo.act(s, obs, z), torch.stack(actions)) < tolerance


def test_the_vae_loss_is_the_error_and_the_divergence_of_the_clamped_posterior(algo: Any) -> None:
    s, b, eps = start(algo), batch(algo, 0), normal(16, algo.latent_dim)
    last = torch.zeros_like(s.vae)  # biases of the posterior's log deviations
    last[algo.vae.encoder.size - algo.latent_dim :][: algo.latent_dim] = torch.tensor(
        [-9.0, -4.1, -3.9, 0.0, 1.0, 15.5]
    )
    mean, log_std = algo.vae.encode(s.vae + last, b.obs, b.action)
    assert log_std[:, 0].eq(-4).all()
    assert log_std[:, 5].eq(15).all()
    for column in log_std.T[2:5]:
        assert len(column.unique()) > 1  # no clamp
    std = log_std.exp()
    z = mean + std * eps
    error = algo.vae.decode(s.vae, b.obs, z[None])[0] - b.action
    kl = kl_divergence(Normal(mean, std), Normal(torch.zeros(()), 1.0)).mean()
    for weight in (0.0, 0.5, 2.0):
        loss, parts = replace(algo, kl_weight=weight).vae_loss(s.vae + last, b, eps)
        torch.testing.assert_close(parts, (error.square().mean(), kl))
        torch.testing.assert_close(loss, error.square().mean() + weight * kl)


def test_a_perturbation_follows_its_own_observation_and_action(algo: Any) -> None:
    """Tianshou took that of the batch's first row for all of them."""
    s, obs, action = start(algo), batch(algo, 0).obs, 0.5 * normal(4, 16, 3).tanh()
    moved = algo.perturb(s.actor, obs, action)
    order = torch.arange(15, -1, -1)
    permuted = algo.perturb(s.actor, obs[order], action[:, order])
    torch.testing.assert_close(permuted, moved[:, order])
    for k in range(4):
        for i in range(16):
            alone = algo.perturb(s.actor, obs[i : i + 1], action[k : k + 1, i : i + 1])
            torch.testing.assert_close(alone[0, 0], moved[k, i])
    assert len((moved - action).flatten(0, 1).unique(dim=0)) == 64


@pytest.mark.parametrize("phi", [0.05, 0.5])
def test_a_perturbation_is_at_most_phi_and_never_leaves_the_box(algo: Any, phi: float) -> None:
    algo = replace(algo, phi=phi)
    s, obs = start(algo), batch(algo, 0).obs
    inside = (1 - phi) * LIMIT * (2 * torch.rand(9, 16, 3, generator=generator(1)) - 1)
    xi = algo.perturb(1e4 * s.actor, obs, inside) - inside
    assert xi.abs().max() == pytest.approx(phi * LIMIT, rel=1e-5)
    assert xi.min() < 0 < xi.max()
    corners = LIMIT * inside.sign()
    moved = algo.perturb(1e4 * s.actor, obs, corners)
    assert moved.abs().max() == LIMIT
    assert not torch.equal(moved, corners)


def line(**hyperparameters: Any) -> tuple[Any, State]:
    """An action on a line, linear networks, and critics Q_1 = a, Q_2 = -a."""
    algo: Any = algorithm("bcq", LINE, hidden=[], vae_hidden=[], **hyperparameters)
    weights = [[0.0] * 5 + [slope, 0.0] for slope in (1.0, -1.0)]
    return algo, start(algo)._replace(target_critic=torch.tensor(weights))


def bare(algo: Any) -> Transition:
    """Reward 0 and discount 1, so that the target is the value of the next state."""
    b, ones = batch(algo, 0), torch.ones(algo.spec.batch_size)
    return b._replace(reward=0 * ones, discount=ones)


def test_the_target_is_the_best_candidate_by_the_mixture_of_both_critics() -> None:
    algo, s = line()
    b, z = bare(algo), noise(algo, 0).target
    action = algo.perturb(s.target_actor, b.next_obs, algo.sample(s.vae, b.next_obs, z))[..., 0]
    assert (action < 0).any()
    assert (action > 0).any()
    for lmbda in (0.0, 0.75, 1.0):
        # lambda min(a, -a) + (1 - lambda) max(a, -a), the largest over the candidates
        expected = ((1 - 2 * lmbda) * action.abs()).amax(0)
        torch.testing.assert_close(replace(algo, lmbda=lmbda).td_target(s, b, z), expected)


def test_target_actions_are_clamped_to_the_box() -> None:
    algo, s = line(phi=0.5, lmbda=0.0)
    b, z = bare(algo), noise(algo, 0).target
    s = s._replace(vae=1e4 * s.vae, target_actor=1e4 * s.target_actor)
    assert algo.td_target(s, b, z).max() == LIMIT  # unclamped there were 1.5 LIMIT


def test_the_target_goes_through_the_target_perturbation(algo: Any) -> None:
    """Tianshou's took the decoded actions as they were."""
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0).target
    y, going_on = algo.td_target(s, b, z), b.discount > 0
    for name in ("vae", "target_actor", "target_critic"):
        other = s._replace(**{name: 2 * getattr(s, name)})
        assert (algo.td_target(other, b, z) != y)[going_on].all(), name
    without = s._replace(actor=0 * s.actor, critic=0 * s.critic)
    assert torch.equal(algo.td_target(without, b, z), y)
    assert torch.equal(y[~going_on], b.reward[~going_on])
    assert not going_on.all()


def test_candidates_come_from_clipped_latents_and_reconstructions_do_not(algo: Any) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    clipped = type(z)(*(x.clamp(-0.5, 0.5) for x in z))
    after = algo.update(s, b, z)
    assert same_bits(algo.update(s, b, clipped._replace(posterior=z.posterior)), after)
    assert not same_bits(algo.update(s, b, z._replace(posterior=clipped.posterior)), after)
    eps = normal(16, algo.act_noise_dim)
    assert torch.equal(algo.act(s, b.obs, eps), algo.act(s, b.obs, eps.clamp(-0.5, 0.5)))
    assert not torch.equal(algo.act(s, b.obs, eps), algo.act(s, b.obs, eps.clamp(-0.4, 0.4)))


def test_the_actors_step_reaches_neither_vae_nor_critic(algo: Any) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    after, _ = algo.update(s, b, z)
    changed, _ = replace(algo, actor_lr=1.0).update(s, b, z)
    assert not torch.equal(changed.actor, after.actor)
    for name in s._fields:
        if "actor" not in name:
            assert same_bits(getattr(changed, name), getattr(after, name)), name


def test_acting_takes_the_candidate_that_the_first_critic_likes_best(algo: Any) -> None:
    s, obs, z = start(algo), batch(algo, 0).obs, normal(16, algo.act_noise_dim)
    action, seconds_choice = algo.act(s, obs, z), 0
    for i in range(16):
        x, latents = obs[i : i + 1].expand(7, -1), z[i].view(7, algo.latent_dim)
        decoded = algo.sample(s.vae, x, latents[None])[0]
        candidates = algo.perturb(s.actor, x, decoded[None])[0]
        q_1, q_2 = algo.critic(s.critic, x, candidates)
        torch.testing.assert_close(action[i], candidates[q_1.argmax()])
        assert (action[i] - decoded).abs().amax(1).min() <= algo.phi * LIMIT + 1e-6
        seconds_choice += int(q_1.argmax() != q_2.argmax())
    assert seconds_choice > 0  # else the test could not tell the critics apart


def test_acting_uses_all_of_a_rows_noise_and_no_other_rows(algo: Any) -> None:
    s, obs, z = start(algo), batch(algo, 0).obs, normal(16, algo.act_noise_dim)
    action = algo.act(s, obs, z)
    chosen = set()
    for k in range(7):  # what one row's action is if only candidate k is not at the mode
        one = torch.zeros(16, 7, algo.latent_dim)
        one[:, k] = 5.0
        chosen.add(tuple(algo.act(s, obs, one.flatten(1)).flatten().tolist()))
    assert len(chosen) == 1  # every candidate is looked at
    obs[1:], z[1:] = 3.0, -z[1:]
    assert torch.equal(algo.act(s, obs, z)[0], action[0])
    assert not torch.equal(algo.act(s, obs, z)[1:], action[1:])


def test_the_papers_candidates_and_latents() -> None:
    algo: Any = algorithm("bcq")
    assert algo.act_noise_dim == 100 * 2 * 3
    assert noise(algo, 0).target.shape == (10, 16, 2 * 3)


LEARN: dict[str, Any] = {"latent_clip": 2.0, "phi": 0.3, "n_eval_candidates": 20, "tau": 0.05}


@cache
def learner(**changes: Any) -> Any:
    """Candidates further from the data than the paper's, for the optimum lies at its edge."""
    return algorithm("bcq", lqr.spec(64), hidden=[64, 64], vae_hidden=[64, 64], **LEARN | changes)


def test_bcq_comes_near_the_optimum() -> None:
    assert_near_the_optimum(train(learner(), data()))


BROKEN = {
    "vae_that_stands_still": {"vae_lr": 0.0},
    "critic_that_stands_still": {"critic_lr": 0.0},
    "perturbation_that_stands_still": {"actor_lr": 0.0},
    "targets_that_stand_still": {"tau": 0.0},
    "first_candidate_unperturbed": {"n_eval_candidates": 1, "phi": 0.0},
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_bcq_fails_the_same_assertion(broken: dict[str, Any]) -> None:
    policy = train(learner(**broken), data())
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.full
def test_bcq_that_does_not_look_ahead_fails_the_same_assertion() -> None:
    policy = train(learner(), data()._replace(discount=torch.zeros_like(data().discount)))
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)
