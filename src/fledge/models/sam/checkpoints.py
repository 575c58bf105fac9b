"""The official checkpoint files of SAM and MobileSAM: where they are found, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fledge.errors import DataError, UsageError
from fledge.models.sam.sam import Sam
from fledge.models.sam.tiny_vit import UNUSED, TinyViT
from fledge.models.sam.vit import Shape, ViT
from fledge.models.weights import Loaded, file_sha256, read_weights

_ENCODER = "image_encoder."
# Constants of the official model that some files hold besides: those of frame.py.
_CONSTANTS = {"pixel_mean", "pixel_std"}
_SAM_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """One published file.

    Attributes:
        file: its name.
        page: where it is found.
        size: in bytes.
        sha256: as several public repositories state it alike; fledge's authors had no copy of the file.
        shape: of the ViT, or None for MobileSAM's TinyViT.
    """

    file: str
    page: str
    size: int
    sha256: str
    shape: Shape | None = None

    def where(self) -> str:
        """For messages: what to fetch, and how to know it."""
        return f"fetch {self.file} ({self.size} bytes, SHA-256 {self.sha256}) from {self.page} and give its path"


CHECKPOINTS = {
    "mobilesam": Checkpoint(
        "mobile_sam.pt",
        "https://github.com/ChaoningZhang/MobileSAM (folder weights)",
        40728226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    "sam_vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        _SAM_PAGE,
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        Shape(768, 12, 12, (2, 5, 8, 11)),
    ),
    "sam_vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        _SAM_PAGE,
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        Shape(1024, 24, 16, (5, 11, 17, 23)),
    ),
    "sam_vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        _SAM_PAGE,
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        Shape(1280, 32, 16, (7, 15, 23, 31)),
    ),
}


def load_sam(name: str, path: str | Path) -> tuple[Sam, Loaded]:
    """A model with the weights of a file; nothing is ever downloaded.

    Args:
        name: a key of ``CHECKPOINTS``.
        path: the official file, or a safetensors file with the same names.

    Raises:
        UsageError: an unknown name, no such file, or transformers is missing.
        DataError: the file cannot be read, or is not of that model. Messages say where the right one is found.
    """
    if name not in CHECKPOINTS:
        raise UsageError(f"unknown SAM {name!r}: use one of {', '.join(CHECKPOINTS)}")
    known, path = CHECKPOINTS[name], Path(path)
    if not path.is_file():
        raise UsageError(f"no weights of {name}: {path}: {known.where()}")
    sam = Sam(ViT(known.shape) if known.shape else TinyViT())
    try:
        given = read_weights(path)
    except DataError as error:
        raise DataError(f"{error}; or {known.where()}") from None
    names = official_names(sam)
    unused = _check(sam, names, given, f"not the weights of {name}: {path}", known)
    sam.load_state_dict(
        {k: given[names[k]].to(v.dtype) for k, v in sam.state_dict().items()}, assign=known.shape is not None
    )
    sha256 = file_sha256(path)
    published = "the published file" if sha256 == known.sha256 else f"not the published {known.file}"
    return sam.requires_grad_(False).eval(), Loaded(
        str(path), sha256, tuple(sorted(names.values())), unused, (), published
    )


def official_names(sam: nn.Module) -> dict[str, str]:
    """Every tensor of a model by its own name, with its name in the official file."""
    rename: Callable[[str], str] = sam.image_encoder.official  # type: ignore[union-attr, assignment]
    return {
        name: _ENCODER + rename(name.removeprefix(_ENCODER)) if name.startswith(_ENCODER) else name
        for name in sam.state_dict()
    }


def _check(
    sam: Sam, names: Mapping[str, str], given: Mapping[str, Tensor], what: str, known: Checkpoint
) -> tuple[str, ...]:
    """Refuse a file that differs in one name or shape; returns the tensors that are rightly left over."""
    official = set(names.values())
    may_be_over = _CONSTANTS | ({_ENCODER + name for name in UNUSED} if known.shape is None else set())
    lacks, over = sorted(official - set(given)), sorted(set(given) - official - may_be_over)
    shapes = {names[k]: v.shape for k, v in sam.state_dict().items()}
    wrong = [
        f"{k} {list(given[k].shape)} instead of {list(s)}"
        for k, s in shapes.items()
        if k not in lacks and given[k].shape != s
    ]
    faults = [
        f"{word} {_some(found)}" for word, found in (("lacks", lacks), ("has also", over), ("has", wrong)) if found
    ]
    if faults:
        raise DataError(f"{what}: it {'; it '.join(faults)}: {known.where()}")
    return tuple(sorted(set(given) & may_be_over))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
