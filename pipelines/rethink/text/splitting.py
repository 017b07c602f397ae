"""Completions to steps and answers: by regular expressions, chain-of-thought and least-to-most alike."""

import re
from collections.abc import Sequence

from pipelines.rethink.paths import Step

SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
ABBREVIATIONS = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Inc|Ltd|Co|U\.S|U\.K|e\.g|i\.e|approx)|\b[A-Z])\.$")
SUBQUESTION = re.compile(r"^\s*Q\d+[.:]\s*")
FINAL = re.compile(r"^\s*final answer\s*:\s*", re.IGNORECASE)
CONCLUSION = re.compile(r"^(?:thus|therefore|so|yes|no)\b", re.IGNORECASE)
SAYS_ANSWER = re.compile(r"\banswer is\b", re.IGNORECASE)
STATED = re.compile(r"\banswer(?: to (?:the|this) question)? is[:,]?\s*[\"'*(]*\s*(yes|no|true|false)\b", re.IGNORECASE)
OPENING = re.compile(r"^[\"'*(\s]*(yes|no|true|false)\b", re.IGNORECASE)
YES, NO = "yes", "no"
MEANS = {"yes": YES, "true": YES, "no": NO, "false": NO}


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; an initial or a known abbreviation ends none."""
    parts: list[str] = []
    for part in SENTENCE.split(" ".join(text.split())):
        if parts and ABBREVIATIONS.search(parts[-1]):
            parts[-1] += " " + part
        elif part:
            parts.append(part)
    return parts


def concludes(sentence: str, *, answers_too: bool = True) -> bool:
    """Tell whether a sentence draws a conclusion, or states the answer, rather than a fact."""
    return bool(CONCLUSION.match(sentence)) or (answers_too and bool(SAYS_ANSWER.search(sentence)))


def steps(completion: str) -> list[Step]:
    """Cut a completion into its statements, conclusions left out.

    In least-to-most completions a sub-question (`Q1. ...`) is the context of the statement that answers it, carried
    in `payload`; everything from `Final answer:` on is conclusion.
    """
    made: list[Step] = []
    context: str | None = None
    for line in completion.splitlines():
        if FINAL.match(line):
            break
        if SUBQUESTION.match(line):
            context = SUBQUESTION.sub("", line).strip()
            continue
        held = [sentence for sentence in sentences(line) if context or not concludes(sentence)]
        # The answer to a sub-question may begin with yes or no, and states a fact all the same.
        made += [Step(_bare(sentence) if context else sentence, payload=context) for sentence in held]
    return [step for step in made if re.search(r"\w", step.text)]


def _bare(sentence: str) -> str:
    """Return a sentence without the yes or no that it begins with."""
    return re.sub(r"^(?:yes|no)\s*,\s*(\w)", lambda found: found[1].upper(), sentence, flags=re.IGNORECASE)


def yes_or_no(completion: str) -> str | None:
    """Return the answer that a completion states, None where it states neither or hedges."""
    found = STATED.findall(completion)
    if found:
        return MEANS[found[-1].lower()]
    lines = [line for line in completion.splitlines() if line.strip()]
    if not lines:
        return None
    place = next((at for at, line in enumerate(lines) if FINAL.match(line)), None)
    if place is not None:
        said = [FINAL.sub("", lines[place]), *lines[place + 1 :]]
        opened = [OPENING.match(line) for line in said]
        return next((MEANS[match[1].lower()] for match in opened if match), None)
    match = OPENING.match(sentences(lines[-1])[-1]) or OPENING.match(lines[0])
    return MEANS[match[1].lower()] if match else None


def short_answer(completion: str) -> str | None:
    """Return what follows the last `answer is`, up to the end of the sentence, for open questions."""
    found = re.findall(r"\banswer is[:,]?\s*(.+)", completion, flags=re.IGNORECASE)
    said = sentences(found[-1]) if found else []
    return said[0].strip(" \"'.") or None if said else None


def normalised(answer: str) -> str:
    """Return an answer as exact match compares it: lower case, no articles, no punctuation, single spaces."""
    bare = re.sub(r"[^\w\s]", "", answer.lower())
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def chosen(completion: str, options: Sequence[str]) -> str | None:
    """Return the option that a completion names last as its answer, None where it names none."""
    said = short_answer(completion)
    held = {normalised(option): option for option in options}
    return held.get(normalised(said)) if said else None
