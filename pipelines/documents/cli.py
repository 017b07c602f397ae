"""`anamnesis documents COMMAND`: each command loaded only when it is called."""

import importlib
from collections.abc import Sequence

COMMANDS = {
    "prepare": ("preparing", "documents and their catalogue, checked and split by group"),
    "train": ("training", "fine-tune an encoder for all questions at once, or a reader a question"),
    "evaluate": ("evaluating", "a run or a release beside its baselines, by question and category"),
    "learning-curve": ("evaluating", "train on 100, 50, 25, 10 and 5 % of the groups"),
    "ablation": ("evaluating", "train without abridged, without rare answers, with neither"),
    "export": ("exporting", "ONNX files with tokenizer, catalogue and manifest"),
    "score": ("scoring", "answers with evidence for documents of any length, without torch"),
}


def usage() -> str:
    """Return the overview of commands."""
    commands = "\n".join(f"  {name:<15} {line}" for name, (_, line) in COMMANDS.items())
    return (
        "usage: anamnesis documents COMMAND [ARGUMENTS]\n\n"
        "Many structured questions over long documents: one encoder pass answers all of them.\n\n"
        f"{commands}\n\n"
        "examples:\n"
        "  anamnesis documents prepare generated corpus/ --groups 60 --length 0.2 --allow-missing-classes\n"
        "  anamnesis documents train --config configs/documents/generated.yaml --corpus corpus/ --output run/\n"
        "  anamnesis documents export run/ release/\n"
        "  anamnesis documents score release/ notes/ predictions/\n\n"
        "`anamnesis documents COMMAND --help` explains one, with examples."
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
    module = importlib.import_module(f"pipelines.documents.{COMMANDS[command][0]}")
    run = {"learning-curve": "curve", "ablation": "ablate"}.get(command, "main")
    return int(getattr(module, run)(rest))
