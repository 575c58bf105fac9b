from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.engine.loop import Interrupted, Run, train
from fledge.engine.metric_log import read_metrics
from fledge.engine.optim import make_optimizer
from fledge.engine.train_step import TrainStep
from fledge.errors import DataError, NumericError, UsageError

CPU = torch.device("cpu")


def go(student: Any, run: Run, feed: Any, optimizer: str = "sgd") -> Path:
    step = TrainStep(student)
    return train(step, make_optimizer(step, optimizer, 0.05, 0.01, 0.9), feed, run, CPU)


def state(checkpoint: Path) -> dict[str, bytes]:
    _, groups = load_checkpoint(checkpoint)
    return {f"{g}/{k}": raw(v) for g, tensors in groups.items() for k, v in tensors.items()}


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("crash_at", [0, 1, 5, 6, 7, 12, 18, 22])
def test_a_crashed_run_goes_on_bit_for_bit(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, crash: type[Exception], crash_at: int, optimizer: str
) -> None:
    whole = go(student(), make_run(tmp_path / "whole"), feed(), optimizer)
    with pytest.raises(crash):
        go(student(), make_run(tmp_path / "broken"), feed(crash_at), optimizer)
    before = newest_checkpoint(tmp_path / "broken" / "checkpoints")
    assert (before.name if before else None) == (f"step-{crash_at // 6 * 6:08d}" if crash_at >= 6 else None)
    mended = go(student(), make_run(tmp_path / "broken"), feed(), optimizer)
    assert mended.name == whole.name == "step-00000023"
    assert state(mended) == state(whole)


def test_metrics_of_a_resumed_run_equal_those_of_one_piece(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, crash: type[Exception]
) -> None:
    """Where windows end at checkpoints, every row is the same, the one at the checkpoint too."""
    go(student(), make_run(tmp_path / "whole", log_every=3), feed())
    with pytest.raises(crash):
        go(student(), make_run(tmp_path / "broken", log_every=3), feed(16))
    go(student(), make_run(tmp_path / "broken", log_every=3), feed())
    whole, mended = (read_metrics(tmp_path / name / "metrics.csv") for name in ("whole", "broken"))
    assert mended == whole
    assert sorted({step for step, _, _ in whole}) == [3, 6, 9, 12, 15, 18, 21, 23]


def test_a_window_cut_by_a_crash_is_logged_as_if_nothing_had_happened(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, crash: type[Exception]
) -> None:
    go(student(), make_run(tmp_path / "whole"), feed())
    with pytest.raises(crash):
        go(student(), make_run(tmp_path / "broken"), feed(20))  # checkpoint at 18, windows end at 16 and 20
    go(student(), make_run(tmp_path / "broken"), feed())
    whole, mended = (tmp_path / name / "metrics.csv" for name in ("whole", "broken"))
    assert mended.read_bytes() == whole.read_bytes()


