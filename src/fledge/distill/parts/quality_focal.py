"""The quality-focal form of logit distillation: binary cross entropy with soft targets, weighted by the error."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fledge.types import at_least_float32


def quality_focal(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    """KD-QFL: |σ(s) - σ(t)|^beta · BCE(σ(s), σ(t)) of each element; 0 where both agree.

    Li et al., "Generalized Focal Loss", NeurIPS 2020, with the teacher's score as the quality, as CrossKD has it.

    Args:
        student, teacher: raw logits of one shape; the teacher's get no gradient.
        beta: focusing exponent.

    Returns:
        Losses of that shape, at least float32.
    """
    student, score = at_least_float32(student), at_least_float32(teacher).detach().sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student, score, reduction="none")
    return (student.sigmoid() - score).abs().pow(beta) * entropy
