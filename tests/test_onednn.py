"""The compiler's graph with oneDNN's products computes what it computed before."""

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from offrl.engine import reproducible
from offrl.onednn import ProductsByOneDNN, product

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


def rewritten(f: Callable[..., Tensor], *xs: Tensor) -> GraphModule:
    """The graph of f, with the pass applied to it."""
    graph_module = make_fx(f, tracing_mode="fake")(*xs)
    assert any(n.target in PRODUCTS for n in graph_module.graph.nodes)
    ProductsByOneDNN()(graph_module.graph)
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


CASES = {
    "mm": (torch.mm, (5, 7), (7, 3)),
    "mm, left transposed": (lambda a, b: a.T @ b, (7, 5), (7, 3)),
    "mm, right transposed": (lambda a, b: a @ b.T, (5, 7), (3, 7)),
    "mm, width 1": (torch.mm, (5, 7), (7, 1)),
    "mm, outer": (torch.mm, (5, 1), (1, 3)),
    "addmm": (lambda a, b: torch.addmm(a[:1, :3], a, b), (5, 7), (7, 3)),
    "mm of an addmm": (lambda a, b: torch.addmm(a[:1, :3], a, b) @ b.T, (5, 7), (7, 3)),
    "bmm": (torch.bmm, (2, 5, 7), (2, 7, 3)),
    "bmm of a bmm": (lambda a, b: a.bmm(b).bmm(b.mT), (2, 5, 7), (2, 7, 3)),
    "bmm, left transposed": (lambda a, b: a.mT.bmm(b), (2, 7, 5), (2, 7, 3)),
    "bmm, width 1": (torch.bmm, (2, 5, 7), (2, 7, 1)),
    "bmm, outer": (torch.bmm, (2, 5, 1), (2, 1, 3)),
    "bmm, expanded": (lambda a, b: a[:1].expand(3, 5, 7).bmm(b), (1, 5, 7), (3, 7, 4)),
    "baddbmm": (lambda a, b: torch.baddbmm(a[:, :1, :3], a, b), (2, 5, 7), (2, 7, 3)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_product_is_the_same(
    case: tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...]],
) -> None:
    f, *shapes = case
    xs = [random(*shape) for shape in shapes]
    new = rewritten(f, *xs)
    assert not any(n.target in PRODUCTS for n in new.graph.nodes)
    torch.testing.assert_close(new(*xs), f(*xs), rtol=1e-5, atol=1e-5)


def test_stacks_are_multiplied_one_by_one() -> None:
    new = rewritten(torch.bmm, random(3, 5, 7), random(3, 7, 4))
    assert [n.target for n in new.graph.nodes].count(product) == 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_compiled_code_calls_the_kernel_without_a_turn_through_python() -> None:
    def f(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.relu(a @ b.T).mT @ torch.bmm(c, c.mT).sum(0)

    xs = random(5, 7), random(3, 7), random(2, 5, 4)
    options = {"post_grad_custom_post_pass": ProductsByOneDNN()}
    compiled = torch.compile(f, fullgraph=True, options=options)
    out, (code,) = run_and_get_code(compiled, *xs)
    torch.testing.assert_close(out, f(*xs), rtol=1e-5, atol=1e-5)
    assert code.count("mkldnn._linear_pointwise.default(") == 4
    assert "offrl.product.default(" not in code


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_only_float32_is_touched(dtype: torch.dtype) -> None:
    xs = random(5, 7).to(dtype), random(7, 3).to(dtype)
    new = rewritten(torch.mm, *xs)
    assert [n.target for n in new.graph.nodes].count(product) == 0
    torch.testing.assert_close(new(*xs), torch.mm(*xs))


def test_a_scaled_sum_is_left_alone() -> None:
    """beta and alpha are not what a linear layer has."""

    def scaled(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.addmm(bias, a, b, beta=0.5, alpha=2.0)

    xs = random(3), random(5, 7), random(7, 3)
    new = rewritten(scaled, *xs)
    assert [n.target for n in new.graph.nodes].count(product) == 0
    torch.testing.assert_close(new(*xs), scaled(*xs))


def test_a_gpu_s_convolutions_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    reproducible(torch.get_num_threads())
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
