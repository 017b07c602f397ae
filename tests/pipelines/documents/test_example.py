"""The shipped example is what its generator writes, passes the checks, and splits by patient."""

from pipelines.documents import catalogue, checks, schema, splits
from pipelines.documents.example import ANSWERS, NOTES, main
from tests.docs import ROOT

SHIPPED = ROOT / "configs" / "documents" / "clinical"


def test_shipped_notes_are_the_generators(tmp_path):
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / NOTES).read_bytes() == (SHIPPED / NOTES).read_bytes()


def test_shipped_notes_fit_their_questions():
    known = catalogue.load(SHIPPED / "questions.yaml")
    frame = catalogue.complete(schema.read(SHIPPED / NOTES), known)
    made = splits.assign(frame, fractions=(0.5, 0.25, 0.25)).documents
    found = checks.check(made.lazy(), known, "contract")
    checks.hold(found)
    assert found.rows == 360
    assert made["label"].null_count() == 0
    assert made["group_id"].n_unique() == 60
    for question in known.questions:
        assert list(question.options) == list(ANSWERS[question.text_type][question.id])
