"""Regenerate docs/reference/verbs.md from what `--help` prints: `python -m tests.docs`."""

import contextlib
import io
import os
import sys
from pathlib import Path

from pipelines import cli
from pipelines.documents.cli import COMMANDS as DOCUMENTS
from pipelines.rethink.cli import COMMANDS as RETHINK

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "verbs.md"


def help_of(verb: str) -> str:
    """Return what `anamnesis VERB --help` prints, at a fixed width, and then the same of each of its commands."""
    texts = [printed([verb, "--help"] if verb else ["--help"])]
    commands = {"documents": DOCUMENTS, "rethink": RETHINK}.get(verb, {})
    texts += [printed([verb, command, "--help"]) for command in commands]
    return "\n\n".join(texts)


def printed(words: list[str]) -> str:
    """Return what a command line prints."""
    os.environ["COLUMNS"] = "100"
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        cli.main(words)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def render() -> str:
    """Return the page: the overview, then a section a verb."""
    parts = [
        "# Verbs",
        "What `anamnesis VERB --help` prints. This page is made by `make docs`.",
        help_block(""),
    ]
    for verb in cli.VERBS:
        parts += [f"## {verb}", help_block(verb)]
    return "\n\n".join(parts) + "\n"


def help_block(verb: str) -> str:
    """Return a fenced block of a verb's help."""
    return f"```text\n{help_of(verb)}\n```"


def main() -> int:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
