"""Matrix products of compiled updates by oneDNN instead of MKL, where MKL is slow.

torch multiplies float32 matrices by MKL, which keeps its AVX-512 kernels for Intel's processors; on
AMD's it reaches half of what oneDNN, which torch contains as well, reaches there.  A pass over the
compiler's graph replaces the products; algorithms know nothing of it (docs/decisions/0003).  The
engine imports this file only to compile, because Inductor takes a second to load.
"""

from typing import Any

import torch
from torch import Tensor
from torch._inductor import lowering
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

aten = torch.ops.aten

library: Any = torch.library
_library = library.Library("offrl", "DEF")
_library.define("product(Tensor a, Tensor b) -> Tensor")


def _product(a: Tensor, b: Tensor) -> Tensor:
    """[n, k] [k, m] -> [n, m]"""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return out


_library.impl("product", _product, "CPU")
library.register_fake(
    "offrl::product", lambda a, b: a.new_empty(a.shape[0], b.shape[1]), lib=_library
)
product = torch.ops.offrl.product.default

inductor: Any = lowering
_kernel = inductor.fallback_handler(
    torch.ops.mkldnn._linear_pointwise.default, add_to_fallback_set=False
)


def _lowered(a: Any, b: Any) -> Any:
    """Compiled code calls the kernel itself: small products would notice a turn through Python."""
    return _kernel(a, inductor.permute(b, [1, 0]), None, "none", [], "")


inductor.register_lowering(product, type_promotion_kind=None)(_lowered)


class ProductsByOneDNN(CustomGraphPass):
    """Replaces products of float32 matrices on the CPU, single or stacked."""

    def __call__(self, graph: Graph) -> None:
        for node in list(graph.nodes):
            match node.target:
                case aten.mm.default | aten.bmm.default:
                    bias, (a, b) = None, node.args
                case aten.addmm.default | aten.baddbmm.default if not node.kwargs:
                    bias, a, b = node.args
                case _:
                    continue
            value = node.meta["val"]
            if value.device.type != "cpu" or value.dtype != torch.float32:
                continue
            with graph.inserting_before(node):
                new = _replacement(graph, a, b)
                if bias is not None:  # the compiler makes it one with what follows
                    new = graph.call_function(aten.add.Tensor, (new, bias))
            new.meta["val"] = value  # the next product may look at it
            node.replace_all_uses_with(new)
            graph.erase_node(node)

    def uuid(self) -> Any:
        """Compiled code is found again as long as this file is the same."""
        return get_hash_for_files((__file__,))


def _replacement(graph: Graph, a: Node, b: Node) -> Node:
    """Nodes that compute a b, [n, k] [k, m] or [e, n, k] [e, k, m]."""
    left, right = a.meta["val"], b.meta["val"]

    def call(target: Any, *args: Any) -> Node:
        return graph.call_function(target, args)

    # Products that are none, of width 1: the compiler makes better code of them.
    if left.shape[-1] == 1:
        return call(aten.mul.Tensor, a, b)
    if left.dim() == 2:
        return call(product, a, b)
    if right.shape[-1] == 1:
        row = call(aten.permute.default, b, [0, 2, 1])
        return call(aten.sum.dim_IntList, call(aten.mul.Tensor, a, row), [2], True)
    members = [
        call(product, call(aten.select.int, a, 0, e), call(aten.select.int, b, 0, e))
        for e in range(left.shape[0])
    ]
    return call(aten.cat.default, [call(aten.unsqueeze.default, m, 0) for m in members])
