"""What the how-to page shows runs as shown."""

import re
from contextlib import nullcontext

import yaml
from jsonargparse import ArgumentParser

from pipelines.documents.hooks import EmbeddingObjective
from robust.objectives import Free
from robust.threats import Threat
from robust.training import EmbeddingTraining
from tests.docs import ROOT
from tests.robust.cases import images, reader

PAGE = (ROOT / "docs" / "how-to" / "robust.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_attacks_and_averages_run(capsys):
    network, x = reader().float().eval(), images(6).float()
    given = {
        "network": network,
        "x": x,
        "label": network(x).argmax(1),
        "batches": [1, 2],
        "step": lambda network, batch: nullcontext(),
        "evaluate": lambda network: network(x),
    }
    shown = blocks("python")
    assert len(shown) == 2
    for block in shown:
        exec(compile(block, "page", "exec"), given)
    clean, robust, alarms = capsys.readouterr().out.split(maxsplit=2)
    assert float(clean) == 1
    assert 0 <= float(robust) < 1
    assert alarms.strip().startswith("[")
    assert not network.training


def test_the_objective_shown_is_taken_by_class_path():
    (shown,) = blocks("yaml")
    parser = ArgumentParser()
    parser.add_argument("--objective", type=EmbeddingObjective)
    parsed = parser.parse_object({"objective": yaml.safe_load(shown)["model"]["objective"]})
    made = parser.instantiate(parsed).objective
    assert isinstance(made, EmbeddingTraining)
    assert made.objective == Free(steps=3, size=0.5)
    assert made.threat == Threat(norm="l2_token", epsilon=0.1)


def test_every_objective_and_attack_has_settings_of_a_file():
    parser = ArgumentParser()
    parser.add_argument("--objective", type=EmbeddingObjective)
    for name in ("Trades", "AdversarialTraining", "SmoothKL"):
        inner = {
            "class_path": f"robust.objectives.{name}",
            "init_args": {
                "attack": {
                    "class_path": "robust.attacks.gradient.Pgd",
                    "init_args": {"steps": 3, "size": 0.5, "aim": "cross_entropy", "keep": "last", "cuts": [2]},
                }
            },
        }
        given = {"class_path": "robust.training.EmbeddingTraining", "init_args": {"objective": inner}}
        made = parser.instantiate(parser.parse_object({"objective": given})).objective
        assert made.objective.attack.steps == 3
