"""The operator ``fledge::deformable_sum``: deformable sampling on a CPU as loops, one piece for a compiler.

Elsewhere, and in an exported program, ``fledge.geometry.deformable`` computes the same as tensor operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("fledge::deformable_sum", mutates_args=(), device_types="cpu")
def deformable_sum(values: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:
    """Weighted sums of samples (B, Q, heads, D) of three tensors of one floating dtype.

    Args:
        values: (B, S, heads, D), the cells of all levels.
        locations: (B, Q, heads, L, P, 2).
        weights: (B, Q, heads, L, P).
        sizes: height and width of each level, one after the other.
    """
    from fledge.geometry import sampling_kernels

    result = values.new_empty(*locations.shape[:3], values.shape[3])
    _side_by_side(sampling_kernels.forward, _arrays(values, locations, weights, sizes), result)
    return result


@torch.library.custom_op("fledge::deformable_sum_backward", mutates_args=(), device_types="cpu")
def deformable_sum_backward(
    grad: Tensor, values: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of values, locations and weights from that (B, Q, heads, D) of the result."""
    from fledge.geometry import sampling_kernels

    inputs = grad.contiguous().numpy(), *_arrays(values, locations, weights, sizes)
    found = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (values, locations, weights)]
    _side_by_side(sampling_kernels.backward, inputs, found[0].flatten(0, 2), found[1], found[2])
    return found[0], found[1], found[2]


def _arrays(values: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int]) -> tuple[Any, ...]:
    table = values.contiguous().flatten(0, 2)
    levels = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
    return table.numpy(), locations.contiguous().numpy(), weights.contiguous().numpy(), levels.numpy()


def _side_by_side(kernel: Callable[..., None], inputs: tuple[Any, ...], *outputs: Tensor) -> None:
    """Run a kernel over all units, images times heads, on as many threads as PyTorch uses."""
    weights = inputs[-2]
    units = weights.shape[0] * weights.shape[2] if weights.size else 0
    threads = max(1, min(torch.get_num_threads(), units))
    arrays = (*inputs, *(t.numpy() for t in outputs))
    ends = [units * k // threads for k in range(threads + 1)]
    if threads == 1:
        if units:
            kernel(*arrays, 0, units)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: kernel(*arrays, ends[k], ends[k + 1]), range(threads)))


@deformable_sum.register_fake
def _(values: Tensor, locations: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:  # noqa: ARG001
    return values.new_empty(*locations.shape[:3], values.shape[3])


@deformable_sum_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    values: Tensor,
    locations: Tensor,
    weights: Tensor,
    sizes: Sequence[int],  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    return values.new_empty(values.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, locations, weights, ctx.sizes = inputs
    ctx.save_for_backward(values, locations, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *deformable_sum_backward(grad, *ctx.saved_tensors, ctx.sizes), None


deformable_sum.register_autograd(_backward, setup_context=_keep)
