"""A release: the folder that a hospital installs. Opened, checked against itself, and asked.  No torch."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from compress.onnx.install import install
from compress.onnx.parity import parity
from compress.onnx.session import Session, open_session
from ehr import calibration as calibrations
from ehr.batches import bucket, pad
from ehr.calibration import Calibration
from ehr.events import EVENTS, write
from ehr.outcomes.registry import Registry, load
from ehr.quality.thresholds import Thresholds
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary
from pipelines import artefacts, card, golden, shipping, signature
from pipelines.signature import SIGNATURE, SUMS

MODEL, DIGEST = "model.onnx", "digest.json"
POSITIONS = 4096
"""Positions of one call: rows times length. Every call of a length has the same shape, padded with empty rows, so
that what a patient's score is, to the last bit, does not hang on who else is in the call."""
Floats = npt.NDArray[np.float32]


class Release(NamedTuple):
    """A release, opened."""

    path: Path
    manifest: dict[str, Any]
    vocabulary: Vocabulary
    registry: Registry
    calibration: Calibration
    thresholds: Thresholds
    session: Session

    @property
    def max_tokens(self) -> int:
        """Tokens of a sample, at most."""
        return int(self.manifest["max_tokens"])

    @property
    def model(self) -> str:
        """SHA-256 of the model file."""
        return str(self.manifest["files"][MODEL]["sha256"])


def open_release(
    path: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    trusted: bool = False,
    key: Path | None = None,
    folded: Path | None = None,
) -> Release:
    """Open a release; its signature is checked first, then its checksums, and its golden pair last.

    Args:
        path: the folder.
        device: cpu or cuda.
        threads: threads of one call.
        trusted: the caller checked it already.
        key: the public key it has to be signed with; any release is taken without one.
        folded: folder of the model as this machine's runtime folds it, made where it is missing; None opens the
            release's own file, which is decoded in memory.

    Raises:
        ValueError: it is not signed with the key, a file is missing or changed, parts do not belong together, or the
            golden pair is not met.
    """
    if folded is not None and device != "cpu":
        raise ValueError(f"a folded model is one for the cpu, not for {device}; leave one of them out")
    if key is not None:
        signature.verify(path, key)
    manifest = artefacts.read_manifest(path, "release")
    if not trusted:
        check_sums(path)
        artefacts.verify(path, manifest)
    vocabulary, registry = Vocabulary.load(path / "vocabulary.json"), load(path / "outcomes.yaml")
    calibration = calibrations.from_json(json.loads((path / "calibration.json").read_text(encoding="utf-8")))
    least = manifest.get("least_onnxruntime")
    file = path / MODEL if folded is None else install(path / MODEL, folded)
    session = open_session(file, device=device, threads=threads, least=least)
    if vocabulary.digest != manifest["vocabulary"]:
        raise ValueError(f"{path}: vocabulary.json is not that of {MODEL}; copy the whole folder again")
    if (session.outcomes, session.horizons) != registry.horizons.shape:
        raise ValueError(f"{path}: {MODEL} and outcomes.yaml disagree on outcomes; copy the whole folder again")
    thresholds = Thresholds.load(path / "quality.json")
    release = Release(path, manifest, vocabulary, registry, calibration, thresholds, session)
    if not trusted:
        check_golden(release)
    return release


def check_sums(path: Path) -> None:
    """Compare the files of a folder with its SHA256SUMS.

    Raises:
        ValueError: the list or a file is missing, or a file has other bytes.
    """
    sums = path / SUMS
    if not sums.is_file():
        raise ValueError(f"{sums}: missing; a release has one: copy the whole folder again")
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
    listed = [re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+(?:/[\w.-]+)*)", line) for line in lines]
    if not listed or not all(listed):
        raise ValueError(f"{sums}: not a list of checksums and names; copy the whole folder again")
    names = {match[2]: match[1] for match in listed if match}
    for name in (MODEL, artefacts.MANIFEST):
        if name not in names:
            raise ValueError(f"{sums}: does not list {name}; copy the whole folder again")
    for name, expected in names.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{sums}: names {name}, a file outside the folder; copy the whole folder again")
        if not file.is_file():
            raise ValueError(f"{file}: missing; {SUMS} lists it: copy the whole folder again")
        if artefacts.digest(file) != expected:
            raise ValueError(f"{file}: does not match its checksum in {SUMS}: copy the whole folder again")


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every file, in the form that `sha256sum -c` reads."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    lines = "".join(f"{artefacts.digest(folder / name)}  {name}\n" for name in names if name not in (SUMS, SIGNATURE))
    artefacts.write_bytes(folder / SUMS, lines.encode())


