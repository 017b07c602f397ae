"""Models that answer questions about patients: a run in torch, a release in onnxruntime, by the same few words."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import calibration as calibrations
from ehr.calibration import Calibration
from ehr.outcomes.registry import Registry, load
from ehr.timelines import Sample, Shard, Timelines, build
from ehr.vocabulary import Vocabulary
from pipelines import artefacts
from pipelines import release as releases
from pipelines.cohort import Cohort, events, timelines
from pipelines.progress import Track
from pipelines.samples import Questions, samples_of

CHUNK = 2048
Floats = npt.NDArray[np.float32]


class Model(NamedTuple):
    """A model, opened.

    Attributes:
        path: of the run or release.
        kind: run or release.
        digest: SHA-256 of its weights' file, or of its ONNX file.
        manifest: of the run or release.
        registry: outcomes it knows, the axes K and H.
        vocabulary: what it reads.
        calibration: of its logits.
        max_length: tokens of a sample, at most.
        logits: from samples to raw logits f32 [N, K, H].
    """

    path: Path
    kind: str
    digest: str
    manifest: dict[str, Any]
    registry: Registry
    vocabulary: Vocabulary
    calibration: Calibration
    max_length: int
    logits: Callable[[Sequence[Sample]], Floats]


class Answers(NamedTuple):
    """Answers to N questions.

    Attributes:
        logit: raw, f32 [N, K, H] in the model's axes.
        age_years: at the prediction time; NaN where no birth is known, f64 [N].
    """

    logit: Floats
    age_years: npt.NDArray[np.float64]


def open_model(path: Path) -> Model:
    """Open a fine-tuned run or a release.

    Raises:
        ValueError: it is neither, or it is not whole.
    """
    manifest_file = path / artefacts.MANIFEST
    kind = ""
    if manifest_file.is_file():
        try:
            kind = json.loads(manifest_file.read_text(encoding="utf-8")).get("kind", "")
        except (ValueError, AttributeError):
            raise ValueError(f"{manifest_file}: not JSON; the artefact is damaged, make it again") from None
    if kind == "release":
        return open_release(path)
    manifest = artefacts.read_manifest(path, "run")
    if manifest.get("stage") != "finetune":
        raise ValueError(f"{path}: is pretrained only and knows no outcomes; expected a run of anamnesis finetune")
    return open_run(path, manifest)


def open_run(path: Path, manifest: dict[str, Any]) -> Model:
    """Open a fine-tuned run; torch is loaded here."""
    from pipelines.predict import load_network, logits

    network = load_network(path)
    content = json.loads((path / "calibration.json").read_text(encoding="utf-8"))
    return Model(
        path,
        "run",
        artefacts.digest(path / "model" / "model.safetensors"),
        manifest,
        load(path / "outcomes.yaml"),
        Vocabulary.load(path / "vocabulary.json"),
        calibrations.from_json(content),
        network.config.max_tokens,
        # Small batches stay in the processor's caches.
        lambda samples: logits(network, samples, batch_tokens=4096),
    )


def open_release(path: Path) -> Model:
    """Open a release; it is checked against its checksums and its golden pair."""
    held = releases.open_release(path)
    return Model(
        path,
        "release",
        held.model,
        held.manifest,
        held.registry,
        held.vocabulary,
        held.calibration,
        held.max_tokens,
        lambda samples: releases.answer(held, samples)[0],
    )


def records(cohort: Cohort, vocabulary: Vocabulary, subjects: npt.NDArray[np.int64]) -> Timelines:
    """Return timelines in a model's own tokens: those of the cohort, or made anew where it has another vocabulary."""
    if vocabulary.digest == cohort.vocabulary.digest:
        return timelines(cohort)
    asked = pl.LazyFrame({"subject_id": np.unique(subjects)})
    shards: list[Shard] = []
    parts = events(cohort)
    with Track("tokenising with the model's vocabulary, shards", len(parts)) as bar:
        for part in parts:
            held = part.with_row_index("at").join(asked, on="subject_id", how="semi").sort("at").drop("at").collect()
            if len(held):
                shards.append(Shard(build(held.with_columns(pl.col("code").cast(pl.Categorical)), vocabulary)))
            bar.advance()
    return Timelines(shards)


def ask(model: Model, cohort: Cohort, asked: Questions, label: str) -> Answers:
    """Let a model answer questions.

    Args:
        model: opened.
        cohort: whose events are read, up to each prediction time.
        asked: N questions.
        label: what the progress bar says.
    """
    source = records(cohort, model.vocabulary, asked.subject)
    samples = samples_of(source, asked, model.max_length)
    found: list[Floats] = []
    with Track(label, len(samples)) as bar:
        # Samples of like length share a batch, so chunks are cut from the sorted ones.
        order = np.argsort([len(sample.token) for sample in samples], kind="stable")
        for begin in range(0, len(order), CHUNK):
            part = [samples[at] for at in order[begin : begin + CHUNK]]
            found.append(model.logits(part))
            bar.advance(len(part))
    logit = np.concatenate(found)
    born = np.array([source.record(sample.subject).birth is not None for sample in samples])
    age = np.array([sample.query_age_days for sample in samples]) / 365.25
    return Answers(logit[np.argsort(order, kind="stable")], np.where(born, age, np.nan))


class Match(NamedTuple):
    """One outcome and horizon that both a model and a cohort have: names, and places in the axes of either."""

    outcome: str
    horizon_days: int
    model: tuple[int, int]
    cohort: tuple[int, int]


def match(model: Registry, cohort: Registry) -> tuple[list[Match], list[str]]:
    """Match outcomes by name and horizon, in the cohort's order.

    Returns:
        The matches, and sentences on what one of them lacks or defines otherwise.

    Raises:
        ValueError: nothing matches.
    """
    if not cohort.names:
        raise ValueError("the cohort has no outcomes; prepare it with --outcomes outcomes.yaml of the model")
    there = {
        (name, int(days)): (k, h)
        for k, name in enumerate(model.names)
        for h, days in enumerate(model.horizons[k])
        if days >= 0
    }
    found = [
        Match(name, int(days), there[name, int(days)], (k, h))
        for k, name in enumerate(cohort.names)
        for h, days in enumerate(cohort.horizons[k])
        if (name, int(days)) in there
    ]
    if not found:
        raise ValueError(
            f"outcomes: the model knows {few(model.names)}, the cohort is labelled for {few(cohort.names)}, and no "
            "name with its horizon is in both; prepare the cohort with --outcomes outcomes.yaml of the model"
        )
    both = {(held.outcome, held.horizon_days) for held in found}
    notes: list[str] = []
    lacking = [f"{name} ({days} days)" for name, days in there if (name, days) not in both]
    if lacking:
        notes.append(f"The cohort is not labelled for {few(lacking)}, which the model knows; it is left out.")
    names = {held.outcome for held in found}
    others = {outcome.name: outcome for outcome in model.outcomes}
    changed = [
        own.name
        for own in cohort.outcomes
        if own.name in names
        and (own.any_of, own.gap_days, own.incident_only)
        != (others[own.name].any_of, others[own.name].gap_days, others[own.name].incident_only)
    ]
    if changed:
        notes.append(f"The cohort defines {few(changed)} by other codes, gap or rule than the model was trained on.")
    return found, notes


def few(names: Sequence[str]) -> str:
    """Return names as a list in words, cut after five."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
