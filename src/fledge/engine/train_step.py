"""One training step as one module: what runs forward, and what a parallel wrapper or a compiler would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from fledge.errors import UsageError
from fledge.types import Batch, Outputs

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainStep(nn.Module):
    """Forward and losses of a student, alone or with a distiller and its teacher.

    The teacher is kept out of parameters, state dict and gradient buckets; it is always in eval mode and runs without
    gradients. With a lower precision the networks compute in it and every loss in float32.

    Args:
        student: the detector that learns.
        teacher: a trained detector, or None.
        distiller: turns the outputs of both into named terms; given exactly when a teacher is.
        precision: of the networks' forward and backward; weights stay in float32.
        shuffled: a control: the teacher sees another image of the batch than the student.
    """

    _teacher: nn.Module | None

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        distiller: nn.Module | None = None,
        precision: Precision = "fp32",
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        if (teacher is None) != (distiller is None):
            raise ValueError("a teacher and a distiller come together: give both or neither")
        self.student, self.distiller, self.precision, self.shuffled = student, distiller, precision, shuffled
        object.__setattr__(self, "_teacher", teacher.eval().requires_grad_(False) if teacher is not None else None)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch; the total is their sum."""
        outputs = self._outputs(self.student, batch.images, batch.targets)
        with torch.autocast(batch.images.device.type, enabled=False):
            terms: dict[str, Tensor] = self.student.loss(outputs, batch)  # type: ignore[operator]
            return {**terms, **self.lessons(outputs, batch)}

    def lessons(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The distiller's terms for the student's outputs; none without a distiller."""
        if self.distiller is None or self._teacher is None:
            return {}
        shown = self._shown(batch)
        with torch.no_grad():
            # Of a two-stage teacher a distiller reads the first stage alone; the second is not run.
            lesson = self._outputs(getattr(self._teacher, "dense", self._teacher), shown.images)
        terms: dict[str, Tensor] = self.distiller(outputs, lesson, shown)
        return terms

    def _shown(self, batch: Batch) -> Batch:
        """What the teacher sees, and a distiller that looks at images; the targets are the student's."""
        if not self.shuffled:
            return batch
        if len(batch.images) < 2:
            raise UsageError(
                'a batch of one image: teacher_control = "shuffled": there is no other image for the teacher to see: '
                "raise batch_size, or lower accumulate"
            )
        return replace(batch, images=batch.images.roll(1, dims=0), sizes=batch.sizes.roll(1, dims=0))

    def _outputs(self, detector: Callable[..., Outputs], *inputs: Any) -> Outputs:
        if self.precision == "fp32":
            return detector(*inputs)
        with torch.autocast(inputs[0].device.type, dtype=_DTYPES[self.precision]):
            outputs = detector(*inputs)
        return outputs.float()

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of student and distiller; the teacher stays in eval, whoever touched it."""
        super().train(mode)
        if self._teacher is not None:
            self._teacher.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the hidden teacher along with everything else."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._teacher is not None:
            self._teacher._apply(fn)  # type: ignore[no-untyped-call]
        return self
