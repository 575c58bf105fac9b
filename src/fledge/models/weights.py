"""Weights to start from: of a backbone, from timm or a file, or of a whole detector."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from timm.models import adapt_input_conv, get_pretrained_cfg
from torch import Tensor, nn

from fledge.errors import DataError, ResourceError, UsageError

_PREFIXES = ("module.", "_orig_mod.", "backbone.", "body.", "encoder.")
_HEADER = 10 << 20  # bytes; a ResNet's is 40 KB
_STEM = ("conv1.weight", "conv1.0.weight", "conv_stem.weight")
_CHILD_SECONDS = 300


@dataclass(frozen=True)
class Loaded:
    """What came from where.

    Attributes:
        source: the name or path that was asked for.
        sha256: of the file.
        loaded: names of the tensors that were taken.
        unused: names in the file that the model does not have.
        untouched: names of the model that the file does not have.
        note: what was changed on the way, or nothing.
    """

    source: str
    sha256: str
    loaded: tuple[str, ...]
    unused: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        """One line for the user, with names grouped by their first part."""
        text = (
            f"weights: {self.source} ({self.sha256[:12]}): loaded {len(self.loaded)} tensors ({_groups(self.loaded)})"
        )
        text += f"; not used {len(self.unused)} ({_groups(self.unused)})" if self.unused else ""
        text += f"; left at random {len(self.untouched)} ({_groups(self.untouched)})" if self.untouched else ""
        return text + (f"; {self.note}" if self.note else "")


def load_backbone_weights(detector: nn.Module, source: str | Path) -> Loaded:
    """Copy weights into a detector's backbone.

    Args:
        detector: with a ``backbone`` made by timm.
        source: a file (safetensors, or a PyTorch file with tensors only) with the names of timm or torchvision, or a
            timm name such as ``resnet50.tv_in1k``, whose safetensors file is downloaded.

    Raises:
        UsageError: there is no such file or name.
        DataError: the file cannot be read, or does not fit the backbone.
        ResourceError: the download failed.
    """
    path = _find(str(source))
    given = read_weights(path)
    body: nn.Module = detector.backbone.body  # type: ignore[union-attr, assignment]
    own = body.state_dict()
    renamed = _torchvision_mobilenet(given) if "conv_stem.weight" in own and "features.0.0.weight" in given else given
    note = _adapt_stem(renamed, own)
    return _copy(body, renamed, source=str(source), path=path, note=note)


def load_detector_weights(
    detector: nn.Module, start: nn.Module, source: str, sha256: str, reset_head: bool = False
) -> Loaded:
    """Start from a whole trained detector: backbone, neck and head.

    Args:
        detector: the one that will learn; both have ``classes``, and it ``class_layers``.
        start: the trained one.
        source: where it came from.
        sha256: of its file.
        reset_head: where the classes differ, keep the fresh class layer instead of refusing.

    Raises:
        DataError: the classes or the architectures differ.
    """
    own, given = detector.state_dict(), dict(start.state_dict())
    theirs, ours = (tuple(map(str, d.classes)) for d in (start, detector))  # type: ignore[arg-type]
    if theirs != ours and not reset_head:
        raise DataError(
            f"classes differ: {source}: its {len(theirs)} classes are {', '.join(theirs)}; the data have {len(ours)}, "
            f"{', '.join(ours)}: set reset_head = true to start with a fresh class layer"
        )
    layers: tuple[str, ...] = detector.class_layers  # type: ignore[assignment]
    dropped = {k for k in given if theirs != ours and k.startswith(layers)}
    given = {k: v for k, v in given.items() if k not in dropped}
    missing = sorted((set(own) ^ set(given)) - dropped)
    if missing:
        raise DataError(
            f"another architecture: {source}: only one has {_some(missing)}: use the same detector settings"
        )
    _refuse_shapes(given, own, source)
    detector.load_state_dict({**own, **given})
    return Loaded(source, sha256, _weights(given), (), tuple(sorted(dropped)))


def inherit_head(detector: nn.Module, start: nn.Module, source: str) -> Loaded:
    """Start neck and head from those of another detector, layer by layer where all names and shapes are the same.

    Args:
        detector: the one that will learn.
        start: a trained one; both with the same classes in the same order.
        source: where it came from.

    Raises:
        DataError: the classes differ, or no layer fits.
    """
    if tuple(detector.classes) != tuple(start.classes):  # type: ignore[arg-type]
        raise DataError(f"classes differ: {source}: its head is for others: inherit from a run on the same classes")
    own, given = detector.state_dict(), dict(start.state_dict())
    parts = {k: v for k, v in given.items() if k.startswith(("neck.", "head.", "region_head."))}
    misfits = {k.rpartition(".")[0] for k, v in parts.items() if k not in own or own[k].shape != v.shape}
    fits = {k: v for k, v in parts.items() if k.rpartition(".")[0] not in misfits}
    if not fits:
        raise DataError(f"nothing to inherit: {source}: no layer of its neck and head has the shape of the student's")
    detector.load_state_dict({**own, **fits})
    return Loaded(source, "", _weights(fits), (), tuple(sorted(set(parts) - set(fits))))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or, in a process of its own, of a PyTorch file; wrappers' prefixes removed.

    Raises:
        DataError: it is neither, is damaged, holds more than tensors, or numbers that are not finite.
    """
    kind = _kind(path)
    with tempfile.TemporaryDirectory() as folder:
        tensors = _load(path if kind == "safetensors" else _converted(path, Path(folder) / "tensors"), path)
    named: dict[str, Tensor] = {}
    for name, value in tensors.items():
        short = name
        while short.startswith(_PREFIXES):
            short = short.removeprefix(next(p for p in _PREFIXES if short.startswith(p)))
        if short in named:
            raise DataError(f"ambiguous weights: {path}: {name} and another tensor are both {short}: keep one model")
        named[short] = value
    bad = sorted(k for k, v in named.items() if v.is_floating_point() and not v.isfinite().all())
    if bad:
        raise DataError(f"weights are not finite: {path}: {_some(bad)}: use another file")
    return named


