"""Simulated discharge papers with their questions: `python -m pipelines.documents.example FOLDER`.

No patient is in them. Sentences are ours, answers are drawn at random, and what counts is told by order, negation or
scope as real notes tell it (`denies smoking`, `smoked until 2011`), with sentences beside that speak of relatives.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.artefacts import write_bytes

NOTES = "notes.jsonl"
ANSWERS: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "social history": {
        "smoking": {
            "never": ("Denies smoking, past or present.", "Has never smoked; her husband does."),
            "former": (
                "Smoked for twenty years and stopped in 2011.",
                "Does not smoke now, but did until last spring.",
            ),
            "current": (
                "Smokes half a pack a day and does not wish to stop.",
                "Has gone back to smoking since the spring.",
            ),
        },
        "alone": {
            "no": ("Lives with a daughter, who works by day.", "Does not live alone: a sister shares the flat."),
            "yes": (
                "Lives alone on the third floor; a daughter calls by.",
                "Since her sister moved out she lives alone.",
            ),
        },
    },
    "goals of care": {
        "code": {
            "full code": (
                "Wishes resuscitation and, if needed, intubation.",
                "Code status full; he changed his earlier refusal.",
            ),
            "no resuscitation": (
                "Refuses resuscitation; treatment on the ward goes on.",
                "No resuscitation, but intubation for a reversible cause.",
            ),
            "comfort only": (
                "Asks for comfort alone; resuscitation is not wished.",
                "Treatment is stopped, comfort goes on.",
            ),
        },
        "proxy": {
            "no": ("No proxy is named; the form was handed out.", "Has not named a proxy yet."),
            "yes": ("Names a brother as proxy, not the wife.", "The proxy form is signed and in the record."),
        },
    },
    "discharge plan": {
        "follow_up": {
            "within 7 days": (
                "To be seen in clinic within 7 days, not 30.",
                "Clinic visit on Monday next; laboratory in 30 days.",
            ),
            "8 to 30 days": ("To be seen in clinic in 3 weeks.", "Laboratory within 7 days, clinic in 30 days."),
            "none": ("No visit is planned; call if the fever comes back.", "Follow-up is left to the family doctor."),
        },
        "anticoagulant": {
            "no": ("Apixaban was stopped and is not to be taken again.", "Not on an anticoagulant, aspirin alone."),
            "yes": (
                "Apixaban was held and is to be taken again from tomorrow.",
                "Goes home on warfarin; aspirin was stopped.",
            ),
        },
    },
}
"""Sentences by text type, question and option."""
FILLER: Mapping[str, tuple[str, ...]] = {
    "social history": (
        "Worked as a carpenter.", "Walks with a stick outdoors.", "A brother smoked and died of lung cancer.",
        "Drinks wine on Sundays.", "Came from the coast as a child.", "Reads without glasses.",
    ),
    "goals of care": (
        "The talk took place with a nurse present.", "Understands the illness well.", "Would like to go home soon.",
        "The family was told on the ward.", "An interpreter was not needed.", "Asked about the next steps.",
    ),
    "discharge plan": (
        "Weigh daily in the morning.", "The wound was dry on the last day.", "Home nursing comes twice a week.",
        "Salt is to be kept low.", "The letter goes to the family doctor.", "Compression stockings by day.",
    ),
}  # fmt: skip


def rows(patients: int, seed: int) -> list[dict[str, str]]:
    """Return rows of documents: a patient has one paper with three sections, each answering two questions.

    Args:
        patients: how many.
        seed: equal seeds give equal rows.
    """
    made: list[dict[str, str]] = []
    for number in range(patients):
        random = np.random.Generator(np.random.Philox(key=[seed, number]))
        for kind, questions in ANSWERS.items():
            answers: dict[str, str] = {}
            said: list[str] = []
            for question, options in questions.items():
                answers[question] = list(options)[int(random.integers(len(options)))]
                said.append(str(random.choice(options[answers[question]])))
            said += [str(line) for line in random.choice(FILLER[kind], size=3, replace=False)]
            text = " ".join(said[at] for at in random.permutation(len(said)))
            common = {
                "document_id": f"paper-{number}",
                "group_id": f"patient-{number}",
                "text_type": kind,
                "text": text,
            }
            made += [{**common, "id": question, "answer": answer} for question, answer in answers.items()]
    return made


def write(folder: Path, patients: int, seed: int) -> Path:
    """Write NOTES into a folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(patients, seed)]
    write_bytes(folder / NOTES, ("\n".join(lines) + "\n").encode())
    return folder / NOTES


def main(argv: Sequence[str]) -> int:
    """Write the example."""
    made = argparse.ArgumentParser("python -m pipelines.documents.example", description="Simulated discharge papers.")
    made.add_argument("folder", type=Path, help="folder to write notes.jsonl into")
    made.add_argument("--patients", type=int, default=60, help="(default: 60)")
    made.add_argument("--seed", type=int, default=0, help="(default: 0)")
    given = made.parse_args(argv)
    write(given.folder, given.patients, given.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
