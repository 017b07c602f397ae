"""`anamnesis rethink COMMAND`."""

from collections.abc import Sequence

from pipelines.commands import Command, run, usage

COMMANDS = {
    "text": Command(
        "pipelines.rethink.text.running",
        "answers to questions, recorded or generated chains weighed by retrieved facts",
    ),
    "patients": Command(
        "pipelines.rethink.patients.running",
        "probabilities from sampled futures of patients, weighed by records and similar patients",
    ),
    "entailment": Command(
        "pipelines.rethink.text.training", "train a small entailment head over a frozen sentence encoder"
    ),
}
PURPOSE = "Sampled paths vote with how well retrieved evidence supports their steps, and show it."
EXAMPLES = (
    "anamnesis rethink text --questions train.json.gz --chains chains.jsonl.gz --facts train.json.gz",
    "anamnesis rethink text --questions new.json --chains new.jsonl --facts facts.txt --fitted rethought/ \\",
    "    --output answers/",
    "anamnesis rethink patients generator/ cohort/ rethought/ --patients 200",
)


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Raises:
        ValueError: there is no such command, or its input is bad.
    """
    return run(COMMANDS, usage("rethink", PURPOSE, COMMANDS, EXAMPLES), argv)
