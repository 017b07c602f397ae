"""The command line's frame: overview, unknown verbs, errors as one line, quick answers."""

import subprocess
import sys

import pytest

from pipelines import cli


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_help_lists_every_verb():
    result = run("--help")
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in cli.VERBS)


def test_help_loads_no_heavy_package():
    code = (
        "import sys; from pipelines.cli import main; main(['--help']);"
        "print(sorted({'torch','polars','numpy','pyarrow','rich'} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_explains_itself_with_examples(verb):
    result = run(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert f"anamnesis {verb}" in result.stdout


def test_unknown_verb_names_the_known_ones():
    result = run("prophesy")
    assert result.returncode == 2
    assert "no verb 'prophesy'" in result.stderr
    assert "score" in result.stderr


@pytest.mark.parametrize("error", [ValueError("a.csv: no\ncolumn x"), FileNotFoundError(2, "No such file", "a.csv")])
def test_user_errors_are_one_line(monkeypatch, capsys, error):
    class Verb:
        @staticmethod
        def main(_):
            raise error

    monkeypatch.setattr(cli.importlib, "import_module", lambda _: Verb)
    assert cli.main(["score"]) == cli.BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("anamnesis score: a.csv: ")


def test_a_bug_keeps_its_trace(monkeypatch):
    class Verb:
        @staticmethod
        def main(_):
            raise KeyError("bug")

    monkeypatch.setattr(cli.importlib, "import_module", lambda _: Verb)
    with pytest.raises(KeyError):
        cli.main(["score"])


def test_interrupt_is_resumable(monkeypatch, capsys):
    class Verb:
        @staticmethod
        def main(_):
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", lambda _: Verb)
    assert cli.main(["score"]) == cli.STOPPED
    assert "stopped by the user" in capsys.readouterr().err
