"""Artificial patients of a vocabulary."""

from ehr.events import EVENTS
from ehr.vocabulary import Vocabulary
from pipelines import golden


def test_values_may_be_rare():
    plain = [f"X//{i}" for i in range(2_000)]
    codes = ("[PAD]", "[UNK]", "[MASK]", *plain, *(f"X//7#q{i}" for i in range(3)))
    vocabulary = Vocabulary(
        codes=codes, patients=(1,) * len(codes), cuts={"X//7": (1.0, 2.0)}, ancestors=((),) * len(codes)
    )
    frame = golden.patients(vocabulary, 200, seed=1)
    assert frame.schema == EVENTS
    held = frame["numeric_value"].is_not_null()
    assert held.any()
    # The case that is meant: the first rows hold no value.
    assert not held[:100].any()
