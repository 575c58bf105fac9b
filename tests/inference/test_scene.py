from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyogrio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.tiffs import write_tiff
from tests.inference.squares import GREEN, RED, Patch, SquareFinder, painted, square_model, truth

from fledge.data.raster import PixelRule
from fledge.errors import NumericError, ResourceError, UsageError
from fledge.geometry.nms import rotated_nms
from fledge.inference import found as found_module
from fledge.inference.found import Found, Seen, merge
from fledge.inference.model import TorchModel
from fledge.inference.scan import merged, scan_scene
from fledge.inference.scene import SceneSettings, detect_scene
from fledge.inference.windows import WindowGrid
from fledge.types import Detections, Frame

# Seams at 76, 132, 188, 234; see test_predictor.
ON_SEAMS: list[Patch] = [
    (66, 30, 20, 10, RED),
    (30, 70, 10, 12, GREEN),
    (70, 68, 12, 16, RED),
    (126, 126, 12, 12, GREEN),
    (180, 20, 17, 9, RED),
    (228, 180, 13, 30, GREEN),
    (5, 5, 20, 20, RED),
    (270, 225, 20, 20, GREEN),
    (150, 200, 39, 7, RED),
]
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
PLACE = {"crs": "EPSG:32632", "transform": (0.5, 0, 5e5, 0, -0.5, 5.2e6)}


def tiff(path: Path, image: Any, **profile: Any) -> Path:
    import rasterio

    if "transform" in profile:
        profile["transform"] = rasterio.Affine(*profile["transform"])
    return write_tiff(path, image, **{**TILED, **profile})


def found_in(path: Path, model: TorchModel | None = None, **changes: Any) -> Found:
    journal = path.with_name(f"{path.name}.{len(list(path.parent.iterdir()))}.journal")
    scan = scan_scene(model or square_model(), path, journal, SceneSettings(score=0.0, **changes))
    return merged(journal, scan.holes)[0]


def rows(found: Found) -> list[tuple[float, ...]]:
    return sorted((float(label), *box) for label, box in zip(found.labels.tolist(), found.boxes.tolist(), strict=True))


@pytest.mark.parametrize("suffix", ["tif", "png", "jp2"])
def test_objects_on_seams_and_corners_are_found_once(suffix: str, tmp_path: Path) -> None:
    image = painted(250, 300, ON_SEAMS)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        assert cv2.imwrite(str(path), image[..., ::-1])
    else:
        lossless = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
        write_tiff(path, image, **(TILED if suffix == "tif" else lossless))
    found = found_in(path)
    assert rows(found) == truth(ON_SEAMS)
    assert found.frame == Frame("a", (250, 300))
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    for box, (x, y) in zip(found.boxes, found.windows.tolist(), strict=True):
        assert x <= box[0] <= x + 96
        assert y <= box[1] <= y + 96


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, int, list[Patch]]:
    """Patches up to the overlap, one in each cell of 41 pixels, so that no two touch; some forced on seam corners."""
    height, width = draw(st.integers(60, 330)), draw(st.integers(60, 330))
    cells = [(x, y) for x in range(1, width - 41, 41) for y in range(1, height - 41, 41)]
    patches = []
    for x, y in draw(st.lists(st.sampled_from(cells), unique=True, max_size=40)) if cells else []:
        w, h = draw(st.integers(4, 39)), draw(st.integers(4, 39))
        dx, dy = draw(st.integers(0, 40 - w)), draw(st.integers(0, 40 - h))
        patches.append((x + dx, y + dy, w, h, draw(st.sampled_from((RED, GREEN)))))
    return height, width, patches


@given(scenes(), st.integers(1, 9))
@settings(max_examples=50)
def test_tiled_equals_untiled(case: tuple[int, int, list[Patch]], batch: int) -> None:
    import tempfile

    height, width, patches = case
    with tempfile.TemporaryDirectory() as folder:
        path = tiff(Path(folder) / "a.tif", painted(height, width, patches))
        small = found_in(path, batch_size=batch)
        whole = found_in(path, square_model(image_size=352, overlap=40))
    assert rows(small) == rows(whole) == truth(patches)


