"""`anamnesis documents COMMAND`."""

from collections.abc import Sequence

from pipelines.commands import Command, run, usage

EVALUATING = "pipelines.documents.evaluating"
COMMANDS = {
    "prepare": Command("pipelines.documents.preparing", "documents and their catalogue, checked and split by group"),
    "train": Command(
        "pipelines.documents.training", "fine-tune an encoder for all questions at once, or a reader a question"
    ),
    "evaluate": Command(EVALUATING, "a run or a release beside its baselines, by question and category"),
    "learning-curve": Command(EVALUATING, "train on 100, 50, 25, 10 and 5 % of the groups", "curve"),
    "ablation": Command(EVALUATING, "train without abridged, without rare answers, with neither", "ablate"),
    "export": Command("pipelines.documents.exporting", "ONNX files with tokenizer, catalogue and manifest"),
    "score": Command("pipelines.documents.scoring", "answers with evidence for documents of any length, without torch"),
}
PURPOSE = "Many structured questions over long documents: one encoder pass answers all of them."
EXAMPLES = (
    "anamnesis documents prepare generated corpus/ --groups 60 --length 0.2 --allow-missing-classes",
    "anamnesis documents train --config configs/documents/generated.yaml --corpus corpus/ --output run/",
    "anamnesis documents export run/ release/",
    "anamnesis documents score release/ notes/ predictions/",
)


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Raises:
        ValueError: there is no such command, or its input is bad.
    """
    return run(COMMANDS, usage("documents", PURPOSE, COMMANDS, EXAMPLES), argv)
