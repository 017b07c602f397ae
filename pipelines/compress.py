"""`anamnesis compress`: a fine-tuned run to a smaller one, with what that cost."""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import numpy as np
import safetensors.numpy
from transformers.utils.logging import disable_progress_bar

from compress.gates import Budget, enough
from compress.layers import as_matrix
from compress.report import CompressionReport, lines, to_json
from compress.sizes import recovered
from ehr import calibration as calibrations
from ehr.model import Anamnesis
from pipelines import artefacts
from pipelines.callbacks.checkpoints import Stopped
from pipelines.cohort import Cohort, open_cohort
from pipelines.compression import Method, Work, with_sizes
from pipelines.export import Run, read_run
from pipelines.finetune import calibrate
from pipelines.predict import logits
from pipelines.progress import say
from pipelines.sacrifice import Answered, sacrifice, summary
from pipelines.samples import samples_and_labels
from pipelines.targets import CLAIMED
from pipelines.training import STOPPED

EXAMPLES = """examples:
  anamnesis compress tuned/ cohort/ compressed/ --config configs/compress/sparsegpt.yaml
  anamnesis compress tuned/ cohort/ compressed/ --config configs/compress/sparsegpt.yaml \\
      --method.init_args.settings.sparsity 0.7 --budget.auroc_drop 0.01
  anamnesis compress tuned/ cohort/ ternary/ --config configs/compress/ternary.yaml
  anamnesis export ternary/ release/ --cohort cohort/ --target cpu
"""
REPORT, BLOCKS = "compression.json", "blocks"
TERNARY_BITS = 2
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Settings of one compression."""

    method: Method
    """How: a class by its path, such as pipelines.compression.OneShot, and its settings."""
    budget: Budget = field(default_factory=Budget)
    """How much worse the network may become."""
    gate_split: str = "tuning"
    """Where the budget is held; held_out stays untouched for anamnesis evaluate."""
    bootstrap: int = 1000
    """Resamples of patients behind the intervals in the report."""
    seed: int = 0
    """Of the resamples."""


class Refused(ValueError):  # noqa: N818  the name says what happened
    """A network that lost more than its budget."""


def settings(config: Path, rest: Sequence[str]) -> Compression:
    """Read the configuration.

    Raises:
        ValueError: a key or a value is not known.
    """
    if not config.is_file():
        raise ValueError(f"{config}: no such file; expected settings in YAML, such as configs/compress/sparsegpt.yaml")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Compression)
    try:
        held = parser.instantiate(parser.parse_args(["--config", str(config), *rest]))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())[:400]}; mend it there or in the command") from None
    return Compression(**{name: getattr(held, name) for name in Compression.__dataclass_fields__})


class Measured(NamedTuple):
    """What a compression did and what it cost, as the report holds it."""

    report: CompressionReport
    content: Json


def compress(
    run: Path, cohort: Path, output: Path, made: Compression, *, overwrite: bool = False, gate: bool = True
) -> Json:
    """Compress a run, hold the budget, write the new run and return its manifest; the run given stays as it is.

    Args:
        run: of anamnesis finetune.
        cohort: it was trained on.
        output: folder to be made.
        made: settings.
        overwrite: replace a run that stands there.
        gate: whether a network beyond the budget is refused.

    Raises:
        Refused: beyond the budget; no run is written, the report stands beside it.
        ValueError: bad input or setting.
    """
    artefacts.refuse_existing(output, overwrite=overwrite)
    read, held = read_run(run), open_cohort(cohort)
    if held.vocabulary.digest != read.vocabulary.digest:
        raise ValueError(f"{cohort}: has another vocabulary than the run; give the cohort it was trained on")
    if held.registry != read.registry:
        raise ValueError(f"{cohort}: has other outcomes than the run; give the cohort it was trained on")
    asked = samples_and_labels(held, made.gate_split, int(read.manifest["max_length"]))
    if gate:
        # Told before the work and not after it.
        enough(int(((asked[0].label == 1).sum(0) >= made.budget.least_positives).sum()), made.budget)
    dense = Answered(logits(read.network, asked[1]), read.calibration)
    before = {name: value.detach().clone() for name, value in read.network.named_parameters()}
    with artefacts.build(output, overwrite=overwrite, resume=True) as folder:
        try:
            told = made.method.compress(Work(read.network, held, folder / BLOCKS))
            told = with_sizes(told, before, read.network)
            manifest = write_run(folder, run, read, held, told)
            after = Answered(logits(read.network, asked[1]), calibrations.from_json(load(folder / "calibration.json")))
            age = np.array([sample.query_age_days for sample in asked[1]]) / 365.25
            cost = sacrifice(held, asked[0], age, dense, after, bootstrap=made.bootstrap, seed=made.seed)
            content = {
                "compression": to_json(told),
                "budget": asdict(made.budget),
                "split": made.gate_split,
                "quality": plain(summary(cost, made.budget if gate else None)),
            }
            for line in lines(told):
                say(line)
            refuse(content, output)
        except ValueError:
            # A mistake, or a network beyond its budget: nothing here is worth going on from.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder / BLOCKS, ignore_errors=True)
        artefacts.write_json(folder / REPORT, content)
        return artefacts.write_manifest(folder, "run", **manifest)


def write_run(folder: Path, run: Path, read: Run, cohort: Cohort, told: CompressionReport) -> Json:
    """Write the network and what belongs to it, with a calibration of its own; return the manifest's fields."""
    disable_progress_bar()
    read.network.save_pretrained(folder / "model")
    claim(folder, read.network, told)
    for name in ("vocabulary.json", "outcomes.yaml", "quality.json", "config.yaml"):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    calibrate(read.network, cohort, folder)
    kept = {name: value for name, value in read.manifest.items() if name not in {"kind", "format", "files"}}
    return {
        **kept,
        "compression": {
            "method": told.method,
            "settings": dict(told.settings),
            "sparsity": told.sparsity,
            "from": artefacts.digest(run / artefacts.MANIFEST),
        },
    }