def answer(release: Release, samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Return raw logits and calibrated probabilities, f32 [N, K, H].

    Args:
        release: opened.
        samples: N samples, in any order.
    """
    session = release.session
    shape = (len(samples), session.outcomes, session.horizons)
    logit, probability = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lengths = np.array([bucket(len(sample.token)) for sample in samples], dtype=np.int64)
    for length in np.unique(lengths).tolist():
        rows = max(1, POSITIONS // length)
        members = np.flatnonzero(lengths == length)
        for begin in range(0, len(members), rows):
            at = members[begin : begin + rows]
            found = session.run(*pad([samples[i] for i in at], length=length, rows=rows))
            logit[at], probability[at] = (part[: len(at)] for part in found)
    return logit, probability


def write_golden(
    folder: Path, events: pl.DataFrame, queries: Sequence[golden.Query], logit: Floats, *, tolerance: float
) -> None:
    """Write the golden pair: raw events, and the logits that the trained network gives for them."""
    write(events, folder / "golden.parquet")
    asked = [
        {"subject_id": query.subject, "time": query.time, "logit": row.astype(float).tolist()}
        for query, row in zip(queries, logit, strict=True)
    ]
    artefacts.write_json(folder / "golden.json", {"tolerance": tolerance, "queries": asked})


def check_golden(release: Release) -> None:
    """Score the golden pair from its raw events.

    Raises:
        ValueError: the logits are other ones.
    """
    content = json.loads((release.path / "golden.json").read_text(encoding="utf-8"))
    events = pl.read_parquet(release.path / "golden.parquet").select(EVENTS.names())
    queries = [golden.Query(entry["subject_id"], entry["time"]) for entry in content["queries"]]
    expected = np.array([entry["logit"] for entry in content["queries"]], dtype=np.float32)
    asked = golden.samples(events, release.vocabulary, queries, release.max_tokens)
    found = parity(expected, answer(release, asked)[0])
    if not found.max_abs <= content["tolerance"]:
        raise ValueError(
            f"{release.path}: the golden pair differs by {found.max_abs:.2g}; expected at most "
            f"{content['tolerance']:g}: this onnxruntime or processor gives other numbers; do not use it here"
        )


def recalibrated(
    release: Release,
    calibration: Calibration,
    target: Path,
    report: Path,
    *,
    overwrite: bool = False,
    **facts: object,
) -> None:
    """Write a release that differs in its calibration alone; the source release is untouched.

    Args:
        release: opened.
        calibration: fitted elsewhere, of the same outcomes.
        target: folder to be made.
        report: made by anamnesis evaluate with this calibration; its figures go into the card.
        overwrite: replace a release that stands there.
        facts: what to say of the fit in the manifest and in the card.

    Raises:
        ValueError: the calibration is of other outcomes, or the target may not be written.
    """
    import onnx

    from compress.onnx.calibration import calibrate

    with artefacts.build(target, overwrite=overwrite) as folder:
        for name in release.manifest["files"]:
            if not name.startswith(f"{shipping.TRITON}/"):
                (folder / name).write_bytes((release.path / name).read_bytes())
        model = calibrate(onnx.load_model(str(release.path / MODEL)), calibration._asdict())
        artefacts.write_bytes(folder / MODEL, model.SerializeToString(deterministic=True))
        artefacts.write_json(folder / "calibration.json", calibrations.to_json(calibration))
        if (folder / DIGEST).is_file():
            forget_answers(folder / DIGEST)
        told = json.loads((release.path / "card.json").read_text(encoding="utf-8"))
        told = card.recalibrated(told, facts, report)
        artefacts.write_json(folder / "card.json", told)
        artefacts.write_bytes(folder / "card.md", card.page(told).encode())
        kept = {key: value for key, value in release.manifest.items() if key not in {"kind", "format", "files"}}
        origin = hashlib.sha256((release.path / artefacts.MANIFEST).read_bytes()).hexdigest()
        shape = (release.session.outcomes, release.session.horizons)
        shipping.ship(folder, folder / MODEL, shape, {"recalibrated_from": origin, "vocabulary": kept["vocabulary"]})
        artefacts.write_manifest(folder, "release", **{**kept, "recalibrated": {"from": origin, **facts}})
        write_sums(folder)
        open_release(folder)


def forget_answers(path: Path) -> None:
    """Take probabilities and performance out of a digest: they are those of another calibration."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for held in content["moments"].values():
        held["tables"].pop("probability", None)
    artefacts.write_json(path, {**content, "performance": []})
