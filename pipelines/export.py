"""`anamnesis export`: a fine-tuned run to a release: one ONNX file and its proof."""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from compress.onnx.calibration import calibrate
from compress.onnx.export import export as to_onnx
from compress.onnx.manifest import describe
from compress.onnx.parity import Parity, enforce, parity
from compress.onnx.rewriting import Rewritten
from compress.onnx.session import open_session
from ehr import calibration as calibrations
from ehr.calibration import Calibration
from ehr.model import Anamnesis, OutcomeScorer
from ehr.outcomes.registry import Registry, load
from ehr.quality.thresholds import Thresholds
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary
from pipelines import artefacts, card, digests, golden, shipping, signature, targets
from pipelines.cohort import open_cohort
from pipelines.predict import load_network, logits, probabilities
from pipelines.progress import say
from pipelines.release import MODEL, Release, answer, open_release, write_golden, write_sums
from pipelines.samples import samples_and_labels
from pipelines.targets import REFERENCE, Target

EXAMPLES = """examples:
  anamnesis export finetuned/ release/
  anamnesis export finetuned/ release/ --cohort cohort/ --report report/ --card card.yaml
  anamnesis export finetuned/ release/ --cohort cohort/ --sign key.pem
  anamnesis export compressed/ release/ --cohort cohort/ --target cpu --transport
"""
ARTIFICIAL = 64
"""Artificial patients whose logits are compared, beside those of a cohort."""
LEAST_RUNTIME = "1.20"


class Run(NamedTuple):
    """A fine-tuned run, read."""

    manifest: dict[str, Any]
    network: Anamnesis
    vocabulary: Vocabulary
    registry: Registry
    calibration: Calibration
    thresholds: Thresholds


def read_run(path: Path) -> Run:
    """Read a fine-tuned run.

    Raises:
        ValueError: it is no whole run, or was only pretrained.
    """
    manifest = artefacts.read_manifest(path, "run")
    if manifest["stage"] != "finetune":
        raise ValueError(f"{path}: was only pretrained and knows no outcomes; expected a run of anamnesis finetune")
    artefacts.verify(path, manifest)
    quality = path / "quality.json"
    return Run(
        manifest,
        load_network(path),
        Vocabulary.load(path / "vocabulary.json"),
        load(path / "outcomes.yaml"),
        calibrations.from_json(json.loads((path / "calibration.json").read_text(encoding="utf-8"))),
        Thresholds.load(quality) if quality.is_file() else Thresholds(),
    )


def graph(run: Run) -> Any:  # noqa: ANN401  a ModelProto
    """Return the checked ONNX model of a run, with its calibration inside."""
    scorer = OutcomeScorer(run.network, run.calibration)
    # Two samples of three tokens: sizes that no other axis has.
    example = {
        "token": torch.full((2, 3), 3, dtype=torch.int64),
        "visit": torch.ones((2, 3), dtype=torch.int32),
        "age_days": torch.ones((2, 3)),
        "query_age_days": torch.full((2,), 2.0),
    }
    axes = {name: ("batch", "seq")[: tensor.dim()] for name, tensor in example.items()}
    return calibrate(to_onnx(scorer, example, axes, ("logit", "probability")), run.calibration._asdict())


