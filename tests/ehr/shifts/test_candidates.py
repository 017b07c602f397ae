"""Edits of codes: what is allowed, what is barred, and what they do to a sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ehr.shifts.candidates import DELETE, INSERT, REPLACE, Rules, candidates, edited, limits, rules
from ehr.timelines import Sample
from ehr.vocabulary import SPECIAL, Vocabulary

CODES = (
    *SPECIAL,
    *("SEX//F", "SEX//M", "VISIT//OP//START", "ICD10CM//E11.9", "ICD10CM//E11.65", "ICD10CM//E11", "ICD10CM//I50.9"),
    *("ICD10CM//N40.0", "ICD10CM//N40.1", "ICD10CM//O80", "ATC//C03CA01"),
)
VOCABULARY = Vocabulary(codes=CODES, patients=(5,) * len(CODES), cuts={}, ancestors=((),) * len(CODES))
AT = {code: number for number, code in enumerate(CODES)}
KNOWN: Rules = rules(VOCABULARY, ["ICD10CM//I50*"])


def sample(visits, sex="SEX//F", years=70.0):
    token = [AT[sex], *(AT[code] for visit in visits for code in visit)]
    visit = [0, *(number for number, codes in enumerate(visits, start=1) for _ in codes)]
    age = np.array([0, *(100.0 * number for number in visit[1:])], dtype=np.float32)
    return Sample(1, 9, np.array(token, np.int32), np.array(visit, np.int32), age, years * 365.25)


def made(one):
    """Return edits as words."""
    found = candidates([one], KNOWN)
    kinds = {REPLACE: "replace", DELETE: "delete", INSERT: "insert"}
    return {
        (kinds[kind], CODES[one.token[at]] if kind != INSERT else "", CODES[put] if kind != DELETE else "")
        for at, kind, put in zip(found.position, found.kind.tolist(), found.token.tolist(), strict=True)
    }


def test_what_may_be_done_and_what_is_barred():
    one = sample([["VISIT//OP//START", "ICD10CM//E11.9", "ATC//C03CA01"], ["ICD10CM//I50.9", "ICD10CM//E11"]])
    assert made(one) == {
        ("delete", "ICD10CM//E11.9", ""),
        ("replace", "ICD10CM//E11.9", "ICD10CM//E11.65"),
        ("replace", "ICD10CM//E11.9", "ICD10CM//E11"),
        ("delete", "ATC//C03CA01", ""),
        ("delete", "ICD10CM//E11", ""),
        ("replace", "ICD10CM//E11", "ICD10CM//E11.9"),
        ("replace", "ICD10CM//E11", "ICD10CM//E11.65"),
        ("insert", "", "ICD10CM//E11.9"),
        ("insert", "", "ATC//C03CA01"),
    }


def test_sex_and_age_rule_out_codes():
    assert not made(sample([["ICD10CM//N40.0"]]))
    assert ("replace", "ICD10CM//N40.0", "ICD10CM//N40.1") in made(sample([["ICD10CM//N40.0"]], sex="SEX//M"))
    assert not made(sample([["ICD10CM//O80"]], years=70))
    assert made(sample([["ICD10CM//O80"]], years=30)) == {("delete", "ICD10CM//O80", "")}


@given(
    visits=st.lists(st.lists(st.sampled_from(CODES[5:]), min_size=1, max_size=4), min_size=1, max_size=4),
    draw=st.integers(0, 2**32),
)
def test_edits_keep_visits_in_order_and_touch_no_static(visits, draw):
    one = sample(visits)
    table = candidates([one], KNOWN)
    number = np.random.default_rng(draw).permutation(len(table.example))
    _, first = np.unique(table.position[number], return_index=True)
    picks = number[first][:3].tolist()
    found = edited(one, table, picks)
    assert found.token[0] == one.token[0]
    assert (np.diff(found.visit) >= 0).all()
    assert (np.diff(found.age_days) >= 0).all()
    kinds = table.kind[picks]
    assert len(found.token) == len(one.token) - (kinds == DELETE).sum() + (kinds == INSERT).sum()
    assert not KNOWN.barred[table.token[(table.kind != DELETE)]].any()
    assert limits([one])[0] == 1
    assert edited(one, table, []).token.tolist() == one.token.tolist()


def test_a_tenth_of_long_records():
    assert limits([sample([["ATC//C03CA01"] * 50])]).tolist() == [5]
