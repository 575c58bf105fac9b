"""Detection in a scene of any size, of which only windows are ever in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fledge.data.scene_file import local_file
from fledge.errors import DataError, UsageError
from fledge.files import remove_orphans, write_json
from fledge.inference.found import Found, Hole
from fledge.inference.model import WindowModel
from fledge.inference.pictures import draw_scene
from fledge.inference.scan import Scan, merged, pixel_rule, scan_scene
from fledge.inference.settings import DEFAULT, SceneSettings
from fledge.inference.writers import SUFFIXES, targets, write_found

__all__ = ["SceneResult", "SceneSettings", "detect_scene"]


@dataclass(frozen=True)
class SceneResult:
    """What became of a scene.

    Attributes:
        files: written, the result first.
        objects: how many are in it.
        windows: of the scene.
        skipped: windows without a single pixel of data.
        holes: windows that could not be read.
        notes: what the user should know, a line each.
    """

    files: tuple[Path, ...]
    objects: int
    windows: int
    skipped: int
    holes: tuple[Hole, ...]
    notes: tuple[str, ...]


def detect_scene(
    model: WindowModel,
    path: str | Path,
    out: Path,
    settings: SceneSettings = DEFAULT,
    advance: Callable[[int, int], None] | None = None,
) -> SceneResult:
    """Find the objects of one image or raster of any size and write them to ``out``.

    Killed at any instant and called again with the same arguments, it goes on where it was, from a journal beside
    ``out``, and ends with the same bytes.

    Args:
        model: from ``fledge.runs.load_model``.
        path: the scene.
        out: file or folder of the result.
        settings: see there.
        advance: called with the numbers of finished and of all windows.

    Raises:
        UsageError: the result exists, or the format cannot hold what the scene is.
        DataError: the scene is refused, windows could not be read, or the journal is of something else or damaged.
        NumericError: a score or box is not finite.
        ResourceError: a disk, memory or file problem; the journal stays.
    """
    scene = local_file(path)
    journal = journal_of(out, scene.stem)
    check_free(targets(out, settings.format, [scene.stem], model.classes), [journal], settings)
    prepare([journal], settings)
    scan = scan_scene(model, scene, journal, settings, advance)
    result = finish(model, [(scene, journal, scan)], out, settings)[0]
    journal.unlink(missing_ok=True)
    return result


def finish(
    model: WindowModel, scans: Sequence[tuple[Path, Path, Scan]], out: Path, settings: SceneSettings
) -> list[SceneResult]:
    """Merge and write scenes whose windows are all in their journals: ``scans`` are scenes, journals and scans.

    Raises:
        DataError: windows could not be read, and no holes are allowed.
    """
    for scene, _, scan in scans:
        if scan.holes and not settings.allow_holes:
            raise DataError(holes_in(scene, scan))
    found, notes = [], []
    for _, journal, scan in scans:
        one, more = merged(journal, scan.holes)
        found.append(one)
        notes.append((*scan.notes, *more))
    files = write_found(found, out, settings.format)
    results = []
    for k, (scene, journal, scan) in enumerate(scans):
        own = [files[k]] if len(files) == len(scans) else list(files)
        own += _beside(model, found[k], scene, journal, settings)
        results.append(SceneResult(tuple(own), len(found[k]), scan.windows, scan.skipped, scan.holes, notes[k]))
    return results


def _beside(model: WindowModel, found: Found, scene: Path, journal: Path, settings: SceneSettings) -> list[Path]:
    """What goes beside the result: the list of holes, and the picture."""
    name = journal.name.removesuffix(".journal")
    written = []
    if found.holes:
        written.append(journal.with_name(f"{name}.holes.json"))
        keys = ("x", "y", "width", "height", "reason")
        write_json(written[-1], [{key: getattr(hole, key) for key in keys} for hole in found.holes])
    if settings.picture:
        written.append(journal.with_name(f"{name}.jpg"))
        draw_scene(found, scene, written[-1], pixel_rule(model, settings), settings.percentiles)
    return written


def journal_of(out: Path, scene: str, scenes: int = 1) -> Path:
    """Where the journal of a scene lies that is one of some whose results go to ``out``."""
    if out.suffix.lower() not in SUFFIXES:
        return out / f"{scene}.journal"
    return out.with_name(f"{out.name}.journal" if scenes == 1 else f"{out.name}.{scene}.journal")


def prepare(journals: Sequence[Path], settings: SceneSettings) -> None:
    """Clear up after a killed process, and forget what it has finished if the settings say so."""
    for folder in {journal.parent for journal in journals}:
        remove_orphans(folder)
    if settings.restart:
        for journal in journals:
            journal.unlink(missing_ok=True)


def check_free(files: Sequence[Path], journals: Sequence[Path], settings: SceneSettings) -> None:
    """Refuse to replace a result, unless told to, or unless this is an interrupted run that goes on.

    Raises:
        UsageError: there is one.
    """
    there = [path for path in files if path.exists()]
    if there and not settings.overwrite and not any(journal.exists() for journal in journals):
        raise UsageError(f"output exists: {there[0]}: add --overwrite to replace it, or give another --out")


def holes_in(scene: Path, scan: Scan) -> str:
    """Why a scene has no result."""
    first = scan.holes[0]
    return (
        f"incomplete: {scene}: {len(scan.holes)} of {scan.windows} windows cannot be read, the first at column "
        f"{first.x}, row {first.y} ({first.reason}): replace the file and add --restart, or run again with "
        "--allow-holes to write the others; nothing is computed twice"
    )