@given(st.permutations(range(20)), st.integers(1, 8))
@settings(max_examples=30)
def test_the_merge_depends_on_the_boxes_only(order: Sequence[int], parts: int) -> None:
    """Whatever the order of windows, the batches and the workers, the same objects come out in the same order."""
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(0, 60, (20, 2)), rng.uniform(8, 30, (20, 2)), rng.uniform(-1, 1, (20, 1))], 1)
    boxes = boxes.astype(np.float32)
    scores = rng.choice(np.array([0.5, 0.75], np.float32), 20)  # many ties
    seen = Seen(boxes, scores, np.arange(20, dtype=np.int32) % 2, np.arange(20) % 4, 1.0, 0)
    turn = np.array(order)
    other = Seen(seen.boxes[turn], seen.scores[turn], seen.labels[turn], seen.windows[turn], 1.0, 0)
    grid = WindowGrid(120, 120, 96, 40)
    one, two = (merge(s, grid, 0.3, ("red", "green"), Frame("a")) for s in (seen, other))
    assert 0 < len(one) < 20
    for name in ("boxes", "scores", "labels", "windows"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def plainly_merged(seen: Seen, grid: WindowGrid, threshold: float) -> list[tuple[float, ...]]:
    """Every box placed in float64, ranked as tuples and suppressed at once: (-score, label, window, box)."""
    ranked = []
    numbers: list[int] = seen.windows.tolist()
    for k, (box, number) in enumerate(zip(seen.boxes.astype(np.float64), numbers, strict=True)):
        x, y, w, h = (v / seen.scale for v in box[:4].tolist())
        place = (x + grid[number].x, y + grid[number].y, w, h, float(box[4]))
        ranked.append((-float(seen.scores[k]), int(seen.labels[k]), number, *place))
    ranked.sort()
    table = torch.tensor(ranked, dtype=torch.float64)
    keep = rotated_nms(table[:, 3:], -table[:, 0], threshold, table[:, 1].to(torch.int64))
    return [ranked[k] for k in keep.tolist()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [7, 1 << 18])
def test_the_merge_equals_a_plain_one_to_the_last_bit(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "_AT_ONCE", at_once)
    rng = np.random.default_rng(seed)
    count, grid = 300, WindowGrid(700, 900, 256, 64)
    sides, angles = rng.uniform(4, 60, (count, 2)), rng.uniform(-1.5, 1.5, (count, 1))
    boxes = np.concatenate([rng.integers(0, 80, (count, 2)), sides, angles], axis=1).astype(np.float32)
    boxes[::10] = boxes[0]  # ties to the last key
    scores = rng.choice(np.array([0.5, 0.75, 0.8], np.float32), count)
    labels, numbers = rng.integers(0, 2, count).astype(np.int32), rng.integers(0, len(grid), count)
    seen = Seen(boxes, scores, labels, numbers, 0.7, 0)
    found = merge(seen, grid, 0.3, ("red", "green"), Frame("a"))
    expected = plainly_merged(seen, grid, 0.3)
    assert 50 < len(found) < count - 20
    np.testing.assert_array_equal(found.boxes, [row[3:] for row in expected])
    np.testing.assert_array_equal(found.scores, np.array([-row[0] for row in expected], np.float32))
    np.testing.assert_array_equal(found.labels, [row[1] for row in expected])
    origins = [(grid[int(row[2])].x, grid[int(row[2])].y) for row in expected]
    np.testing.assert_array_equal(found.windows, origins)


def test_windows_without_data_are_skipped_and_counted(tmp_path: Path) -> None:
    """Window all nodata: skipped, counted; the model never sees it."""
    image = painted(96, 96 * 4, [(10, 10, 20, 10, RED), (300, 40, 20, 10, GREEN)])
    image[:, 90:200] = 7
    path = tiff(tmp_path / "a.tif", image, nodata=7)
    model = square_model(overlap=0)
    assert isinstance(model.module, SquareFinder)
    scan = scan_scene(model, path, tmp_path / "j", SceneSettings(score=0.0, batch_size=1))
    assert (scan.windows, scan.skipped, len(model.module.batches)) == (4, 1, 3)
    assert rows(merged(tmp_path / "j")[0]) == truth([(10, 10, 20, 10, RED), (300, 40, 20, 10, GREEN)])


def test_a_scene_smaller_than_a_window_is_padded_and_nothing_lies_in_the_padding(tmp_path: Path) -> None:
    """Scene smaller than a window: padded, boxes never in the padding."""
    path = tiff(tmp_path / "a.tif", painted(50, 70, [(9, 9, 12, 8, RED)]))
    model = square_model(tolerance=200)  # would also take the grey of the padding
    assert isinstance(model.module, SquareFinder)
    found = found_in(path, model)
    assert model.module.batches == [(1, 3, 64, 96)]
    assert (found.boxes[:, 0] <= 70).all()
    assert (found.boxes[:, 1] <= 50).all()


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_another_scale_gives_boxes_of_the_scene(scale: float, tmp_path: Path) -> None:
    patches: list[Patch] = [(40, 60, 18, 14, RED), (180, 100, 12, 16, GREEN), (230, 30, 16, 16, RED)]
    path = tiff(tmp_path / "a.tif", painted(200, 280, patches))
    found = found_in(path, square_model(tolerance=150), scale=scale)
    np.testing.assert_allclose(rows(found), truth(patches), atol=2)


def test_a_detector_of_whole_images_sees_the_scene_as_one_window(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", painted(200, 280, [(40, 60, 24, 16, RED)]))
    model = square_model(fit=True, pixel_scale=96 / 280, tolerance=150)
    assert isinstance(model.module, SquareFinder)
    found_in(path, model)
    assert model.module.batches == [(1, 3, 96, 96)]


def test_deep_samples_by_range_and_by_percentile(tmp_path: Path) -> None:
    image = painted(96, 200, [(9, 9, 40, 20, RED), (120, 30, 20, 30, GREEN)]).astype(np.uint16) * 16 + 100
    path = tiff(tmp_path / "a.tif", image)
    assert len(found_in(path)) == 0, "divided by 257 it is nearly black"
    expected = truth([(9, 9, 40, 20, RED), (120, 30, 20, 30, GREEN)])
    assert rows(found_in(path, range=(100.0, 255 * 16 + 100.0))) == expected
    assert rows(found_in(path, percentiles=(0.0, 100.0))) == expected
    assert cv2.imwrite(str(tmp_path / "b.png"), image[..., ::-1])
    assert rows(found_in(tmp_path / "b.png", percentiles=(0.0, 100.0))) == expected


def test_floats_with_nan_and_five_bands_in_another_order(tmp_path: Path) -> None:
    image = painted(96, 100, [(9, 9, 40, 20, RED)]).astype(np.float32)
    five = np.zeros((96, 100, 5), np.float32)
    five[..., [4, 2, 0]] = image / 255
    five[60:, :, :] = np.nan
    path = tiff(tmp_path / "a.tif", five)
    model = square_model(pixels=PixelRule((1, 2, 3), (0.0, 1.0)))
    assert rows(found_in(path, model, bands=(5, 3, 1))) == truth([(9, 9, 40, 20, RED)])
    with pytest.raises(UsageError, match="trained on 3 bands"):
        found_in(path, model, bands=(5, 3))


def test_a_georeferenced_scene_to_a_geopackage(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", painted(250, 300, ON_SEAMS), **PLACE)
    result = detect_scene(square_model(), path, tmp_path / "out.gpkg", SceneSettings(picture=True))
    assert [p.name for p in result.files] == ["out.gpkg", "out.gpkg.jpg"]
    assert (result.objects, result.windows, result.skipped, result.holes) == (9, 20, 0, ())
    meta, _, _, values = pyogrio.raw.read(tmp_path / "out.gpkg")
    table = dict(zip(meta["fields"], values, strict=True))
    np.testing.assert_allclose(table["length_m"], table["length_px"] / 2, rtol=1e-3)
    x1, y1, x2, y2 = pyogrio.read_info(tmp_path / "out.gpkg")["total_bounds"]
    np.testing.assert_allclose([x1, y1, x2, y2], [5e5 + 2.5, 5.2e6 - 122.5, 5e5 + 145, 5.2e6 - 2.5])
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif", "out.gpkg", "out.gpkg.jpg"}, "no journal is left"
    assert cv2.imread(str(tmp_path / "out.gpkg.jpg")) is not None


def test_an_existing_result_is_refused_and_replaced_on_demand(tmp_path: Path) -> None:
    """Output exists: refused without --overwrite; never half-overwritten."""
    path = tiff(tmp_path / "a.tif", painted(50, 70, [(9, 9, 12, 8, RED)]), **PLACE)
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match=r"output exists: .*out\.csv: add --overwrite"):
        detect_scene(square_model(), path, out, SceneSettings("csv"))
    assert out.read_text() == "mine"
    detect_scene(square_model(), path, out, SceneSettings("csv", overwrite=True))
    assert out.read_text().startswith("image,class")


def test_out_of_memory_halves_the_batch_down_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Device out of memory: the batch of windows is halved down to 1, the result equals that of the smaller batch; if
    one window does not fit, exit 5 with its size."""
    path = tiff(tmp_path / "a.tif", painted(250, 300, ON_SEAMS), **PLACE)
    plain = detect_scene(square_model(), path, tmp_path / "one.csv", SceneSettings("csv", batch_size=1))
    run, tried, fits = TorchModel.run, [], 2

    def short(self: TorchModel, images: Any, sizes: Any) -> list[Detections]:
        tried.append(len(images))
        if len(images) > fits:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return run(self, images, sizes)

    monkeypatch.setattr(TorchModel, "run", short)
    detect_scene(square_model(), path, tmp_path / "two.csv", SceneSettings("csv", batch_size=8))
    assert tried[:4] == [5, 2, 2, 1]
    assert (tmp_path / "two.csv").read_bytes() == plain.files[0].read_bytes()
    fits = 0
    with pytest.raises(ResourceError, match=r"out of memory: .* one window of 96x96"):
        detect_scene(square_model(), path, tmp_path / "three.csv", SceneSettings("csv", batch_size=8))


@pytest.mark.parametrize("where", ["scores", "boxes"])
def test_a_score_that_is_no_number_stops_the_scene(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN score: not dropped before writing; exit 4, and no result."""
    run = TorchModel.run

    def spoiled(self: TorchModel, images: Any, sizes: Any) -> list[Detections]:
        found = run(self, images, sizes)
        return [replace(d, **{where: getattr(d, where) * float("nan")}) for d in found]

    monkeypatch.setattr(TorchModel, "run", spoiled)
    path = tiff(tmp_path / "a.tif", painted(50, 70, [(9, 9, 12, 8, RED)]))
    with pytest.raises(NumericError, match=r"not finite: .*a\.tif"):
        detect_scene(square_model(), path, tmp_path / "out.gpkg")
    assert not (tmp_path / "out.gpkg").exists()


def test_objects_longer_than_the_overlap_are_told(tmp_path: Path) -> None:
    """Object longer than the overlap: a documented limit; said when more than 1 % of the objects reach an inner border
    of the window that owns them."""

    class Reaching(SquareFinder):
        def _find(self, image: Any, height: int, width: int) -> Detections:
            found = super()._find(image, height, width)
            return replace(found, boxes=found.boxes + found.boxes.new_tensor([0, 0, 60, 0, 0]))

    path = tiff(tmp_path / "a.tif", painted(96, 300, [(60, 9, 20, 8, RED)]))
    model = square_model()
    model.detector = model.module = Reaching()
    model.module.eval()
    result = detect_scene(model, path, tmp_path / "out.gpkg")
    assert any("longer than the overlap" in note for note in result.notes)
    assert not any("overlap" in note for note in detect_scene(square_model(), path, tmp_path / "two.gpkg").notes)
