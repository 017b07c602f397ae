"""Commands of a verb that has several: each loaded only when it is called."""

import importlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """A command of a verb.

    Attributes:
        module: path of the module.
        line: what it does, for the overview.
        function: takes the rest of the arguments and returns an exit code.
    """

    module: str
    line: str
    function: str = "main"


def usage(verb: str, purpose: str, commands: Mapping[str, Command], examples: Sequence[str]) -> str:
    """Return the overview of a verb's commands."""
    width = max(map(len, commands)) + 1
    lines = [f"  {name:<{width}} {command.line}" for name, command in commands.items()]
    return "\n".join(
        [
            f"usage: anamnesis {verb} COMMAND [ARGUMENTS]", "", purpose, "", *lines, "",
            "examples:", *(f"  {example}" for example in examples), "",
            f"`anamnesis {verb} COMMAND --help` explains one, with examples.",
        ]
    )  # fmt: skip


def run(commands: Mapping[str, Command], overview: str, argv: Sequence[str]) -> int:
    """Run one command.

    Raises:
        ValueError: there is no such command, or its input is bad.
    """
    if not argv or argv[0] in {"-h", "--help"}:
        print(overview)  # noqa: T201
        return 0
    name, rest = argv[0], list(argv[1:])
    if name not in commands:
        raise ValueError(f"no command '{name}'; expected one of {', '.join(commands)}")
    command = commands[name]
    return int(getattr(importlib.import_module(command.module), command.function)(rest))
