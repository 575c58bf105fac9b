"""Runs a saved step again on a CPU and says which operation made a number that is not finite (``fledge replay``)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fledge
from fledge.build import build_detector, build_train_step
from fledge.engine.black_box import BlackBox, read_black_box
from fledge.engine.train_step import TrainStep
from fledge.errors import DataError
from fledge.recipe import make_recipe
from fledge.runs import load_teacher
from fledge.types import Batch

_PACKAGE = str(Path(fledge.__file__).parent)
# These hand out memory as it is.
_UNWRITTEN = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


@dataclass(frozen=True)
class Origin:
    """The first operation that made a number that is not finite from finite ones.

    Attributes:
        operation: its name, as PyTorch calls it.
        stage: ``forward`` or ``backward``.
        module: the path of the network's part it ran in; empty in losses.
        line: the line of fledge it ran for, ``file:line in function``; empty if it was not reached from one.
        shapes: of its tensor inputs.
    """

    operation: str
    stage: str
    module: str
    line: str
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.module, self.line) if part)
        return f"{self.operation} ({self.stage}{', ' + place if place else ''}) of shapes {list(self.shapes)}"


@dataclass(frozen=True)
class Rerun:
    """A step computed once more.

    Attributes:
        precision: ``fp32``, ``bf16`` or ``fp16`` as in training, or ``float64``.
        terms: the loss terms.
        gradients: parameters whose gradient is not finite.
        origin: what made the first bad number; None if there is none.
    """

    precision: str
    terms: dict[str, float]
    gradients: tuple[str, ...]
    origin: Origin | None


@dataclass(frozen=True)
class Replay:
    """What a saved step says.

    Attributes:
        box: the saved step.
        damaged: inputs that were not finite before anything was computed: weights or boxes, by name.
        reruns: the step in the precision of its training, then in float64.
    """

    box: BlackBox
    damaged: tuple[str, ...]
    reruns: tuple[Rerun, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.damaged:
            return f"not finite before the step: {', '.join(self.damaged[:5])}"
        own, exact = self.reruns
        if own.origin is None:
            return f"all finite on a CPU in {own.precision}: it depended on the device or on other processes"
        if exact.origin is None:
            return f"{own.origin} overflowed in {own.precision}: in float64 the step is finite"
        return f"{exact.origin} is not finite even in float64: its inputs are at fault"


def replay(path: str | Path, teacher: str | Path | None = None) -> Replay:
    """Run a saved step again, in its own precision and in float64, on the CPU.

    Args:
        path: a ``nonfinite-….safetensors`` of a run folder.
        teacher: the teacher's run, if it is no longer where the recipe says.

    Raises:
        DataError: the file is no saved step, or the teacher cannot be loaded.
    """
    box = read_black_box(Path(path))
    damaged = [f"weight {name}" for name, value in box.student.items() if not value.isfinite().all()]
    damaged += [f"boxes of {t.image_id}" for t in box.batch.targets if not t.boxes.isfinite().all()]
    precision = str(box.meta.get("precision", "fp32"))
    reruns = tuple(_rerun(_rebuild(path, box, teacher), box.batch, name) for name in (precision, "float64"))
    return Replay(box, tuple(damaged), reruns)


def _rebuild(path: str | Path, box: BlackBox, teacher: str | Path | None) -> TrainStep:
    try:
        settings = {**box.meta["recipe"], "device": "cpu"}
        if teacher is not None:
            settings["teacher"] = str(teacher)
        recipe, classes = make_recipe(settings, str(path)), tuple(box.meta["classes"])
        student = build_detector(recipe, classes)
        step = build_train_step(recipe, student, load_teacher(recipe, classes))
        student.load_state_dict(box.student)
        if step.distiller is not None:
            step.distiller.load_state_dict(box.distiller)
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"not a saved step: {path}: {error}: it was written by another version") from error
    return step.train()


def _rerun(step: TrainStep, batch: Batch, precision: str) -> Rerun:
    if precision == "float64":
        step = step.double()
        step.precision = "fp32"  # no autocast: the modules' own type decides
        batch = replace(batch, images=batch.images.double())
    watch = _Watch(step)
    terms: dict[str, Tensor] = {}
    with watch.modules(), torch.autograd.set_detect_anomaly(True, check_nan=False), watch:
        try:
            terms = step(batch)
            if all(bool(value.isfinite()) for value in terms.values()):
                watch.stage = "backward"
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        except DataError:
            pass  # the detector refuses such targets; they are named as damaged
    bad = [n for n, p in step.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return Rerun(precision, {name: float(value.detach()) for name, value in terms.items()}, tuple(bad), watch.origin)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at the inputs and outputs of every operation until one makes a bad number."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step, self.stage = step, "forward"
        self.origin: Origin | None = None
        self._path: list[str] = []

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Know which module computes."""
        handles = []
        for name, module in self.step.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: self._path.append(name)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self, *_: Any) -> None:
        self._path.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        inputs = (
            None if self.origin else [x.detach().clone() if _in_place(func) else x for x in _floats((args, kwargs))]
        )
        outputs = func(*args, **(kwargs or {}))
        if inputs and func.overloadpacket.__name__ not in _UNWRITTEN:
            numbers = _scalars((args, kwargs))
            sound = all(bool(x.isfinite().all()) for x in inputs) and all(abs(x) < float("inf") for x in numbers)
            if sound and not all(bool(x.isfinite().all()) for x in _floats(outputs)):
                shapes = tuple(tuple(x.shape) for x in inputs)
                module = self._path[-1] if self._path and self.stage == "forward" else ""
                self.origin = Origin(str(func), self.stage, module, self._line(), shapes)
        return outputs

    def _line(self) -> str:
        """The innermost line of fledge that led here; in a backward pass the one that ran forward."""
        if self.stage == "backward":
            node: Any = torch._C._current_autograd_node()
            texts = node.metadata.get("traceback_", []) if node is not None else []
            own = [text for text in texts if _PACKAGE in text and str(Path(__file__)) not in text]
            return " ".join(own[-1].split("\n")[0].replace(_PACKAGE, "fledge").split()) if own else ""
        frames = [f for f in traceback.extract_stack() if f.filename.startswith(_PACKAGE) and f.filename != __file__]
        return (
            f"{Path(frames[-1].filename).relative_to(_PACKAGE)}:{frames[-1].lineno} in {frames[-1].name}"
            if frames
            else ""
        )


def _in_place(func: Any) -> bool:
    return bool(func._schema.is_mutable)


def _floats(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in _floats(item)] if isinstance(value, list | tuple) else []


def _scalars(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in _scalars(item)] if isinstance(value, list | tuple) else []
