"""Neural rivals on a cohort, from their YAML files."""

from pathlib import Path

import numpy as np
import pytest

from ehr.baselines.neural.published import Published
from pipelines import rivals
from pipelines.cohort import open_cohort
from pipelines.samples import questions_of
from tests.pipelines import cohorts

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "rivals"
QUICK = ("--schedule.epochs", "1", "--schedule.pretraining_epochs", "1", "--schedule.tokens", "32")


def test_a_rival_answers_every_question_with_a_probability(tmp_path):
    cohort = open_cohort(cohorts.write(tmp_path / "cohort", 60))
    asked = questions_of(cohort, "held_out")
    learner = rivals.read(CONFIGS / "gru.yaml", (*QUICK, "--recipe.init_args.width", "16"))
    found = rivals.answer(cohort, learner, asked)
    assert found.shape == asked.label.shape
    assert ((found >= 0) & (found <= 1)).all()
    assert np.isfinite(found).all()
    assert len(rivals.records(cohort, 32)) > 10


@pytest.mark.parametrize("name", ["published", "gru", "masked", "decoder"])
def test_configs_are_read(name):
    learner = rivals.read(CONFIGS / f"{name}.yaml")
    assert learner.schedule.rows == 32
    assert learner.recipe.build


def test_ablations_are_keys():
    learner = rivals.read(CONFIGS / "published.yaml", ("--recipe.init_args.masking", "code"))
    assert isinstance(learner.recipe, Published)
    assert learner.recipe.masking == "code"


def test_what_is_not_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        rivals.read(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="dropouts"):
        rivals.read(CONFIGS / "gru.yaml", ("--recipe.init_args.dropouts", "1"))
