"""Files from strangers: each is refused, nothing is written outside, no process is started."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fledge import api
from fledge.data.image_header import read_header
from fledge.data.raster import read_image
from fledge.errors import DataError

from .child import command, files, forked
from .tiny import checkpoint, recipe, recipe_file, tiles

SPAWNS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.spawn")
CHANGES = ("os.mkdir", "os.rename", "os.symlink", "os.link", "os.remove", "os.rmdir", "os.chmod", "os.truncate")


class Sentinel:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def watched(allowed: Path, *arguments: object) -> None:
    """``fledge ARGUMENTS``; prints what Python starts, connects to, or changes outside ``allowed``."""

    def inside(path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor that is open already
        whole = Path(os.path.realpath(os.fsdecode(path)))
        return whole.is_relative_to(allowed) or whole == Path(os.devnull)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        own = event == "subprocess.Popen" and "fledge.models.torch_file" in args[1]  # our reader of PyTorch files
        wrong = event == "socket.connect" or (event in SPAWNS and not own)
        if wrong or ((writes or event in CHANGES) and not inside(args[0])):
            print("VIOLATION", event, args, flush=True)

    import tempfile

    tempfile.tempdir = str(allowed)
    sys.addaudithook(hook)
    command(*arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiles (``data``), a trained ``run`` and a recipe ``r.toml``."""
    root = tmp_path_factory.mktemp("place")
    api.train(recipe(tiles(root / "data", 2), epochs=1), root / "run")
    recipe_file(root / "r.toml", root / "data", epochs=1)
    return root


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB4x", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + b"IEND"


def picture(suffix: str) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def jp2_that_lies() -> bytes:
    """Its header says 4 x 4 pixels, its pixels are 64 x 64."""
    data = picture(".jp2")
    at = data.index(b"ihdr") + 4
    return data[:at] + struct.pack(">II", 4, 4) + data[at + 8 :]


def tiff(tags: list[tuple[int, int, int]]) -> bytes:
    """A TIFF file of one directory: (tag, type, value)."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def one_tile(side: int) -> bytes:
    """A TIFF file whose single compressed tile is the whole image, so that one pixel costs all of it."""
    return tiff([(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, side),
                 (323, 4, side), (324, 4, 8), (325, 4, 50)])  # fmt: skip


def archive(path: Path) -> bytes:
    """A zip file with a name that climbs out."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("../escaped", "x")
    return path.read_bytes()


def vrt(source: str) -> bytes:
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1" subClass='
        f'"VRTRawRasterBand"><SourceFilename>{source}</SourceFilename></VRTRasterBand></VRTDataset>'
    ).encode()


def tensors(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


def onnx_that_names_a_file() -> bytes:
    """An ONNX model whose weights lie in another file."""
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="../../../../../../etc/hostname")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    made: bytes = onnx.helper.make_model(graph).SerializeToString()
    return made


IMAGE, RECIPE, WEIGHTS, MODEL = "an image", "a recipe", "weights", "a model"
FILES: dict[str, tuple[str, str, Callable[[Path], bytes]]] = {
    "VRT that reads a file": (IMAGE, "a.tif", lambda _: vrt("/etc/hostname")),
    "VRT that fetches": (IMAGE, "a.tif", lambda _: vrt("/vsicurl/http://127.0.0.1:9/x")),
    "bomb of a PNG": (IMAGE, "a.png", lambda _: png(50_000, 50_000)),
    "bomb of a TIFF": (IMAGE, "a.tif", lambda _: one_tile(61_440)),
    "JPEG 2000 that lies": (IMAGE, "a.jp2", lambda _: jp2_that_lies()),
    "cut JPEG": (IMAGE, "a.jpg", lambda _: picture(".jpg")[:-40]),
    "archive as image": (IMAGE, "a.png", lambda p: archive(p / "made.zip")),
    "PostScript as image": (IMAGE, "a.jpg", lambda _: b"%!PS\n(/tmp/escaped) (w) file closefile\n"),
    "drawing that fetches": (IMAGE, "a.png", lambda _: b'<svg><image href="http://127.0.0.1:9/x"/></svg>'),
    "grid of text": (IMAGE, "a.tif", lambda _: b"ncols 9\nnrows 9\n" + b"0 " * 81),
    "pickle as image": (IMAGE, "a.png", lambda p: pickle.dumps(Sentinel(p / "sentinel"))),
    "recipe that calls": (RECIPE, "a.toml", lambda _: b'backbone = "!!python/object/apply:os.getcwd []"\n'),
    "recipe with a class path": (RECIPE, "a.toml", lambda _: b'_target_ = "os.system"\n'),
    "nested recipe": (RECIPE, "a.toml", lambda _: b"bands = " + b"[" * 100_000),
    "infinite recipe": (RECIPE, "a.toml", lambda _: b"lr = 1e400\n"),
    "recipe with doubles": (RECIPE, "a.toml", lambda _: b"epochs = 1\nepochs = 2\n"),
    "recipe of 10 MB": (RECIPE, "a.toml", lambda _: b"# \n" * 3_500_000),
    "pickle as recipe": (RECIPE, "a.toml", lambda p: pickle.dumps(Sentinel(p / "sentinel"))),
    "pickle as weights": (WEIGHTS, "a.pth", lambda p: pickle.dumps(Sentinel(p / "sentinel"), protocol=2)),
    "safetensors past the end": (
        WEIGHTS, "a.safetensors", lambda _: tensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}),
    ),
    "ONNX that names a file": (MODEL, "a.onnx", lambda _: onnx_that_names_a_file()),
    "pickle as ONNX": (MODEL, "a.onnx", lambda p: pickle.dumps(Sentinel(p / "sentinel"))),
    "archive as exported program": (MODEL, "a.pt2", lambda p: archive(p / "made.zip")),
}  # fmt: skip


