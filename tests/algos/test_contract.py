"""What every algorithm promises: a new file in offrl/algos is covered without an edit here."""

import ast
import inspect
import pickle
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from problem import CONFIGS, MODULES, algorithm, batch, config, noise, same_bits
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from offrl.cell import Settings
from offrl.config import algorithm_class
from offrl.plan import CONF
from offrl.record import scalars
from offrl.rng import generator
from offrl.types import AnyAlgorithm

Policy = Callable[[Any, Tensor, Tensor], Tensor]


def start(algo: AnyAlgorithm) -> Any:
    return algo.init(generator(0, "init"))


def updated(algo: AnyAlgorithm) -> tuple[Any, Any]:
    return algo.update(start(algo), batch(algo, 0), noise(algo, 0))


def policies(algo: AnyAlgorithm) -> list[tuple[Policy, Tensor]]:
    """act, and explore of online learners, with noise for 16 rows."""
    dims = {"act": algo.act_noise_dim, "explore": algo.spec.action_dim}
    return [
        (getattr(algo, name), torch.randn(16, dim, generator=generator(0)))
        for name, dim in dims.items()
        if hasattr(algo, name)
    ]


def copied(tree: Any) -> Any:
    return tree_map(torch.clone, tree)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_config_of_its_name(name: str) -> None:
    assert name in CONFIGS
    assert algorithm_class(config(name)).__module__ == f"offrl.algos.{name}"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_a_field_and_every_field_is_read(name: str) -> None:
    node, cls = config(name), algorithm_class(config(name))
    names = {f.name for f in fields(cls)}
    assert node.name == name
    assert set(node) - {"name", "_target_"} == names - {"spec"}
    source = Path(inspect.getfile(cls)).read_text()
    read = {
        n.attr
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"
    }
    assert names <= read, f"never read: {names - read}"


@pytest.mark.parametrize("name", CONFIGS)
def test_values_stand_in_the_config_alone(name: str) -> None:
    algorithm(name)  # builds
    for f in fields(algorithm_class(config(name))):
        assert (f.default, f.default_factory) == (MISSING, MISSING), f.name


@pytest.mark.parametrize("name", CONFIGS)
def test_beside_its_algorithm_a_config_sets_keys_of_every_run(name: str) -> None:
    keys = set(OmegaConf.load(CONF / "algo" / f"{name}.yaml"))
    assert keys <= {"defaults", "algo"} | {f.name for f in fields(Settings)}


def test_update_is_pure(algo: AnyAlgorithm) -> None:
    inputs = start(algo), batch(algo, 0), noise(algo, 0)
    before, rng = copied(inputs), torch.get_rng_state()
    first, second = algo.update(*inputs), algo.update(*inputs)
    assert same_bits(inputs, before)
    assert same_bits(first, second)
    assert torch.equal(rng, torch.get_rng_state())


def test_update_is_finite_and_without_a_graph(algo: AnyAlgorithm) -> None:
    s = start(algo)
    for u in range(3):
        s, stats = algo.update(s, batch(algo, u), noise(algo, u))
    for x in tree_leaves((s, stats)):
        assert x.isfinite().all()
        assert not x.requires_grad


def test_an_update_keeps_the_shapes_and_types_of_the_state(algo: AnyAlgorithm) -> None:
    before, (after, _) = start(algo), updated(algo)
    assert tree_map(lambda x: (x.shape, x.dtype), before) == tree_map(
        lambda x: (x.shape, x.dtype), after
    )


def test_no_two_tensors_of_a_fresh_state_share_memory(algo: AnyAlgorithm) -> None:
    leaves = tree_leaves(start(algo))
    assert len({x.untyped_storage().data_ptr() for x in leaves}) == len(leaves)


def test_init_follows_its_generator(algo: AnyAlgorithm) -> None:
    s = start(algo)
    assert same_bits(s, start(algo))
    other = algo.init(generator(1, "init"))
    for name in algo.policy_fields:
        assert not same_bits(getattr(s, name), getattr(other, name)), name


def test_update_moves_every_part(algo: AnyAlgorithm) -> None:
    """Members of an ensemble each; targets may wait for their period."""
    before, (after, _) = start(algo), updated(algo)
    for name, x, y in named_leaves(before, after):
        if x.dim() < 2:
            x, y = x[None], y[None]
        assert "target" in name or all((a != b).any() for a, b in zip(x, y, strict=True)), name


def test_batch_and_noise_both_matter(algo: AnyAlgorithm) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    after = algo.update(s, b, z)
    assert not same_bits(after, algo.update(s, batch(algo, 1), z))
    for i, leaf in enumerate(tree_leaves(z)):
        assert not same_bits(after, algo.update(s, b, with_leaf(z, i, leaf + 1))), i


