"""The model as the runtime of this machine folds it: decoded once, at installation, and not at every start.  No torch.

A packed file is small on disk and is decoded whenever it is opened. The folded file is larger, opens faster and takes
less memory while it does. It belongs to one version of onnxruntime; the file that was checked and signed stays.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import onnxruntime

from compress.onnx.session import opened, options_of

FOLDED, NOTE = "model.folded.onnx", "model.folded.json"


def install(path: Path, folder: Path) -> Path:
    """Write the folded model and return its path; one that is there and still fits is kept.

    Args:
        path: a model file.
        folder: where the folded model and a note of what it was made from are written; made where it is missing.

    Raises:
        ValueError: onnxruntime cannot open the file; nothing is left behind.
    """
    wanted = {"source": digest(path), "onnxruntime": onnxruntime.__version__}
    target, note = folder / FOLDED, folder / NOTE
    if target.is_file() and read(note) == {**wanted, "folded": digest(target)}:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    partial = folder / f".{FOLDED}.{os.getpid()}.partial"
    options = options_of(threads=1)
    # What ENABLE_ALL adds is meant for one processor and is done again at load anyway.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(partial)
    try:
        opened(path, options, "CPUExecutionProvider")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    written = note.with_name(f".{NOTE}.{os.getpid()}.partial")
    written.write_text(json.dumps({**wanted, "folded": digest(target)}, sort_keys=True) + "\n", encoding="utf-8")
    written.rename(note)
    return target


def read(note: Path) -> Any:  # noqa: ANN401  whatever the note holds
    """Return what a note says, None where there is none that can be read."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