def refused(place: Path, tmp: Path, *arguments: object) -> None:
    """The command ends with one line of ours, and leaves nothing behind but the folders it was told to make."""
    before, home = files(place), files(tmp)
    out = tmp / "out"
    with forked(watched, tmp, *arguments, "--out", out) as child:
        ended = child.end()
    lines = [line for line in ended.out.splitlines() if line.startswith("fledge: ")]
    assert ended.code in (2, 3), ended.out
    assert len(lines) == 1, ended.out
    assert "VIOLATION" not in ended.out, ended.out
    assert "Traceback" not in ended.out
    assert not list(tmp.rglob("sentinel"))
    assert not list(tmp.rglob("escaped"))
    assert files(place) == before
    assert not {name for name in files(tmp) - home if not name.startswith("out/")}
    assert ".part" not in " ".join(files(tmp))


@pytest.mark.parametrize("kind", FILES)
def test_hostile_files(kind: str, place: Path, tmp_path: Path) -> None:
    """S1: pickles, archives, VRT and PostScript called images, bombs, headers that lie, recipes that call or never
    end, weights that point elsewhere: each is refused in one line, no file is made outside, no process is started, no
    address is asked for."""
    entrance, name, make = FILES[kind]
    file = tmp_path / name
    file.write_bytes(make(tmp_path))
    arguments: dict[str, list[object]] = {
        IMAGE: ["detect", place / "run", file],
        RECIPE: ["train", file, "--data", place / "data"],
        WEIGHTS: ["train", place / "r.toml", "--weights", file],
        MODEL: ["detect", file, next((place / "data").rglob("*.png"))],
    }
    refused(place, tmp_path, *arguments[entrance])


@pytest.mark.parametrize(
    "name",
    ["/vsicurl/http://127.0.0.1:9/a.tif", "http://127.0.0.1:9/a.tif", "/vsizip//etc/a.zip/a.tif", "zip:a.zip!a.tif"],
)
def test_addresses_instead_of_files(name: str, place: Path, tmp_path: Path) -> None:
    """S1: an address, or a name that only GDAL understands, as an image: refused, and nothing is fetched."""
    refused(place, tmp_path, "detect", place / "run", name)


