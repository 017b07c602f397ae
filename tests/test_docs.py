"""What the docs show is what the program takes: verbs, flags, files and links."""

import re
import shlex

import pytest

from pipelines import cli
from tests import docs

PAGES = sorted([docs.ROOT / "README.md", docs.ROOT / "CONTRIBUTING.md", *(docs.ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^(?:\$ )?anamnesis ([a-z]+.*)$")
# Lightning's own flags are many; its --help lists them.
LIGHTNING = ("--trainer.", "--model.", "--data.")


def commands(page):
    """Yield every `anamnesis VERB ...` line in a fenced block, continued lines joined."""
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            match = COMMAND.match(line.strip())
            if match:
                yield match.group(1)


def all_commands():
    return [(page.relative_to(docs.ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


@pytest.fixture(scope="module")
def helps():
    return {verb: docs.help_of(verb) for verb in cli.VERBS}


def test_docs_show_commands():
    assert len(all_commands()) >= 10


@pytest.mark.parametrize(("page", "command"), all_commands())
def test_commands_shown_exist_with_their_flags(page, command, helps):
    verb, *words = shlex.split(command, comments=True)
    assert verb in cli.VERBS, f"{page} shows an unknown verb {verb}"
    for word in words:
        if word.startswith("--") and not word.startswith(LIGHTNING):
            assert word.split("=")[0] in helps[verb], f"{page} shows {word}, which {verb} does not take"


@pytest.mark.parametrize(("page", "command"), all_commands())
def test_configs_shown_exist(page, command):
    for word in shlex.split(command, comments=True):
        if word.startswith("configs/"):
            assert (docs.ROOT / word).is_file(), f"{page} names {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_verbs_is_current():
    assert docs.PAGE.read_text(encoding="utf-8") == docs.render(), "run `make docs`"
