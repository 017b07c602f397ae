"""What is fitted on labelled questions, kept, and used on others; and what all arms decide, as a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines import artefacts
from pipelines.rethink.crossing import MAJORITY, SOURCES, Arm, Crossing, evaluate, fit, plain, with_evidence
from pipelines.rethink.evidence import Support
from pipelines.rethink.faithfulness import every
from pipelines.rethink.polling import Poll, ballot
from pipelines.rethink.sources import Fitted
from pipelines.rethink.text.files import Question
from pipelines.rethink.text.pools import Kind
from pipelines.rethink.voting import clipped

KIND, FIT, OPTIONS = "rethought", "fitted.json", ("yes", "no")
VOTES = pl.Schema(
    {
        "question_id": pl.String(),
        "arm": pl.String(),
        "answer": pl.String(),
        "tied": pl.List(pl.String()),
        "share": pl.Float64(),
        "right": pl.Float64(),
    }
)
Json = dict[str, Any]
Floats = npt.NDArray[np.float64]


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


def fitted_arms(held: Poll, truth: Sequence[str] | None, support: Floats, known: Known) -> list[Arm]:
    """Return the arms of an earlier fit on questions that it may never have seen."""
    first = None if truth is None else np.array([answer == held.options[0] for answer in truth])
    made: list[Arm] = []
    for name, fitted in known.arms.items():
        score = fitted.score(ballot(held, support))
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
    return pl.DataFrame(rows, schema=VOTES, orient="row")


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
    support: Floats,
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


def fitted_content(held: Poll, truth: Sequence[str], support: Floats, settings: Rethinking, primary: str) -> Json:
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
    held: Json = {**content, "crossing": Crossing(**content["crossing"])}
    return Rethinking(**held)