@pytest.mark.parametrize("kind", ["elsewhere", "link", "pickle"])
def test_hostile_runs(kind: str, place: Path, tmp_path: Path) -> None:
    """S1: a run whose manifest is a link, names a file elsewhere, or whose weights are a pickle: refused."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", place / "run", run], check=True)
    weights = checkpoint(run) / "ema.safetensors"
    manifest = checkpoint(run) / "manifest.json"
    if kind == "pickle":
        weights.write_bytes(pickle.dumps(Sentinel(tmp_path / "sentinel")))
    elif kind == "link":
        manifest.unlink()
        manifest.symlink_to("/etc/hostname")
    else:
        manifest.write_text(manifest.read_text().replace(weights.name, "../../../etc/hostname"))
    refused(place, tmp_path, "detect", run, next((place / "data").rglob("*.png")))


LABELS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "YAML that calls": ("data.yaml", lambda _: b"names: !!python/object/apply:os.system ['touch escaped']\n"),
    "JSON that climbs out": (
        "annotations/instances_train.json",
        lambda image: json.dumps(
            {"images": [{"id": 1, "file_name": f"../../../{image}", "width": 64, "height": 64}], "annotations": [],
             "categories": [{"id": 1, "name": "a"}]}
        ).encode(),
    ),
    "nested JSON": ("annotations/instances_train.json", lambda _: b"[" * 200_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_hostile_datasets(kind: str, place: Path, tmp_path: Path) -> None:
    """S1: a data.yaml that calls, COCO images outside the folder, JSON without end: refused by `fledge check`."""
    name, make = LABELS[kind]
    root = tmp_path / "set"
    for folder in ("images/train", "labels/train", "train"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a.png").write_bytes(picture(".png"))
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(make("etc/hostname"))
    refused(place, tmp_path, "check", root)


def test_a_header_and_pixels_of_different_size(tmp_path: Path) -> None:
    """A JPEG 2000 header that says 4 x 4 before pixels of 64 x 64, a TIFF file with two widths: what is checked against
    the limit is what decoders go by."""
    (tmp_path / "a.jp2").write_bytes(jp2_that_lies())
    with pytest.raises(DataError, match="says 4x4, the pixels are 64x64"):
        read_header(tmp_path / "a.jp2")
    twice = tiff([(256, 4, 4), (256, 4, 40_000), (257, 4, 4), (258, 3, 8), (262, 3, 1), (273, 4, 150), (277, 3, 1),
                  (278, 4, 4), (279, 4, 16)])  # fmt: skip
    (tmp_path / "a.tif").write_bytes(twice.ljust(150, b"\0") + bytes(16))
    assert read_header(tmp_path / "a.tif").width == 4
    assert read_image(tmp_path / "a.tif").shape == (4, 4, 3)


def test_a_large_image_beside_hostile_ones_is_still_read(tmp_path: Path) -> None:
    """The boxes before the pixels of a JPEG 2000 file may be long, and a file of stated length 0 goes to its end."""
    data = picture(".jp2")
    at = data.index(b"jp2c") - 4
    filler = struct.pack(">I4s", 8 + 5000, b"free") + bytes(5000)
    for i, made in enumerate((data[:at] + filler + data[at:], data[:at] + bytes(4) + data[at + 4 :])):
        (tmp_path / f"{i}.jp2").write_bytes(made)
        header = read_header(tmp_path / f"{i}.jp2")
        assert (header.height, header.width, header.bands) == (64, 64, 3)


ODD = {"newline": "a\nb", "tab and quote": 'a\t"b', "not UTF-8": os.fsdecode(b"a\xffb"), "emoji": "a🛰b", "dash": "-a"}


@pytest.mark.parametrize("kind", ODD)
def test_odd_names_are_handled(kind: str, place: Path, tmp_path: Path) -> None:
    """A path with a newline, a tab, bytes that are no UTF-8, or that looks like an option: an image of that name is
    read, its results bear its name, and the map shows them."""
    folder = tmp_path / ODD[kind]
    folder.mkdir()
    image = folder / f"{ODD[kind]}.png"
    image.write_bytes(next((place / "data").rglob("*.png")).read_bytes())
    words = ["detect", str(place / "run"), str(image), "--score", "0", "--out"]
    result = tmp_path / "found.gpkg"
    commands = [[*words, str(tmp_path / name)] for name in ("found.csv", "found.json", result.name)]
    commands.append(["map", str(result), "--image", str(image), "--out", str(tmp_path / "map.html")])
    with forked(in_turn, commands) as child:
        ended = child.end()
    assert ended.code == 0, ended.out
    assert "Traceback" not in ended.out
    assert "code" not in ended.out.replace("code 0", "").replace("code None", ""), ended.out
    shown = {"newline": "a\nb", "tab and quote": "a\t&quot;b", "not UTF-8": "a\ufffdb"}.get(kind, ODD[kind])
    assert f"<h1>{shown}</h1>" in (tmp_path / "map.html").read_text()


NOTHING = {"5,000 bytes": "x" * 5000, "300 bytes": "x" * 300, "newline": "a\nb", "not UTF-8": os.fsdecode(b"a\xffb")}


COMMANDS = (
    ("detect", "{run}", "{x}"), ("detect", "{x}", "a.png"), ("check", "{x}"), ("train", "{x}"), ("map", "{x}"),
    ("train", "{r}", "--data", "{x}"), ("evaluate", "{run}", "--data", "{x}"), ("serve", "{x}", "--port", "0"),
    ("train", "{r}", "--weights", "{x}"),
)  # fmt: skip


def in_turn(commands: list[list[str]]) -> None:
    """Several commands in one process; the exit code of each."""
    for words in commands:
        try:
            command(*words)
        except SystemExit as stop:
            print("code", stop.code)


@pytest.mark.parametrize("name", NOTHING.values(), ids=NOTHING)
def test_odd_names_of_nothing(name: str, place: Path) -> None:
    """A path of 5,000 bytes, with a newline, or that is no UTF-8, where nothing is: one clear line, no traceback, from
    every command."""
    run, file = str(place / "run"), str(place / "r.toml")
    with forked(in_turn, [[word.format(run=run, r=file, x=name) for word in words] for words in COMMANDS]) as child:
        ended = child.end()
    assert "Traceback" not in ended.out, ended.out
    codes = [line for line in ended.out.splitlines() if line.startswith("code ")]
    assert len(codes) == len(COMMANDS)
    assert set(codes) <= {"code 2", "code 3", "code 5"}, ended.out
    assert ended.out.count("fledge: ") >= len(COMMANDS)
