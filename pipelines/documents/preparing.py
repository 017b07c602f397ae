"""`anamnesis documents prepare`: documents read, checked against their catalogue, and split by group."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipelines import artefacts
from pipelines.documents import catalogue as catalogues
from pipelines.documents import checks, schema, splits
from pipelines.documents.corpus import DOCUMENTS_FILE, write_catalogue
from pipelines.documents.simulator import bayes
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.simulator.structure import structure
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis documents prepare documents.parquet corpus/ --catalogue questions.yaml
  anamnesis documents prepare maud/ corpus/ --split official          MAUD's CSV files; their split as published
  anamnesis documents prepare generated corpus/ --groups 60           the generated corpus, of this many groups
"""
GENERATED = "generated"


def prepare(  # noqa: PLR0913  the command's own arguments
    source: str,
    target: Path,
    *,
    catalogue: Path | None = None,
    split: str = "contract",
    fractions: Sequence[float] = splits.FRACTIONS,
    seed: int = 0,
    counterfactuals: str = "leave",
    allow_missing_classes: bool = False,
    groups: int = 152,
    length: float = 1.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a corpus and return its manifest.

    Args:
        source: documents in a form that `schema.read` knows, or `generated`.
        target: folder to be made.
        catalogue: questions, YAML or JSON; what the documents imply where None.
        split: contract or official.
        fractions: of the groups to train, dev and test.
        seed: of the split.
        counterfactuals: leave or train.
        allow_missing_classes: an option without a row in a scored split is listed instead of refused.
        groups: of the generated corpus.
        length: scale of its passages.
        overwrite: replace a corpus that stands there.

    Raises:
        ValueError: the documents break a rule; all violations are counted, the first rows named.
    """
    artefacts.refuse_existing(target, overwrite=overwrite)
    best = None
    if source == GENERATED:
        settings = Corpus(groups=groups, seed=seed, length=length)
        made = simulate(settings)
        frame, known = made.documents.lazy(), made.catalogue
        best = bayes.headline(structure(settings.cut), settings.noise)
        say(f"Bayes AUPR of the corpus: {best:.3f}, the best minority AUPR of any reader on endless documents")
    else:
        frame = schema.read(Path(source))
        known = catalogues.load(catalogue) if catalogue else implied(frame, Path(source))
    frame = catalogues.complete(frame, known)
    checks.hold(checks.check(frame, known))
    assigned = splits.assign(frame, mode=split, fractions=fractions, seed=seed, counterfactuals=counterfactuals)
    found = checks.check(assigned.documents.lazy(), known, split, allow_missing_classes=allow_missing_classes)
    checks.hold(found)
    if assigned.left_out:
        say(f"note: {assigned.left_out:,} rows are left out: edited passages that would put a group on two sides")
    if assigned.unsourced:
        say(f"note: of {assigned.unsourced:,} edited rows nobody knows the group; they are in split train")
    if found.skipped:
        say(f"note: {len(found.skipped):,} options have no row in a scored split; their questions are not scored there")
    counted = assigned.documents.group_by("split").agg(pl.len()).sort("split")
    with artefacts.build(target, overwrite=overwrite) as folder:
        assigned.documents.write_parquet(folder / DOCUMENTS_FILE)
        write_catalogue(known, folder)
        return artefacts.write_manifest(
            folder,
            "documents",
            catalogue=known.digest,
            split=split,
            seed=seed,
            counterfactuals=counterfactuals,
            questions=len(known.questions),
            rows={str(name): int(number) for name, number in counted.iter_rows()},
            skipped=[list(row) for row in found.skipped],
            left_out=assigned.left_out,
            unsourced=assigned.unsourced,
            duplicates=found.duplicates,
            bayes_aupr=best,
        )


def implied(frame: pl.LazyFrame, source: Path) -> catalogues.Catalogue:
    """Return the catalogue of LegalBench's task pages where they stand beside, else what the documents imply."""
    folder = source if source.is_dir() else source.parent
    sheet = folder / schema.SHEET
    return catalogues.legalbench(sheet) if sheet.is_file() else catalogues.from_frame(frame)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis documents prepare",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("source", help=f"documents with answers, or `{GENERATED}`")
    made.add_argument("corpus", type=Path, help="folder to be made")
    made.add_argument("--catalogue", type=Path, help="questions and options, YAML; else as the documents imply")
    made.add_argument("--split", choices=splits.MODES, default="contract", help="by group (default), or as published")
    made.add_argument("--fractions", type=float, nargs=3, default=list(splits.FRACTIONS), help="train, dev, test")
    made.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    made.add_argument("--counterfactuals", choices=("leave", "train"), default="leave",
                      help="edited passages of no known group: left out (default), or trained on")  # fmt: skip
    made.add_argument("--allow-missing-classes", action="store_true", help="list options that a scored split lacks")
    made.add_argument("--groups", type=int, default=152, help="of the generated corpus (default: 152)")
    made.add_argument("--length", type=float, default=1.0, help="scale of its passages (default: 1)")
    made.add_argument("--overwrite", action="store_true", help="replace a corpus that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given = vars(parser().parse_args(argv))
    manifest = prepare(given.pop("source"), given.pop("corpus"), **given)
    rows = ", ".join(f"{name} {number:,}" for name, number in manifest["rows"].items())
    say(f"{manifest['questions']} questions; rows: {rows}")
    return 0
