"""Codes: patterns against a second matcher, and the ancestors that spelling and metadata give."""

import itertools
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import codes as c


@given(st.lists(st.sampled_from(["A//1", "B", "", "A//1#q0"])), st.booleans())
def test_distinct_gives_every_row_back(rows, categorical):
    column = pl.Series(rows, dtype=pl.Categorical if categorical else pl.String)
    names, position = c.distinct(column)
    assert position.dtype == np.int32
    assert [names[at] for at in position] == rows
    assert sorted(names) == sorted(set(rows))


def test_distinct_of_a_part_of_a_categorical_names_only_what_is_there():
    whole = pl.Series(["A", "B", "C", "B"], dtype=pl.Categorical)
    names, position = c.distinct(whole[1:2])
    assert names == ["B"]
    assert position.tolist() == [0]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("VISIT//IP//START", ["VISIT//IP//START"], ["VISIT//IP//STARTED", "VISIT//OP//START", "visit//ip//start"]),
        ("VISIT//*//START", ["VISIT//IP//START", "VISIT////START"], ["VISIT//IP//END"]),
        ("ICD10CM//E11", ["ICD10CM//E11", "ICD10CM//E11.9", "ICD10CM//E1165"], ["ICD10CM//E10", "ICD10//E11"]),
        ("ICD10CM//E11.6", ["ICD10CM//E11.65", "ICD10CM//E1165", "ICD10CM//E11.6"], ["ICD10CM//E11", "ICD10CM//E11.9"]),
        ("ICD10CM//E116*", ["ICD10CM//E11.65", "ICD10CM//E11.6"], ["ICD10CM//E11.9"]),
        ("ICD10CM//E11.?", ["ICD10CM//E11.9", "ICD10CM//E119"], ["ICD10CM//E11.65", "ICD10CM//E11"]),
        ("ICD9CM//250", ["ICD9CM//250.00", "ICD9CM//250"], ["ICD9CM//25", "ICD9PROC//250"]),
        ("ATC//C09", ["ATC//C09", "ATC//C09AA05"], ["ATC//C10"]),
        ("SNOMED//44", ["SNOMED//44"], ["SNOMED//44054006"]),
        ("LOINC//718-7", ["LOINC//718-7"], ["LOINC//718-70", "LOINC//718-7#q3"]),
        ("LOINC//(1+1)", ["LOINC//(1+1)"], ["LOINC//11"]),
        ("NOTE//a.b", ["NOTE//a.b"], ["NOTE//ab", "NOTE//axb"]),
        ("*", ["", "A", "A\nB"], []),
    ],
)
def test_patterns_take_what_they_say(pattern, yes, no):
    assert c.match(yes, [pattern]) == [True] * len(yes)
    assert c.match(no, [pattern]) == [False] * len(no)


def naive(code, pattern):
    """Match letter by letter, without regular expressions."""
    system, _, body = pattern.partition("//")
    if system.startswith("ICD"):
        pattern, code = f"{system}//{body.replace('.', '')}", drop_dots(code)
    if (system == "ATC" or re.fullmatch(r"ICD\d*[A-Z]*", system)) and "//" in pattern and not {*"*?"} & set(pattern):
        return code.startswith(pattern)
    return wild(code, pattern)


def drop_dots(code):
    system, _, body = code.partition("//")
    return f"{system}//{body.replace('.', '')}" if system.startswith("ICD") and "//" in code else code


def wild(code, pattern):
    if not pattern:
        return not code
    if pattern[0] == "*":
        return any(wild(code[at:], pattern[1:]) for at in range(len(code) + 1))
    return bool(code) and pattern[0] in ("?", code[0]) and wild(code[1:], pattern[1:])


SYSTEMS = st.sampled_from(["ICD10CM//", "ICD9CM//", "ATC//", "SNOMED//", "X//", ""])
BODY = st.text("E1.9", max_size=5)


@given(st.tuples(SYSTEMS, BODY).map("".join), st.tuples(SYSTEMS, st.text("E1.9*?", max_size=5)).map("".join))
def test_patterns_match_as_a_second_matcher_does(code, pattern):
    assert c.match([code], [pattern]) == [naive(code, pattern)]