def file_sha256(path: Path) -> str:
    """Hash of a file, read a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(source: str) -> Path:
    """The file of a path or, downloaded if it is not there yet, of a timm name."""
    path = Path(source)
    if path.is_file():
        return path
    try:
        config = get_pretrained_cfg(source)
    except RuntimeError:  # a model that timm knows, with a tag that it does not
        config = None
    if config is None or not config.hf_hub_id:
        raise UsageError(
            f"no such weights: {source}: give a safetensors or .pth file, the folder of a fledge run, or a timm name "
            "such as resnet50.tv_in1k"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(config.hf_hub_id, "model.safetensors"))
    except Exception as error:  # of many classes, from several libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ResourceError(
            f"cannot download weights: {source}: {reason}: fetch model.safetensors of {config.hf_hub_id} from the "
            "Hugging Face hub on a machine that is online, and give the file"
        ) from None


def _kind(path: Path) -> str:
    """Format by the first bytes; the header's length is checked before anything of it is read."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read weights: {path}: {error.strerror}: check the path") from None
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return "torch"
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{":
        raise DataError(f"no weights: {path}: neither safetensors nor a PyTorch file: give one of them")
    if length > min(_HEADER, size - 8):
        raise DataError(f"damaged weights: {path}: its header would have {length} bytes: fetch the file again")
    return "safetensors"


def _converted(path: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "fledge.models.torch_file", str(path.resolve()), str(out)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_CHILD_SECONDS, check=False)
        reason = (child.stderr.strip().splitlines() or [f"its reader ended with {child.returncode}"])[-1]
        code = child.returncode
    except subprocess.TimeoutExpired:
        code, reason = 1, f"not read within {_CHILD_SECONDS} s"
    if code:
        raise DataError(f"cannot read weights: {path}: {reason}: save only the tensors, or convert it to safetensors")
    return out


def _load(file: Path, path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
        return tensors
    except Exception as error:  # safetensors raises its own bare classes
        raise DataError(f"damaged weights: {path}: {error}: fetch the file again") from None


def _copy(model: nn.Module, given: Mapping[str, Tensor], source: str, path: Path, note: str) -> Loaded:
    own = model.state_dict()
    fits = {k: v for k, v in given.items() if k in own}
    if not fits:
        raise DataError(
            f"no weights fit: {source}: it has {_some(sorted(given))}; the backbone {_some(sorted(own))}: name the "
            "backbone these weights belong to"
        )
    _refuse_shapes(fits, own, source)
    stem = next((k for k in _STEM if k in own), "")
    other = next((k for k in _STEM if k in given), "")
    if stem and other and stem not in fits:
        raise DataError(f"another stem: {source}: {other} instead of {stem}: name the backbone these weights belong to")
    model.load_state_dict({**own, **fits})
    unused, untouched = (_weights(a - b) for a, b in ((set(given), set(fits)), (set(own), set(fits))))
    return Loaded(source, file_sha256(path), _weights(fits), unused, untouched, note)


def _refuse_shapes(given: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    wrong = [
        f"{k} {list(v.shape)} instead of {list(own[k].shape)}" for k, v in given.items() if v.shape != own[k].shape
    ]
    if wrong:
        raise DataError(f"shapes differ: {source}: {_some(wrong)}: name the backbone these weights belong to")


def _adapt_stem(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Fit a first convolution of 3 bands to another number of them, as timm does."""
    stem = next((k for k in _STEM if k in own and k in given), "")
    if not stem or given[stem].ndim != 4 or given[stem].shape[1] != 3 or own[stem].shape[1] == 3:
        return ""
    bands = own[stem].shape[1]
    given[stem] = adapt_input_conv(bands, given[stem])
    how = "summed" if bands == 1 else "repeated and scaled"
    return f"{stem}: 3 bands {how} to {bands}"


def _torchvision_mobilenet(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names of a MobileNetV2 as timm's."""
    firsts = (1, 2, 4, 7, 11, 14, 17)  # the feature each stage begins with
    short = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    long = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
    ends = {"0.0": "conv_stem", "0.1": "bn1", "18.0": "conv_head", "18.1": "bn2"}
    renamed = {}
    for name, value in given.items():
        block = re.fullmatch(r"features\.(\d+)\.conv\.(\d(?:\.\d)?)\.(\w+)", name)
        end = re.fullmatch(r"features\.(\d+\.\d)\.(\w+)", name)
        if block:
            stage = sum(int(block[1]) >= f for f in firsts) - 1
            part = (long if stage else short)[block[2]]
            renamed[f"blocks.{stage}.{int(block[1]) - firsts[stage]}.{part}.{block[3]}"] = value
        else:
            renamed[f"{ends[end[1]]}.{end[2]}" if end and end[1] in ends else name] = value
    return renamed


def _weights(names: Iterable[str]) -> tuple[str, ...]:
    """Names in order, without the counters that batch norms keep."""
    return tuple(sorted(k for k in names if not k.endswith("num_batches_tracked")))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _groups(names: tuple[str, ...]) -> str:
    return ", ".join(sorted({n.split(".")[0] for n in names}))
