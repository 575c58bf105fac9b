"""Small inputs that the tests of several methods share, and what they do with a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fledge.types import Batch, Outputs, Targets

SIDE = 128
LEVELS = ("p3", "p4", "p5", "p6", "p7")


def fixed() -> tuple[Tensor, Tensor]:
    """The tensors of the golden values: sin(0.7 k + 0.1) and cos(0.31 k + 0.5), (2, 3, 4, 4)."""
    k = torch.arange(96, dtype=torch.float64)
    return (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)


def pyramid(channels: int, seed: int, images: int = 2, side: int = SIDE, scale: float = 1.0) -> Outputs:
    """Random maps P3 to P7, no logits."""
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        (),
        (),
        {
            f"p{k}": scale * torch.randn(images, channels, max(1, side >> k), max(1, side >> k), generator=generator)
            for k in range(3, 8)
        },
    )


def batch_of(*rows: Sequence[Sequence[float]], ignored: Sequence[Sequence[float]] = ()) -> Batch:
    """Black images with boxes, of the classes 0, 1, 2, 0 …; the first image also has ignored ones."""
    targets = []
    for number, row in enumerate(rows):
        hidden = list(ignored) if number == 0 else []
        boxes = torch.tensor([*row, *hidden], dtype=torch.float32).view(-1, 5)
        ignore = torch.arange(len(boxes)) >= len(row)
        targets.append(Targets(boxes, torch.arange(len(boxes)) % 3, ignore, torch.zeros_like(ignore)))
    images = torch.zeros(len(rows), 3, SIDE, SIDE, dtype=torch.uint8)
    return Batch(images, torch.full((len(rows), 2), SIDE), tuple(targets))


NOTHING = batch_of([], [])
OBJECTS = batch_of([[30.0, 40, 40, 20, 0.4]], [[90.0, 60, 60, 30, -0.5], [20.0, 100, 9, 5, 1.0]])


def changed(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    """The same with each map changed."""
    return Outputs((), (), {name: change(x) for name, x in outputs.features.items()})


def doubled(outputs: Outputs) -> Outputs:
    """Every image twice."""
    return changed(outputs, lambda x: torch.cat([x, x]))


def turned(outputs: Outputs) -> Outputs:
    """The images in the opposite order."""
    return changed(outputs, lambda x: x.flip(0))


def leaves(outputs: Outputs) -> Outputs:
    """The same maps as parameters."""
    return changed(outputs, lambda x: x.clone().requires_grad_())


def total(method: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    """The sum of a method's terms."""
    return torch.stack(list(method(student, teacher, batch).values())).sum()


def descend(method: nn.Module, student: Outputs, teacher: Outputs, batch: Batch, steps: int, lr: float) -> float:
    """Last over first loss when the student's own maps are moved, the method's modules being left alone."""
    moving = leaves(student)
    return _descend(method, moving, teacher, batch, torch.optim.Adam(moving.features.values(), lr), steps)


def shortcut(method: nn.Module, student: Outputs, teacher: Outputs, batch: Batch, steps: int = 200) -> float:
    """Last over first loss when nothing but the method's own modules learns."""
    return _descend(method, student, teacher, batch, torch.optim.Adam(method.parameters(), 1e-2), steps)


def _descend(
    method: nn.Module, student: Outputs, teacher: Outputs, batch: Batch, optimizer: torch.optim.Optimizer, steps: int
) -> float:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = total(method, student, teacher, batch)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[-1] / losses[0]


def check_extremes(method: nn.Module, channels: tuple[int, int] = (4, 4)) -> None:
    """Finite, with a gradient, for empty maps, huge ones in half precision, one cell a level, one image, no object."""
    for batch, scale, dtype, side in (
        (OBJECTS, 0.0, torch.float32, SIDE),
        (OBJECTS, 1e3, torch.float16, SIDE),
        (OBJECTS, 1e3, torch.bfloat16, SIDE),
        (NOTHING, 1.0, torch.float32, SIDE),
        (OBJECTS, 1.0, torch.float32, 8),
        (batch_of([]), 1.0, torch.float32, 8),
    ):
        count = len(batch.targets)
        student, teacher = (pyramid(c, n, count, side, scale) for n, c in enumerate(channels))
        moving = Outputs((), (), {k: v.to(dtype).requires_grad_() for k, v in student.features.items()})
        taught = Outputs((), (), {k: v.to(dtype) for k, v in teacher.features.items()})
        loss = total(method, moving, taught, batch)
        assert loss.dtype == torch.float32
        torch.autograd.backward(loss)
        assert loss.isfinite()
        gradients = [x.grad for x in moving.features.values() if x.grad is not None]
        assert gradients
        assert all(g.isfinite().all() for g in gradients)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        method.zero_grad()
