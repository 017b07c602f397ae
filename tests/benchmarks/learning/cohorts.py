"""Cohorts of the learning benchmark, each prepared once by the documented verbs under runs/learning."""

import csv
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from ehr.splits import by_hash, fraction_of
from pipelines import artefacts
from pipelines.cohort import open_cohort, splits
from tests.benchmarks.harness import ROOT, verb

RUNS = ROOT / "runs" / "learning"
SHARED = ROOT.parent / "shared" / "data"
CONFIGS = ROOT / "configs"
DEMO = ROOT / "runs" / "demo"
BUDGETS = (1, 10)
"""Percent of the training patients that keep their labels, beside all of them."""
RARE = (0.0005, 0.01)
"""Training prevalence of the simulator's rare outcomes."""
REJECTED = 3


SMALL = (
    *("--network.width", "64", "--network.heads", "4", "--network.dropout", "0.2"),
    *("--network.encoder_layers", "2", "--network.decoder_layers", "1"),
)
"""A network that two cores train in minutes."""
SHALLOW = (
    *("--network.width", "32", "--network.heads", "2", "--network.encoder_layers", "1"),
    *("--network.decoder_layers", "1", "--network.dropout", "0.2"),
)
"""A network for real data sets of thousands of short records."""


AHEAD = (
    *("--model.optimizer.learning_rate", "2e-3", "--model.corruption.targets", "8"),
    *("--model.auxiliary.hazards", "1.0"),
)
"""Pretraining that asks when each code comes, from which outcomes start; more visits asked for cost little."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one cohort comes about, and how large a network it is read with."""

    source: Path
    """Records."""
    outcomes: Path
    """What is predicted."""
    arguments: tuple[str, ...] = ()
    """Of prepare, beside source, outcomes and splits."""
    mechanism: str = ""
    """Of the simulator; empty for given records."""
    patients: tuple[int, int, int] = (0, 0, 0)
    """Simulated ones that train, that tune and calibrate, and that are held out."""
    tests: tuple[str, ...] = ("held_out",)
    """Splits on which arms are compared."""
    network: tuple[str, ...] = SMALL
    """Size and shape of the network, where they differ from configs/pretrain.yaml."""
    max_length: int = 512
    """Tokens of a sample, at most."""
    epochs: tuple[int, int] = (2, 4)
    """Of pretraining and of fine-tuning."""
    cohort: Path | None = None
    """A prepared cohort that stands there already."""
    pretraining: tuple[str, ...] = AHEAD
    """Settings of pretraining, where they differ from configs/pretrain.yaml."""
    finetuning: tuple[str, ...] = ("--model.optimizer.learning_rate", "2e-3")
    """Settings of fine-tuning on all labels: small networks and few steps bear a high rate."""


HERE = Path(__file__).parent


def simulated(mechanism: str) -> Plan:
    """Return the plan of a simulated cohort: 20,000 train, 10,000 tune and calibrate, 50,000 are held out."""
    return Plan(
        source=RUNS / f"simulator.{mechanism}" / "records",
        outcomes=HERE / "outcomes" / "simulator.yaml",
        mechanism=mechanism,
        patients=(20_000, 10_000, 50_000),
    )


PLANS = {
    "simulator.semi_markov": simulated("semi_markov"),
    "simulator.frailty": simulated("frailty"),
    # What `make demo` left: the first mechanism, 36,000 patients, for the gain of pretraining alone.
    "simulator.demo": Plan(
        source=DEMO / "records",
        outcomes=CONFIGS / "demo" / "outcomes.yaml",
        cohort=DEMO / "cohort",
        network=(*SHALLOW[:-1], "0.1"),
        epochs=(1, 2),
        pretraining=(*AHEAD, "--model.optimizer.learning_rate", "3e-3"),
        max_length=192,
    ),
    "physionet2012": Plan(
        network=(*SHALLOW[:-1], "0.5"),
        max_length=512,
        epochs=(1, 2),
        finetuning=("--model.optimizer.learning_rate", "5e-4"),
        source=SHARED / "physionet2012",
        outcomes=HERE / "outcomes" / "physionet2012.yaml",
        arguments=("--columns", str(CONFIGS / "columns" / "physionet2012.yaml"), "--changes"),
    ),
    "diabetes130": Plan(
        network=(*SHALLOW[:-1], "0.3"),
        max_length=128,
        epochs=(1, 1),
        finetuning=("--model.optimizer.learning_rate", "5e-4"),
        source=SHARED / "diabetes130",
        outcomes=HERE / "outcomes" / "diabetes130.yaml",
        arguments=("--columns", str(CONFIGS / "columns" / "diabetes130.yaml"), "--exclude", "RACE//*"),
    ),
    "synthea_large": Plan(
        source=SHARED / "synthea_large",
        outcomes=CONFIGS / "outcomes" / "synthea_large.yaml",
        arguments=("--exclude", "RACE//*", "--exclude", "ETHNICITY//*", "--exclude", "SITE//*"),
        tests=("held_out", "external"),
        network=(*SHALLOW[:-1], "0.1"),
        max_length=192,
        epochs=(1, 1),
        pretraining=(*AHEAD, "--model.optimizer.learning_rate", "3e-3"),
    ),
}


