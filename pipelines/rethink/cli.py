"""`anamnesis rethink COMMAND`: each command loaded only when it is called."""

import importlib
from collections.abc import Sequence

COMMANDS = {
    "text": ("text.running", "answers to questions, recorded or generated chains weighed by retrieved facts"),
    "entailment": ("text.training", "train a small entailment head over a frozen sentence encoder"),
}


def usage() -> str:
    """Return the overview of commands."""
    commands = "\n".join(f"  {name:<11} {line}" for name, (_, line) in COMMANDS.items())
    return (
        "usage: anamnesis rethink COMMAND [ARGUMENTS]\n\n"
        "Sampled paths vote with how well retrieved evidence supports their steps, and show it.\n\n"
        f"{commands}\n\n"
        "examples:\n"
        "  anamnesis rethink text --questions train.json.gz --chains chains.jsonl.gz --facts train.json.gz\n"
        "  anamnesis rethink text --questions new.json --chains new.jsonl --facts facts.txt --fitted rethought/ \\\n"
        "      --output answers/\n\n"
        "`anamnesis rethink COMMAND --help` explains one, with examples."
    )


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Raises:
        ValueError: there is no such command, or its input is bad.
    """
    if not argv or argv[0] in {"-h", "--help"}:
        print(usage())  # noqa: T201
        return 0
    command, rest = argv[0], list(argv[1:])
    if command not in COMMANDS:
        raise ValueError(f"no command '{command}'; expected one of {', '.join(COMMANDS)}")
    module = importlib.import_module(f"pipelines.rethink.{COMMANDS[command][0]}")
    return int(module.main(rest))
