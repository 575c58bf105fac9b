"""All that a training run must remember: what a checkpoint holds, and what a resumed run starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, optim

from fledge.distributed import mean_over_processes
from fledge.engine.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from fledge.engine.ema import Ema
from fledge.engine.train_step import TrainStep
from fledge.errors import DataError


class Window:
    """Sums of the named numbers since the last logged line."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take the numbers of one step in, without waiting for the device."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().clone()
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The means over steps and processes; the window is empty afterwards."""
        self.share()
        means = {name: float(value) / self.steps for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def share(self) -> None:
        """Make the sums those of all processes, so that the one that saves saves everybody's."""
        if self.sums:
            together = mean_over_processes(torch.stack([value.float() for value in self.sums.values()]))
            self.sums = dict(zip(self.sums, together.unbind(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors for a checkpoint; numbered, since safetensors sorts its names."""
        sums = {f"sum{i:03d}/{name}": value for i, (name, value) in enumerate(self.sums.items())}
        return {"steps": torch.tensor(self.steps), **sums}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from sums that were saved."""
        self.steps = int(state["steps"])
        sums = sorted((name, value) for name, value in state.items() if name != "steps")
        self.sums = {name.split("/", 1)[1]: value.to(device) for name, value in sums}


class TrainState:
    """Modules and counters of a run, saved and restored together.

    Args:
        step: student and distiller, on ``device``.
        optimizer: over the parameters of ``step``.
        ema_decay: of the averaged student, or 0 for none.
        device: where to compute.
    """

    def __init__(self, step: TrainStep, optimizer: optim.Optimizer, ema_decay: float, device: torch.device) -> None:
        self.step, self.optimizer, self.device = step, optimizer, device
        self.ema = Ema(step.student, ema_decay) if ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=step.precision == "fp16")
        self.window = Window()
        self.done = 0
        self.skipped = 0
        self.overflows = 0
        self.best = -math.inf  # the largest figure that the run was judged by

    def resume(self, folder: Path) -> Path | None:
        """Go on from the newest checkpoint in ``folder``, which is returned, if there is one.

        Raises:
            DataError: the checkpoint is damaged, or of a run with other parts.
        """
        newest = newest_checkpoint(folder)
        if newest is None:
            return None
        manifest, groups = load_checkpoint(newest)
        try:
            self.step.student.load_state_dict(groups["model"])
            if self.step.distiller is not None:
                self.step.distiller.load_state_dict(groups["distiller"])
            restore_optimizer(self.optimizer, groups["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(groups.get("ema", groups["model"]))
            self._restore_loop(groups.get("loop", {}))
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]  # torch lists every tensor on a line of its own
            raise DataError(f"cannot go on: {newest}: {reason}: it belongs to another recipe or version") from error
        self.done = int(manifest["step"])
        return newest

    def save(self, folder: Path, meta: Mapping[str, Any]) -> Path:
        """Write a checkpoint of the finished step."""
        groups = {"model": self.step.student.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        if self.step.distiller is not None:
            groups["distiller"] = self.step.distiller.state_dict()
        if self.ema is not None:
            groups["ema"] = self.ema.state_dict()
        counters: dict[str, float] = {"skipped": self.skipped, "overflows": self.overflows}
        if math.isfinite(self.best):
            counters["best"] = self.best
        numbers = {**counters, **{f"scaler/{k}": v for k, v in self.scaler.state_dict().items()}}
        groups["loop"] = {
            **{name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()},
            **{f"window/{name}": value for name, value in self.window.state_dict().items()},
        }
        return save_checkpoint(folder, self.done, groups, meta)

    def _restore_loop(self, saved: Mapping[str, Tensor]) -> None:
        if not saved:  # a checkpoint from before fledge kept these
            return
        self.skipped, self.overflows = int(saved["skipped"]), int(saved["overflows"])
        self.best = float(saved.get("best", -math.inf))
        scale = {k.removeprefix("scaler/"): float(v) for k, v in saved.items() if k.startswith("scaler/")}
        if scale and self.scaler.is_enabled():
            whole = ("growth_interval", "_growth_tracker")
            self.scaler.load_state_dict({k: int(v) if k in whole else v for k, v in scale.items()})
        window = {k.removeprefix("window/"): v for k, v in saved.items() if k.startswith("window/")}
        self.window.load_state_dict(window, self.device)