def test_logged_numbers_are_means_of_the_window(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    go(student(), make_run(tmp_path / "each", log_every=1), feed())
    go(student(), make_run(tmp_path / "four", log_every=4), feed())
    each = {(s, n): v for s, n, v in read_metrics(tmp_path / "each" / "metrics.csv")}
    for step, name, value in read_metrics(tmp_path / "four" / "metrics.csv"):
        steps = range(21, 24) if step == 23 else range(step - 3, step + 1)
        if name == "lr":
            assert value == each[step, "lr"]
        else:
            assert value == pytest.approx(sum(each[s, name] for s in steps) / len(steps), rel=1e-5)
    assert all(each[s, "loss"] == pytest.approx(each[s, "cls"] + each[s, "box"], rel=1e-5) for s in range(1, 24))


def test_the_learning_rate_follows_the_schedule(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    run = make_run(tmp_path, log_every=1)
    go(student(), run, feed())
    rates = {s: v for s, n, v in read_metrics(tmp_path / "metrics.csv") if n == "lr"}
    assert rates == pytest.approx({s: run.schedule(s - 1) for s in range(1, 24)}, rel=1e-6)


def test_a_finished_run_is_returned_untouched(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    done = go(student(), make_run(tmp_path), feed())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert go(student(), make_run(tmp_path), feed(0)) == done
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_checkpoints_hold_the_meta_and_the_step(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    go(student(), make_run(tmp_path), feed())
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000018", "step-00000023"]
    manifest, groups = load_checkpoint(tmp_path / "checkpoints" / names[1])
    assert (manifest["step"], manifest["meta"]) == (23, {"classes": ["a"], "number": 1.5})
    assert set(groups) == {"model", "optimizer", "loop"}


@pytest.mark.parametrize(("kind", "name"), [("loss", "box"), ("gradient", "gradient norm")])
def test_a_number_that_is_not_finite_stops_before_the_step(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, kind: str, name: str
) -> None:
    go_on = student()
    go_on.poison = (8, kind)
    with pytest.raises(NumericError) as caught:
        go(go_on, make_run(tmp_path / "bad", save_every=8), feed())
    message = str(caught.value)
    assert name in message.split("(")[0]
    assert "step 8" in message
    assert "image16, image17" in message
    assert "\n" not in message
    assert caught.value.exit_code == 4
    good = newest_checkpoint(tmp_path / "bad" / "checkpoints")
    assert good is not None
    assert good.name == "step-00000008"
    saved = load_checkpoint(good)[1]["model"]
    moved = {k for k, v in go_on.named_parameters() if not torch.equal(v, saved[k])}
    assert moved == set()
    assert all(torch.isfinite(v).all() for v in go_on.parameters())


def test_the_gradient_is_clipped(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    from dataclasses import replace

    first = student()
    before = {k: v.clone() for k, v in first.named_parameters()}
    run = replace(make_run(tmp_path, total=1), clip_norm=1e-3)
    step = TrainStep(first)
    train(step, torch.optim.SGD(step.parameters(), lr=1.0), feed(), run, CPU)
    moved = torch.cat([(v.detach() - before[k].detach()).flatten() for k, v in first.named_parameters()]).norm()
    assert float(moved) == pytest.approx(1e-3 * run.schedule(0), rel=1e-2)


def test_each_group_follows_the_schedule_times_its_factor(
    tmp_path: Path, student: Any, feed: Any, make_run: Any
) -> None:
    run, step = make_run(tmp_path, total=5), TrainStep(student())
    first, *rest = step.parameters()
    groups: list[dict[str, Any]] = [{"params": [first], "lr_factor": 0.1}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    train(step, optimizer, feed(), run, CPU)
    assert [g["lr"] for g in optimizer.param_groups] == [run.schedule(4) * 0.1, run.schedule(4)]


def test_a_damaged_checkpoint_is_refused_not_trained_on(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, crash: type[Exception]
) -> None:
    with pytest.raises(crash):
        go(student(), make_run(tmp_path), feed(14))
    path = tmp_path / "checkpoints" / "step-00000012" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)
    with pytest.raises(DataError, match="older one"):
        go(student(), make_run(tmp_path), feed())
    shutil.rmtree(path.parent)
    assert go(student(), make_run(tmp_path), feed()).name == "step-00000023"


def test_a_run_without_steps_is_refused(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    with pytest.raises(UsageError, match="nothing to train"):
        go(student(), make_run(tmp_path, total=0), feed())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_next_run_goes_on(
    tmp_path: Path, student: Any, feed: Any, make_run: Any, number: signal.Signals
) -> None:
    def interrupted(start: int, total: int) -> Any:
        for step, batch in enumerate(feed()(start, total), start=start):
            if step == 9:
                os.kill(os.getpid(), number)
            yield batch

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="step 10 of 23") as caught:
        go(student(), make_run(tmp_path / "broken"), interrupted)
    assert caught.value.exit_code == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    newest = newest_checkpoint(tmp_path / "broken" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000010"
    mended = go(student(), make_run(tmp_path / "broken"), feed())
    assert state(mended) == state(go(student(), make_run(tmp_path / "whole"), feed()))


def test_a_signal_during_the_last_step_is_no_interruption(
    tmp_path: Path, student: Any, feed: Any, make_run: Any
) -> None:
    def late(start: int, total: int) -> Any:
        for step, batch in enumerate(feed()(start, total), start=start):
            if step == total - 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    assert go(student(), make_run(tmp_path), late).name == "step-00000023"


def test_a_second_signal_quits_at_once(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    def twice(start: int, total: int) -> Any:
        for batch in feed()(start, total):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with pytest.raises(KeyboardInterrupt):
        go(student(), make_run(tmp_path), twice)


def test_training_works_outside_the_main_thread(tmp_path: Path, student: Any, feed: Any, make_run: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(go, student(), make_run(tmp_path), feed()).result().name == "step-00000023"


CHILD = """
    import sys, time
    from pathlib import Path
    import torch
    from fledge.engine.loop import Interrupted, Run, train
    from fledge.engine.optim import Schedule, make_optimizer
    from fledge.engine.train_step import TrainStep
    from fledge.types import Batch, Targets

    class Student(torch.nn.Module):
        classes = ("a",)
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2, 2))
        def forward(self, images, targets=None):
            return images.float().mean() * self.w
        def loss(self, outputs, batch):
            return {"cls": outputs.square().mean()}

    def batches(start, total):
        for step in range(start, total):
            if step == 3:
                print("ready", flush=True)
            time.sleep(0.01)
            yield Batch(torch.ones(1, 3, 8, 8, dtype=torch.uint8), torch.full((1, 2), 8), (Targets.empty("x"),))

    torch.set_num_threads(1)
    step = TrainStep(Student())
    run = Run(Path(sys.argv[1]), "child", Schedule(0.01, 100000), 1.0, 100000, 100, {})
    try:
        train(step, make_optimizer(step, "sgd", 0.01, 0.0, 0.9), batches, run, torch.device("cpu"))
    except Interrupted as stop:
        print(stop, flush=True)
        raise SystemExit(stop.exit_code)
"""


def test_ctrl_c_in_a_child_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        rest, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert rest.startswith("stopped after step")
    assert newest_checkpoint(tmp_path / "checkpoints") is not None
