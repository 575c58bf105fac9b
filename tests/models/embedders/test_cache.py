from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fledge import files
from fledge.errors import NumericError
from fledge.models.embedders.cache import EmbeddingCache, content_key
from fledge.models.embedders.embedder import Embedder, Network

MB = 10**6


class Counting(Network):
    """Counts what it is asked for; its map is the image's mean and maximum over cells of 4 pixels."""

    channels = 2
    identity = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        self.seen += list(images)
        cells = [i.float().mean(dim=0).unfold(0, 4, 4).unfold(1, 4, 4) / 7 for i in images]
        return [torch.stack([c.mean(dim=(2, 3)), c.amax(dim=(2, 3))]) for c in cells]

    def cell(self, height: int, width: int) -> tuple[float, float]:
        return 4.0, 4.0

    def describe(self) -> str:
        return "counting: no weights"


def images(*seeds: int) -> Tensor:
    return torch.stack(
        [
            torch.randint(0, 256, (3, 16, 24), generator=torch.Generator().manual_seed(s), dtype=torch.uint8)
            for s in seeds
        ]
    )


def sizes(count: int) -> Tensor:
    return torch.tensor([[16, 24]]).expand(count, 2)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_each_image_is_computed_once(tmp_path: Path) -> None:
    network = Counting()
    embedder = Embedder(network, EmbeddingCache(tmp_path, network.identity, MB))
    first = embedder(images(1, 2), sizes(2))
    again = embedder(images(2, 3, 2, 1), sizes(4))
    assert len(network.seen) == 3
    assert torch.equal(again[[3, 0]], first)
    assert torch.equal(again[0], again[2])
    assert torch.equal(first, Embedder(network)(images(1, 2), sizes(2)).half().float()), "rounded, found or not"
    fresh = Counting()
    other = Embedder(fresh, EmbeddingCache(tmp_path, network.identity, MB))
    assert torch.equal(other(images(3), sizes(1)), again[1:2])
    assert not fresh.seen


def test_a_flip_is_another_image_and_so_is_another_network(tmp_path: Path) -> None:
    network = Counting()
    embedder = Embedder(network, EmbeddingCache(tmp_path, network.identity, MB))
    straight, flipped = embedder(images(1), sizes(1)), embedder(images(1).flip(3), sizes(1))
    assert torch.equal(flipped, straight.flip(3))
    assert (len(network.seen), len(entries(tmp_path))) == (2, 2)
    other = Embedder(network, EmbeddingCache(tmp_path, "another", MB))
    other(images(1), sizes(1))
    assert (len(network.seen), len({p.parent for p in entries(tmp_path)})) == (3, 2)


def test_keys_are_of_shape_and_pixels() -> None:
    image = images(1)[0]
    assert content_key(image) == content_key(image.clone())
    assert content_key(image.flip(2).flip(2)) == content_key(image)
    wider = images(1)[0].reshape(3, 24, 16)
    one_off = image.clone()
    one_off[2, 15, 23] += 1
    assert len({content_key(x) for x in (image, wider, one_off, image[:, :15], image.flip(1))}) == 5


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[-1] ^= 1
    elif how == "cut":
        data = data[:-3]
    elif how == "rubbish":
        data = bytearray(b"not a tensor")
    elif how == "unsigned":
        save_file({"map": torch.zeros(2, 4, 6).half()}, path)
        return
    elif how == "other":
        save_file({"else": torch.zeros(2, 4, 6).half()}, path)
        return
    path.write_bytes(bytes(data) if how != "empty" else b"")


@pytest.mark.parametrize("how", ["bit", "cut", "rubbish", "empty", "unsigned", "other"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, how: str) -> None:
    network = Counting()
    cache = EmbeddingCache(tmp_path, network.identity, MB)
    embedder = Embedder(network, cache)
    expected = embedder(images(1), sizes(1))
    (path,) = entries(tmp_path)
    damage(path, how)
    assert torch.equal(embedder(images(1), sizes(1)), expected)
    assert torch.equal(embedder(images(1), sizes(1)), expected)
    assert (len(network.seen), cache.hits, cache.misses) == (2, 1, 2)


def test_an_entry_of_another_width_is_no_entry(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "a", MB)
    cache.put("k", torch.zeros(5, 2, 2))
    assert cache.get("k", 4) is None
    assert torch.equal(cache.get("k", 5), torch.zeros(5, 2, 2))  # type: ignore[arg-type]


def test_sizes_are_those_on_the_disk_and_the_limit_holds(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "a", 1100)
    values = torch.arange(192.0).reshape(3, 8, 8)
    for key in ("a", "b", "c", "d"):
        assert torch.equal(cache.put(key, values), values)
    on_disk = sum(p.stat().st_size for p in entries(tmp_path))
    assert (cache.size, len(entries(tmp_path))) == (on_disk, 2)
    assert on_disk <= 1100
    assert cache.get("a", 3) is not None
    assert cache.get("d", 3) is None
    assert re.fullmatch(
        r"cached: 1 of 2 maps found, 1\.01 kB on disk, no more written: the limit of 1.1 kB is reached",
        cache.describe(),
    )
    assert EmbeddingCache(tmp_path, "a", 1100).size == on_disk
    cache = EmbeddingCache(tmp_path, "a", 10**6)
    cache.put("a", values)
    assert cache.size == on_disk, "an entry written again counts once"


def test_a_disk_that_refuses_ends_the_writing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    embedder = Embedder(network, EmbeddingCache(tmp_path, network.identity, MB))
    embedder(images(1), sizes(1))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    again = embedder(images(1, 2), sizes(2))
    assert again.shape == (2, 2, 4, 6)
    assert len(entries(tmp_path)) == 1
    assert "No space left on device" in embedder.describe()
    assert not list(tmp_path.rglob("*.part"))


def test_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "a", MB)
    with pytest.raises(NumericError, match="reaches 7e"):
        cache.put("k", torch.full((1, 1, 1), 7e4))
    with pytest.raises(NumericError):
        cache.put("k", torch.full((1, 1, 1), float("nan")))
    assert not entries(tmp_path)