def ready(name: str, labelled: int = 100) -> Path:
    """Return a prepared cohort, made where an earlier call did not.

    Args:
        name: of PLANS.
        labelled: percent of the training patients that keep their labels.
    """
    plan, folder = PLANS[name], RUNS / name
    whole = cohort_of(name)
    if plan.mechanism:
        shape = ("--patients", str(sum(plan.patients)), "--seed", "1", "--mechanism", plan.mechanism)
        once(verb("simulate", plan.source, *shape), plan.source)
    given = partial(verb, "prepare", plan.source)
    arguments = ("--outcomes", plan.outcomes, *plan.arguments)
    table = None if plan.cohort else split_table(name)
    chosen = ("--splits", table, "--whole-tuning") if table else ()
    once(given(whole, *arguments, *chosen), whole)
    if labelled == 100:
        return whole
    part = folder / f"cohort-{labelled}"
    if not (part / "manifest.json").is_file():
        relabelled(whole, part, labelled)
    return part


def relabelled(whole: Path, part: Path, labelled: int) -> None:
    """Make a cohort of the same files with other splits: all but some training patients stand apart, by a hash."""
    made = artefacts.partial(part)
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(whole, made, copy_function=os.link)
    out = (pl.col("split") == "train") & (pl.col("share") >= labelled / 100)
    held = splits(open_cohort(whole))
    share = [fraction_of(subject, 1_000) for subject in held["subject_id"].to_list()]
    held = held.with_columns(pl.Series("share", share))
    held = held.with_columns(split=pl.when(out).then(pl.lit("apart")).otherwise("split")).drop("share")
    (made / "splits.parquet").unlink()
    held.write_parquet(made / "splits.parquet")
    made.rename(part)


def cohort_of(name: str) -> Path:
    """Return where a cohort stands, or will."""
    return PLANS[name].cohort or RUNS / name / "cohort"


def once(command: Sequence[str], made: Path) -> None:
    """Run a verb whose artefact is not there; rows that the gates list and leave out are no failure."""
    if not (made / "manifest.json").is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, cwd=ROOT, check=False).returncode
        if done not in (0, REJECTED):
            raise SystemExit(done)


def split_table(name: str) -> Path | None:
    """Return a table of splits where neither the source nor the default hash gives what is asked for."""
    plan, path = PLANS[name], RUNS / name / "splits.csv"
    if name == "synthea_large":
        return None
    if path.is_file():
        return path
    if plan.mechanism:
        subject = np.arange(sum(plan.patients), dtype=np.int64)
        learn, tune, _ = plan.patients
        half = np.where(subject < learn + tune // 2, "tuning", "calibration")
        split = np.where(subject < learn, "train", np.where(subject < learn + tune, half, "held_out"))
    elif name == "physionet2012":
        sets = [pl.read_csv(plan.source / f"outcomes_set_{part}.csv")["RecordID"].to_numpy() for part in "ab"]
        learnt = by_hash(sets[0], fractions=(0.8, 0.1, 0.1, 0.0))
        subject, split = np.concatenate(sets), np.concatenate([learnt, np.full(len(sets[1]), "held_out")])
    else:
        frame = pl.read_parquet(plan.source / "encounters.parquet", columns=["patient_nbr"])
        subject = frame["patient_nbr"].unique().sort().to_numpy()
        split = by_hash(subject, fractions=(0.64, 0.08, 0.08, 0.2))
    write_splits(path, subject.tolist(), split.tolist())
    return path


def write_splits(path: Path, subject: Sequence[int], split: Sequence[str]) -> None:
    """Write a table of splits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("subject_id", "split"))
        rows.writerows(zip(subject, split, strict=True))


def rare_outcomes(name: str) -> list[str]:
    """Return the outcomes that count as rare: synthea's band, or the simulator's by training prevalence."""
    if name == "synthea_large":
        bands = pl.read_csv(SHARED / name / "tasks.csv")
        return bands.filter(pl.col("band") == "rare")["name"].to_list()
    if not PLANS[name].mechanism:
        return []
    counted = pl.read_parquet(cohort_of(name) / "prevalence.parquet").filter(pl.col("split") == "train")
    highest = counted.group_by("outcome").agg(pl.col("prevalence").max())
    return highest.filter(pl.col("prevalence").is_between(*RARE))["outcome"].sort().to_list()