@given(st.lists(BODY), st.lists(BODY))
def test_any_pattern_is_enough(names, patterns):
    found = c.match(names, patterns)
    assert found == [any(c.match([name], [pattern])[0] for pattern in patterns) for name in names]


def test_a_pattern_takes_the_descendants_of_what_it_names():
    parents = {"X//3": ("X//2",), "X//2": ("X//1", "Y//1"), "X//1": ("X//3",)}
    assert c.match(["X//3", "X//1", "Y//1", "Z"], ["Y//1"], parents) == [True, True, True, False]
    assert c.match(["X//3"], ["Y//1"]) == [False]


def test_given_ancestors_come_nearest_first_and_end_a_cycle():
    parents = {"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ("a",)}
    assert c.given_ancestors("a", parents) == ("b", "c", "d")
    assert c.given_ancestors("d", parents) == ("a", "b", "c")
    assert c.given_ancestors("z", parents) == ()


@pytest.mark.parametrize(
    ("code", "ancestors"),
    [
        ("ICD10CM//E11.65", ("ICD10CM//E11", "ICD10CM//E00-E89")),
        ("ICD10CM//E11", ("ICD10CM//E00-E89",)),
        ("ICD10CM//C7A.1", ("ICD10CM//C7A", "ICD10CM//C00-D49")),
        ("ICD10CM//D49.9", ("ICD10CM//D49", "ICD10CM//C00-D49")),
        ("ICD10CM//D50.0", ("ICD10CM//D50", "ICD10CM//D50-D89")),
        ("ICD10CM//O9A.1", ("ICD10CM//O9A", "ICD10CM//O00-O9A")),
        ("ICD10CM//Y99.9", ("ICD10CM//Y99", "ICD10CM//V00-Y99")),
        ("ICD10CM//00", ()),
        ("ICD10CM//E00-E89", ()),
        ("ICD9CM//250.00", ("ICD9CM//250", "ICD9CM//240-279")),
        ("ICD9CM//001.0", ("ICD9CM//001", "ICD9CM//001-139")),
        ("ICD9CM//999", ("ICD9CM//800-999",)),
        ("ICD9CM//V45.81", ("ICD9CM//V45", "ICD9CM//V")),
        ("ICD9CM//E812.0", ("ICD9CM//E812", "ICD9CM//E")),
        ("ICD9PROC//39.95", ("ICD9PROC//39",)),
        ("ICD10PCS//02703DZ", ("ICD10PCS//027",)),
        ("ATC//C09AA05", ("ATC//C09AA", "ATC//C09A", "ATC//C09", "ATC//C")),
        ("ATC//C", ()),
        ("SNOMED//44054006", ()),
        ("LOINC//718-7#q3", ("LOINC//718-7",)),
        ("ICD10CM//E11.9#q0", ("ICD10CM//E11.9", "ICD10CM//E11", "ICD10CM//E00-E89")),
        ("free text", ()),
    ],
)
def test_spelling_tells_ancestors_nearest_first(code, ancestors):
    assert c.ancestors_of(code) == ancestors


def test_metadata_add_ancestors_and_those_that_their_spelling_tells():
    parents = {"LOCAL//7": ("ICD10CM//E11.9",), "ICD10CM//E11.9": ("LOCAL//diabetes",)}
    expected = ("ICD10CM//E11.9", "LOCAL//diabetes", "ICD10CM//E11", "ICD10CM//E00-E89")
    assert c.ancestors_of("LOCAL//7", parents) == expected
    assert c.ancestors_of("LOCAL//7#q1", parents) == ("LOCAL//7", *expected)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=1), st.text("0123456789AB.", max_size=5))
def test_no_code_is_its_own_ancestor(letter, rest):
    for system in ("ICD10CM", "ICD9CM", "ATC", "ICD10PCS"):
        code = f"{system}//{letter}{rest}"
        found = c.ancestors_of(code)
        assert code not in found
        assert len(set(found)) == len(found)


def test_chapters_do_not_overlap():
    for chapters in (c.ICD10_CHAPTERS, c.ICD9_CHAPTERS):
        assert all(low <= high for low, high in chapters)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(chapters))