def export(
    run: Path,
    release: Path,
    *,
    target: Target = REFERENCE,
    cohort: Path | None = None,
    report: Path | None = None,
    card_file: Path | None = None,
    sign: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a release and return its manifest.

    Args:
        run: a fine-tuned run.
        release: folder to be made.
        target: how the weights are stored.
        cohort: where torch and the file are compared too, on the calibration split.
        report: made by anamnesis evaluate, for the card.
        card_file: what people state of the model, YAML.
        sign: the private key to sign it with.
        overwrite: replace a release that stands there.

    Raises:
        ValueError: bad input, the file's logits differ from torch's, or its quality on the cohort is beyond the
            budget; nothing is left behind.
    """
    artefacts.refuse_existing(release, overwrite=overwrite)
    texts = card.stated(card_file)
    if sign is not None:
        signature.private_key(sign)
    if report is not None:
        artefacts.read_manifest(report, "report")
    read = read_run(run)
    limit = int(read.manifest["max_length"])
    say(f"export: {read.manifest['parameters']:,} parameters, {len(read.registry.names)} outcomes")
    reference = graph(read)
    made = targets.smaller(reference, read.network, run, target.plan) if target.plan else None
    model = made.model if made else reference
    with artefacts.build(release, overwrite=overwrite) as folder:
        artefacts.write_bytes(folder / MODEL, model.SerializeToString(deterministic=True))
        for name in ("vocabulary.json", "outcomes.yaml", "calibration.json"):
            shutil.copyfile(run / name, folder / name)
        read.thresholds.save(folder / "quality.json")
        events = golden.patients(read.vocabulary)
        queries = golden.latest(events)
        asked = golden.samples(events, read.vocabulary, queries, limit)
        # A file that rounds is held to its own answers, not to the wide bound within which it keeps to torch.
        expected = own(read, folder, asked) if made else logits(read.network, asked)
        tolerance = targets.GOLDEN if made else target.tolerance
        write_golden(folder, events, queries, expected, tolerance=tolerance)
        found = compare(read, folder, comparisons(read, cohort, limit))
        say(f"parity: logits differ from torch by at most {found.max_abs:.2g} over {found.samples:,} samples")
        enforce(found, target.tolerance)
        bring_digest(run, read, folder, cohort)
        if made:
            prove(read, folder, reference.SerializeToString(deterministic=True), made, cohort)
        facts = {
            **describe(model),
            "parameters": describe(reference)["parameters"],
            "least_onnxruntime": target.plan.least_onnxruntime if target.plan else LEAST_RUNTIME,
            "target": target.name,
            "method": method(read.manifest, target),
            "model_bytes": (folder / MODEL).stat().st_size,
            "parity": found._asdict(),
            "trained_on": {key: read.manifest[key] for key in ("cohort", "samples", "pretrained")},
        }
        told = card.record(read.registry, facts, texts, report, disabled=read.manifest["disabled"])
        artefacts.write_json(folder / "card.json", told)
        artefacts.write_bytes(folder / "card.md", card.page(told).encode())
        origin = {"run": artefacts.digest(run / artefacts.MANIFEST), "vocabulary": read.vocabulary.digest}
        shipping.ship(folder, folder / MODEL, read.registry.horizons.shape, origin, device=target.device)
        outcomes = [{"name": o.name, "horizons_days": list(o.horizons_days)} for o in read.registry.outcomes]
        manifest = artefacts.write_manifest(
            folder,
            "release",
            vocabulary=read.vocabulary.digest,
            outcomes=outcomes,
            disabled=read.manifest["disabled"],
            max_tokens=limit,
            run=origin["run"],
            golden={"events": "golden.parquet", "logits": "golden.json", "tolerance": tolerance},
            **facts,
        )
        write_sums(folder)
        if sign is not None:
            signature.sign(folder, sign)
        # Opened as a hospital opens it: checksums, and the golden pair from its raw events.
        open_release(folder)
    return manifest


def bring_digest(path: Path, run: Run, folder: Path, cohort: Path | None) -> None:
    """Copy the run's digest.json; that of an older run is made from the cohort, where it is given."""
    if (path / digests.FILE).is_file():
        shutil.copyfile(path / digests.FILE, folder / digests.FILE)
    elif cohort is not None:
        held, limit = open_cohort(cohort), int(run.manifest["max_length"])
        asked, samples = samples_and_labels(held, "calibration", limit)
        ask = partial(probabilities, run.network, run.calibration)
        found = digests.of_cohort(held, ask, limit, (asked, ask(samples)))
        digests.write(folder / digests.FILE, found)


def comparisons(run: Run, cohort: Path | None, limit: int) -> list[Sample]:
    """Return the samples on which torch and the file are compared."""
    events = golden.patients(run.vocabulary, ARTIFICIAL, seed=1)
    samples = golden.samples(events, run.vocabulary, golden.latest(events), limit)
    if cohort is None:
        return samples
    held = open_cohort(cohort)
    if held.vocabulary.digest != run.vocabulary.digest:
        raise ValueError(f"{cohort}: has another vocabulary than the run; give the cohort it was trained on")
    return samples + samples_and_labels(held, "calibration", limit)[1]


def compare(run: Run, folder: Path, samples: Sequence[Sample]) -> Parity:
    """Compare torch with the file on samples."""
    return parity(logits(run.network, samples), own(run, folder, samples))


def own(run: Run, folder: Path, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
    """Return the file's logits of samples, f32 [N, K, H]."""
    session = open_session(folder / MODEL, threads=torch.get_num_threads())
    # Only the session and the manifest's limit are asked of a release here.
    release = Release(folder, {}, run.vocabulary, run.registry, run.calibration, run.thresholds, session)
    return answer(release, samples)[0]


def prove(run: Run, folder: Path, before: bytes, made: Rewritten, cohort: Path | None) -> None:
    """Write compression.json: layers, sizes and, with a cohort, what the file costs; and say what it gains.

    Raises:
        ValueError: it costs more than the budget.
    """
    content: dict[str, Any] = targets.report(before, (folder / MODEL).read_bytes(), made)
    if cohort is not None:
        held = open_cohort(cohort)
        asked, samples = samples_and_labels(held, targets.SPLIT, int(run.manifest["max_length"]))
        ages = np.array([sample.query_age_days for sample in samples]) / 365.25
        answers = logits(run.network, samples), own(run, folder, samples)
        content["quality"] = targets.quality(held, asked, ages, *answers, run.calibration)
    artefacts.write_json(folder / targets.REPORT, content)
    last = content["sizes"]["model after"]
    say(
        f"size: {last['raw'] / last['packed']:.1f} times smaller than f32 as it is opened, "
        f"{last['raw'] / last['zstd']:.1f} times in zstd"
    )
    say(f"speed over f32, one thread: {targets.speed(before, folder / MODEL, run.vocabulary.size)}")


def method(manifest: Mapping[str, Any], target: Target) -> str:
    """Return how a file came to its weights: what compressed the run, and how the file stores them."""
    compressed = manifest.get("compression", {}).get("method")
    return " ".join(filter(None, [compressed, target.name if target.plan else "fp32"]))


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    parser = argparse.ArgumentParser(
        "anamnesis export",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run of anamnesis finetune")
    parser.add_argument("release", type=Path, help="folder to be made")
    parser.add_argument(
        "--target",
        choices=targets.TARGETS,
        default="reference",
        help="how weights are stored (default: reference, f32)",
    )
    parser.add_argument(
        "--embeddings",
        choices=targets.EMBEDDINGS,
        help="rows of the table of codes, otherwise than the target has them",
    )
    parser.add_argument("--transport", action="store_true", help="write RELEASE.tar.zst beside the release")
    parser.add_argument("--cohort", type=Path, help="compare torch and the file on its calibration split too")
    parser.add_argument("--report", type=Path, help="made by anamnesis evaluate; its figures go into the card")
    parser.add_argument("--card", type=Path, help=f"what people state of the model, YAML: {', '.join(card.STATED)}")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="Ed25519 private key, PEM: adds SHA256SUMS.sig")
    parser.add_argument("--overwrite", action="store_true", help="replace a release that stands there")
    given = parser.parse_args(argv)
    manifest = export(
        given.run,
        given.release,
        target=targets.choose(given.target, given.embeddings),
        cohort=given.cohort,
        report=given.report,
        card_file=given.card,
        sign=given.sign,
        overwrite=given.overwrite,
    )
    size = manifest["model_bytes"] / 1e6
    say(f"{given.release}: {MODEL} of {size:.1f} MB, opset 20; the golden pair holds")
    if given.transport:
        packed = targets.transport(given.release)
        say(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB")
    return 0