def test_states_and_stats_are_named_tuples_that_pickle(algo: AnyAlgorithm) -> None:
    s, stats = updated(algo)
    for tree in (s, stats, noise(algo, 0)):
        assert_named_tuples(tree)
        assert same_bits(pickle.loads(pickle.dumps(tree)), tree)  # noqa: S301
    with pytest.raises(AttributeError):
        setattr(stats, stats._fields[0], torch.zeros(()))


def test_stats_are_scalars_whose_equality_sees_every_field(algo: AnyAlgorithm) -> None:
    _, stats = updated(algo)
    leaves = tree_leaves(stats)
    assert all(x.shape == () and x.dtype == torch.float32 for x in leaves)
    assert stats == copied(stats)
    for i, leaf in enumerate(leaves):
        assert stats != with_leaf(stats, i, leaf + 1), i
    assert len(scalars(stats)) == len(leaves)
    assert list(scalars(stats)) == list(scalars(tree_map(torch.zeros_like, stats)))


def test_noise_follows_its_law_and_no_number_is_drawn_twice(algo: AnyAlgorithm) -> None:
    """Standard normal, but for CQL's actions that are uniform in the box."""
    noise = algo.noise(50, generator(0))
    for name, x, _ in named_leaves(noise, noise):
        mean, std = (0.5, 12**-0.5) if name.endswith("random") else (0.0, 1.0)
        assert float(x.mean()) == pytest.approx(mean, abs=0.05 * std), name
        assert float(x.std()) == pytest.approx(std, rel=0.05), name
    drawn = torch.cat([torch.empty(0), *(x.flatten() for x in tree_leaves(noise))])
    assert len(drawn.unique()) >= 0.95 * len(drawn)  # chance alone repeats some


def test_noise_is_a_function_of_its_address(algo: AnyAlgorithm) -> None:
    drawn = algo.noise(4, generator(7, "noise", 1))
    assert same_bits(drawn, algo.noise(4, generator(7, "noise", 1)))
    others = [algo.noise(4, generator(*a)) for a in ((8, "noise", 1), (7, "noise", 2))]
    leaves = tree_leaves(drawn)
    for i, x in enumerate(leaves):
        assert x.shape[0] == 4
        assert len({tuple(row.flatten().tolist()) for row in x}) == 4
        assert not any(torch.equal(x, y) for j, y in enumerate(leaves) if j != i)
        assert not any(torch.equal(x, tree_leaves(other)[i]) for other in others)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, -1e8])
def test_actions_lie_in_the_box(algo: AnyAlgorithm, scale: float) -> None:
    s = tree_map(lambda x: scale * x, start(algo))
    b = batch(algo, 0)
    obs = b.obs[:16]
    for policy, z in policies(algo):
        for normal in (0 * z, z, 1e4 * z):
            action = policy(s, obs, normal)
            assert action.shape == b.action[:16].shape
            assert action.dtype == b.action.dtype
            if algo.continuous:
                assert action.abs().max() <= algo.spec.max_action
            else:
                assert ((action >= 0) & (action < algo.spec.action_dim)).all()
        assert torch.equal(policy(s, obs, 0 * z), policy(s, obs, 0 * z))


def test_acting_reads_the_policy_fields_alone(algo: AnyAlgorithm) -> None:
    s, obs = start(algo), batch(algo, 0).obs[:16]
    rest = [name for name in s._fields if name not in algo.policy_fields]
    bare = s._replace(**dict.fromkeys(rest))
    z = torch.randn(16, algo.act_noise_dim, generator=generator(0))
    assert torch.equal(algo.act(bare, obs, z), algo.act(s, obs, z))


def test_each_row_of_actions_follows_its_own_observation(algo: AnyAlgorithm) -> None:
    s, obs = start(algo), batch(algo, 0).obs[:16]
    order = torch.arange(15, -1, -1)
    for policy, z in policies(algo):
        torch.testing.assert_close(policy(s, obs[order], z[order]), policy(s, obs, z)[order])


def assert_named_tuples(tree: Any) -> None:
    """Every node is a NamedTuple, every leaf a tensor."""
    assert hasattr(tree, "_fields"), type(tree)
    for child in tree:
        if not isinstance(child, Tensor):
            assert_named_tuples(child)


def named_leaves(a: Any, b: Any, prefix: str = "") -> list[tuple[str, Tensor, Tensor]]:
    """(path, leaf of a, leaf of b) of two NamedTuples of one type."""
    leaves: list[tuple[str, Tensor, Tensor]] = []
    for name, x, y in zip(a._fields, a, b, strict=True):
        path = f"{prefix}{name}"
        leaves += [(path, x, y)] if isinstance(x, Tensor) else named_leaves(x, y, f"{path}.")
    return leaves


def with_leaf(tree: Any, index: int, value: Tensor) -> Any:
    """The tree with its leaf number `index` replaced."""
    leaves = tree_leaves(tree)
    new = iter([*leaves[:index], value, *leaves[index + 1 :]])
    return tree_map(lambda _: next(new), tree)
