"""Directories that verbs leave behind: built under another name, renamed when whole, known by a manifest."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partial(target: Path) -> Path:
    """Return the name under which an artefact is built: beside its target, hidden, never a whole one."""
    return target.parent / f".{target.name}.partial"


def refuse_existing(target: Path, *, overwrite: bool = False) -> None:
    """Refuse a target that would be replaced.

    Raises:
        ValueError: the target is a file, or a folder with something in it and `overwrite` is not set,
            or a folder that no manifest marks as ours.
    """
    if target.is_file():
        raise ValueError(f"{target}: is a file; expected a folder to be made: name another")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise ValueError(f"{target}: already exists and is not empty; name another folder or pass --overwrite")
    if not (target / MANIFEST).exists():
        raise ValueError(f"{target}: holds no {MANIFEST}, so it is not ours to overwrite; name another folder")


@contextmanager
def build(target: Path, *, overwrite: bool = False, resume: bool = False) -> Generator[Path]:
    """Yield a folder to fill; rename it to the target when the block ends without an error.

    Args:
        target: the artefact to be made; its parents are made too.
        overwrite: replace a whole artefact that stands there.
        resume: keep what an interrupted run left in the partial folder, and keep it on errors too.

    Raises:
        ValueError: the target may not be replaced (see `refuse_existing`).
    """
    refuse_existing(target, overwrite=overwrite)
    folder = partial(target)
    if folder.exists() and not resume:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a name of its own, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object) -> None:
    """Write JSON with sorted keys, so that equal content has equal bytes."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_manifest(folder: Path, kind: str, **fields: object) -> dict[str, Any]:
    """Write manifest.json over every file in the folder and return it.

    The manifest carries no date and no path of the machine, so equal inputs give equal bytes. What killed writers left
    unfinished is taken away first.
    """
    for left in folder.rglob(".*.partial"):
        left.unlink()
    files = {
        path.relative_to(folder).as_posix(): {"sha256": digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest: dict[str, Any] = {"kind": kind, "format": 1, **fields, "files": files}
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read the manifest of an artefact of the kind asked for.

    Raises:
        ValueError: there is no such folder, it holds no manifest, or it is of another kind.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected a {kind} made by anamnesis")
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {MANIFEST}, so it is not a whole {kind}; make it again")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"{path}: not JSON; the {kind} is damaged, make it again") from None
    found = manifest.get("kind") if isinstance(manifest, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found != kind:
        raise ValueError(f"{folder}: expected a {kind}, found {found or 'something else'}")
    return manifest


def kind_of(folder: Path) -> str | None:
    """Return the kind of artefact that a folder holds, None where it is none of ours."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(manifest.get("kind")) if isinstance(manifest, dict) else None


def verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file with the manifest.

    Raises:
        ValueError: a file is missing, changed or named outside the folder.
    """
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder / MANIFEST}: names {name}, a file outside the folder")
        if not path.is_file():
            raise ValueError(f"{path}: missing; the manifest lists it: copy the whole folder again")
        if digest(path) != entry["sha256"]:
            raise ValueError(f"{path}: does not match its checksum in {MANIFEST}: copy the whole folder again")
