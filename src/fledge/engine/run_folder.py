"""A run folder belongs to one run at a time, and to one recipe: the lock, and the check of what changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fledge.engine.checkpoint import newest_checkpoint, read_manifest
from fledge.engine.lock import release, take
from fledge.engine.selection import BEST
from fledge.errors import DataError, ResourceError, UsageError
from fledge.files import remove_orphans, replacing

LOCK, RECIPE, CHANGES = "run.lock", "recipe.toml", "changes.log"
Settings = Mapping[str, Any]


@contextmanager
def claimed(
    folder: Path,
    settings: Settings,
    read: Callable[[Path], Settings],
    write: Callable[[Path], None],
    *,
    harmless: Collection[str],
    allowed: Collection[str] = (),
    classes: Sequence[str] = (),
    environment: Mapping[str, str | int] | None = None,
    total_steps: int | None = None,
) -> Iterator[list[str]]:
    """Hold a run folder for one run: make it or check it, lock it, and release it at the end.

    The folder must be new, empty, or that of a run whose settings are the same. Changed settings are refused, unless
    they are harmless or allowed; then ``recipe.toml`` is replaced and ``changes.log`` says what changed at which step.

    Args:
        folder: of the run.
        settings: of the run that begins now.
        read: gives the settings in a recipe file.
        write: writes ``settings`` to a file.
        harmless: keys that may change without being allowed, such as ``workers``.
        allowed: keys that the user allows to change.
        classes: of the data, in their order; those of the newest checkpoint must be the same.
        environment: what the bits depend on besides the settings, compared with ``environment`` and ``meta`` of the
            newest checkpoint.
        total_steps: of the run; one whose newest checkpoint has them is finished, and nothing of it changes.

    Yields:
        Warnings for the user.

    Raises:
        UsageError: the folder is no run folder, its recipe differs, or an allowed key is unknown.
        DataError: the classes differ, or the newest checkpoint is damaged.
        ResourceError: another run uses it, it cannot be written, or it was removed meanwhile.
    """
    unknown = sorted(set(allowed) - set(settings))
    if unknown:
        raise UsageError(f"no such setting: --allow-changes {','.join(unknown)}: name keys of the recipe")
    with _locked(folder):
        before = _settings_there(folder, read)
        changed = {k: (before.get(k), settings.get(k)) for k in _differing(before, settings)} if before else {}
        refused = [k for k in changed if k not in harmless and k not in allowed]
        if refused:
            raise UsageError(
                f"another run is here: {folder}: its recipe differs ({_shown(changed)}): use another folder, "
                f"or allow it with --allow-changes {','.join(refused)}"
            )
        done, moved = _progress(folder, list(classes), environment or {})
        finished = total_steps is not None and done >= total_steps
        warnings = [] if finished else _notes(changed, moved)
        if warnings:
            _record(folder / CHANGES, [f"step {done}: {line}" for line in warnings])
        if before is None or (changed and not finished):
            with replacing(folder / RECIPE) as part:
                write(part)
        yield [f"{folder}: {line}" for line in warnings]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder if needed, and hold its lock. What dead runs left half-written in it is removed."""
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise UsageError(f"not a run folder: {folder}: it is not empty: use another folder")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = take(folder / LOCK)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"not a run folder: {folder}: {error.strerror}: use another folder") from error
    except OSError as error:
        raise ResourceError(f"cannot write: {folder}: {error.strerror or error}: use another folder") from error
    try:
        remove_orphans(folder)
        remove_orphans(folder / "checkpoints")
        remove_orphans(folder / BEST)
        yield
    finally:
        held = release(folder / LOCK, own)
        if made and held and not any(folder.iterdir()):
            folder.rmdir()
    if not held:
        raise ResourceError(f"run folder lost: {folder}: it was removed or replaced during the run: train again")


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds a run, or nothing but what a run killed at its very start leaves."""
    names = [path.name for path in folder.iterdir()]
    return RECIPE in names or all(name == LOCK or name.endswith(".part") for name in names)


def _settings_there(folder: Path, read: Callable[[Path], Settings]) -> Settings | None:
    path = folder / RECIPE
    return read(path) if path.exists() else None


def _differing(before: Settings, now: Settings) -> list[str]:
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def _shown(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in changed.items())


def _progress(
    folder: Path, classes: list[str], environment: Mapping[str, str | int]
) -> tuple[int, dict[str, tuple[Any, Any]]]:
    """Finished steps, and what differs between this process and the one that saved them."""
    newest = newest_checkpoint(folder / "checkpoints")
    if newest is None:
        return 0, {}
    manifest = read_manifest(newest)
    learned = manifest["meta"].get("classes", classes)
    if classes and learned != classes:
        raise DataError(
            f"classes differ: {newest}: it knows {', '.join(map(str, learned))}, the data have {', '.join(classes)}: "
            "use the data it was trained on, or another folder"
        )
    then = {**manifest["meta"], **manifest.get("environment", {})}
    moved = {k: (then[k], now) for k, now in environment.items() if k in then and then[k] != now}
    return int(manifest["step"]), moved


def _notes(changed: Mapping[str, tuple[Any, Any]], moved: Mapping[str, tuple[Any, Any]]) -> list[str]:
    notes = [f"settings changed: {_shown(changed)}"] if changed else []
    if moved:
        notes.append(f"not bit-exact from here on: {_shown(moved)}")
    return notes


def _record(path: Path, lines: list[str]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise ResourceError(f"cannot write: {path}: {error.strerror or error}: check the folder") from error