def claim(folder: Path, network: Anamnesis, told: CompressionReport) -> None:
    """Write the codes and scales of ternary layers, which anamnesis export holds the weights against."""
    codes: dict[str, Any] = {}
    for layer in told.layers:
        if layer.bits == TERNARY_BITS:
            found = recovered(as_matrix(network.get_submodule(layer.name)).numpy())
            assert found is not None, layer.name
            codes |= {f"{layer.name}.codes": found.codes, f"{layer.name}.scale": found.scale}
    if codes:
        artefacts.write_bytes(folder / CLAIMED, safetensors.numpy.save(codes))


def refuse(content: Json, output: Path) -> None:
    """Refuse a network beyond its budget; its report is left beside the output.

    Raises:
        Refused: which budget broke, and where the report stands.
    """
    breaches = content["quality"]["breaches"]
    report = output.with_name(f"{output.name}.refused.json")
    if not breaches:
        report.unlink(missing_ok=True)
        return
    artefacts.write_json(report, content)
    raise Refused(f"{'; '.join(breaches)}; no run is written, the report is {report}: prune less, or allow more")


def load(path: Path) -> Json:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:  # noqa: ANN401  nested containers
    """Return nested values with what is no number as null."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def show(output: Path) -> None:
    """Print what was lost."""
    content = load(output / REPORT)
    for row in content["quality"]["scores"]:
        if row["outcome"] == "macro" and row["metric"].endswith("_over_dense"):
            interval = "" if row["lower"] is None else f" ({row['lower']:+.4f} to {row['upper']:+.4f})"
            metric = row["metric"].removesuffix("_over_dense").upper()
            say(f"{content['split']}: macro-{metric} {row['value']:+.4f}{interval}, compressed minus dense")


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis compress",
        description=f"{__doc__} Any key of the configuration can be given here too. Run again after an interruption, "
        "the same command goes on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("run", type=Path, help="run of anamnesis finetune")
    made.add_argument("cohort", type=Path, help="the cohort it was trained on")
    made.add_argument("output", type=Path, help="run to be made")
    made.add_argument("--config", type=Path, required=True, help="settings in YAML, such as those in configs/compress")
    made.add_argument("--no-gate", action="store_true", help="write the run whatever it lost")
    made.add_argument("--overwrite", action="store_true", help="replace a run that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; exit code 2 where the budget does not hold."""
    given, rest = parser().parse_known_args(argv)
    made = settings(given.config, rest)
    try:
        manifest = compress(
            given.run, given.cohort, given.output, made, overwrite=given.overwrite, gate=not given.no_gate
        )
    except Stopped:
        say("stopped; run the same command again to go on")
        return STOPPED
    show(given.output)
    zeros = manifest["compression"]["sparsity"]
    say(f"wrote {given.output}: {manifest['compression']['method']}, {zeros:.1%} zeros in the compressed layers")
    return 0
