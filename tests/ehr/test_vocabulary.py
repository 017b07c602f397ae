"""The vocabulary: whom it learns from, its bins against sorted values, what codes fall back to, sound files."""

import json
import math
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import vocabulary as v
from ehr.events import EVENTS
from ehr.vocabulary import MASK, PAD, UNK, Settings, Vocabulary, count, merge

# Of the vocabulary in the last test.
PINNED = "a9c01640b9cbff6234716cda356ba1897d5a894b3ea0ae68dc7c3e32f2e46ca7"
LOOSE = Settings(min_patients=1, bins=4, min_rows=1)


def events(rows):
    """Return EVENTS of (subject, code, value)."""
    held = [(subject, None, code, value, None) for subject, code, value in rows]
    return pl.DataFrame(held, schema=EVENTS, orient="row")


def fit(rows, settings=LOOSE, parents=None):
    return Vocabulary.fit(merge([count(events(rows))]), settings, parents)


def encode(vocabulary, code, *values):
    ids = vocabulary.encode(pl.Series([code] * len(values)), pl.Series(values, dtype=pl.Float32))
    return [vocabulary.codes[at] for at in ids]


def test_special_tokens_come_first():
    held = fit([(1, "A", None)])
    assert held.codes == ("[PAD]", "[UNK]", "[MASK]", "A")
    assert (PAD, UNK, MASK) == (0, 1, 2)
    assert held.patients == (0, 0, 0, 1)
    assert held.size == 4


def test_codes_need_patients_not_rows():
    rows = [(1, "A", None)] * 9 + [(1, "B", None), (2, "B", None)]
    assert "A" not in fit(rows, Settings(min_patients=2)).index
    assert fit(rows, Settings(min_patients=2)).patients[3:] == (2,)
    with pytest.raises(ValueError, match="no code has 3 training patients; lower min_patients or add patients"):
        fit(rows, Settings(min_patients=3))


def test_what_is_excluded_gets_no_token():
    rows = [(1, code, None) for code in ("MEDS_BIRTH", "MEDS_DEATH", "RACE//white", "ETHNICITY//x", "SEX//F", "A")]
    assert fit(rows).codes[3:] == ("A", "SEX//F")
    assert fit(rows, Settings(min_patients=1, exclude=("A*",))).index.keys().isdisjoint({"A"})


CODES = st.sampled_from(["A", "B", "LOINC//1", "ICD10CM//E11.9", "ICD10CM//E11.65", "ATC//C09AA05"])
VALUES = st.one_of(
    st.none(),
    st.integers(-3, 3).map(float),
    st.floats(width=32, allow_nan=True),
    st.sampled_from([math.inf, -math.inf]),
)
ROWS = st.lists(st.tuples(st.integers(1, 6), CODES, VALUES), min_size=1, max_size=60)


@given(ROWS, st.randoms(use_true_random=False))
def test_counts_and_vocabulary_hang_on_no_order_and_no_sharding(rows, random):
    settings = Settings(min_patients=2, bins=3, min_rows=2)
    shuffled = random.sample(rows, len(rows))
    parts = [count(events([row for row in shuffled if row[0] % 2 == at])) for at in (1, 0)]
    whole = merge([count(events(rows))])
    apart = merge(parts)
    assert apart.select("code", "patients", "rows", "valued").equals(whole.select("code", "patients", "rows", "valued"))
    if (whole["patients"] >= 2).any():
        assert Vocabulary.fit(apart, settings).digest == Vocabulary.fit(whole, settings).digest


@given(ROWS)
def test_counts_are_those_of_plain_python(rows):
    found = {row["code"]: row for row in count(events(rows)).iter_rows(named=True)}
    for code in {code for _, code, _ in rows}:
        own = [(subject, value) for subject, name, value in rows if name == code]
        finite = sorted(np.float32(value) for _, value in own if value is not None and np.isfinite(np.float32(value)))
        assert found[code]["patients"] == len({subject for subject, _ in own})
        assert found[code]["rows"] == len(own)
        assert found[code]["valued"] == len(finite)
        assert (found[code]["sketch"] or []) == finite


def quantile(values, share):
    """Return the smallest value with at least a share of all at or below it."""
    ordered = sorted(values)
    return next(x for x in ordered if sum(y <= x for y in ordered) >= share * len(ordered) - 1e-9)


@given(st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=80), st.integers(1, 12))
def test_cuts_are_quantiles_and_bins_hold_equal_parts(values, bins):
    cuts = v.quantile_cuts(sorted(values), [1.0] * len(values), bins)
    expected = sorted({quantile(values, at / bins) for at in range(1, bins)} - {max(values)})
    assert list(cuts) == expected
    assert len(cuts) < bins


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.floats(width=32))
def test_a_value_falls_into_the_bin_of_the_cuts_below_it(values, asked):
    held = fit([(1, "L", value) for value in values])
    expected = f"L#q{sum(asked > cut for cut in held.cuts['L'])}" if math.isfinite(asked) else "L"
    assert encode(held, "L", asked) == [expected]


def test_bins_edges_ties_and_what_is_no_number():
    held = fit([(1, "L", float(value)) for value in (1, 1, 1, 1, 2, 3, 4, 4)])
    assert held.cuts["L"] == (1.0, 3.0)
    assert held.codes[3:] == ("L", "L#q0", "L#q1", "L#q2")
    assert encode(held, "L", -9, 1, 1.0000001, 3, 3.5, 9) == ["L#q0", "L#q0", "L#q1", "L#q1", "L#q2", "L#q2"]
    assert encode(held, "L", None, math.nan, math.inf, -math.inf) == ["L"] * 4
    # All values alike make one bin.
    assert fit([(1, "L", 7.0)] * 5).codes[3:] == ("L", "L#q0")


def test_few_values_keep_the_bare_code():
    rows = [(1, "L", float(value)) for value in range(4)] + [(1, "L", None), (1, "L", math.nan)]
    assert fit(rows, Settings(min_patients=1, min_rows=5)).codes[3:] == ("L",)
    assert "L#q0" in fit(rows, Settings(min_patients=1, min_rows=4)).index


def test_sketches_keep_quantiles_of_many_values():
    draw = np.random.default_rng(1)
    values = draw.lognormal(size=40_000).astype(np.float32)
    parts = [events([(at, "L", float(value)) for value in part]) for at, part in enumerate(np.array_split(values, 5))]
    counts = merge([count(part) for part in parts])
    assert max(len(sketch) for sketch in (count(part)["sketch"][0] for part in parts)) == v.SKETCH
    cuts = Vocabulary.fit(counts, Settings(min_patients=1)).cuts["L"]
    shares = np.searchsorted(np.sort(values), cuts, side="right") / len(values)
    np.testing.assert_allclose(shares, np.arange(1, 10) / 10, atol=0.005)


def test_codes_fall_back_to_the_nearest_known_ancestor():
    rows = [(subject, "ICD10CM//E11.9", None) for subject in (1, 2)] + [(1, "ICD10CM//I10", None), (2, "A", 1.0)]
    held = fit(rows)
    for code, token in {
        "ICD10CM//E11.9": "ICD10CM//E11.9",
        "ICD10CM//E11.65": "ICD10CM//E11",
        "ICD10CM//E78.5": "ICD10CM//E00-E89",
        "ICD10CM//I10": "ICD10CM//I10",
        "ICD10CM//I50.9": "ICD10CM//I00-I99",
        "ICD10CM//Z00.0": "[UNK]",
        "B": "[UNK]",
        "A": "A#q0",
    }.items():
        assert encode(held, code, 1.0) == [token], code
    # Ancestors that no patient has stand in the vocabulary for others, with nobody to their name.
    assert held.patients[held.index["ICD10CM//E11"]] == 0
    names = [[held.codes[at] for at in chain] for chain in held.ancestors]
    assert names[held.index["ICD10CM//E11.9"]] == ["ICD10CM//E11", "ICD10CM//E00-E89"]
    assert names[held.index["ICD10CM//E11"]] == ["ICD10CM//E00-E89"]
    assert names[held.index["A#q0"]] == ["A"]


def test_rare_codes_fall_to_ancestors_that_others_make_known():
    rows = [(subject, "ICD10CM//E11.9", None) for subject in range(5)] + [(0, "ICD10CM//E11.65", None)]
    held = fit(rows, Settings(min_patients=2))
    assert "ICD10CM//E11.65" not in held.index
    assert encode(held, "ICD10CM//E11.65", None) == ["ICD10CM//E11"]


def test_metadata_s_parents_are_kept_for_codes_without_a_token():
    parents = {"LOCAL//7": ("ICD10CM//E11.9",), "LOCAL//8": ("LOCAL//9",), "LOCAL//9": ("NONE//1",), "A": ("TOP//1",)}
    held = fit([(1, "ICD10CM//E11.9", None), (1, "A", None)], LOOSE, parents)
    assert encode(held, "LOCAL//7", None) == ["ICD10CM//E11.9"]
    assert encode(held, "LOCAL//8", None) == ["[UNK]"]
    assert {code: held.codes[at] for code, at in held.backoff.items()} == {"LOCAL//7": "ICD10CM//E11.9"}
    assert [held.codes[at] for at in held.ancestors[held.index["A"]]] == ["TOP//1"]


def test_unknown_codes_are_counted_among_those_that_may_be_input():
    held = fit([(1, "A", None), (1, "ICD10CM//E11.9", None)])
    codes = ["A", "B", "ICD10CM//E78.5", "MEDS_BIRTH", "RACE//white", "B"]
    assert held.count_unknown(pl.Series(codes)) == (4, 2)
    assert held.count_unknown(pl.Series(codes, dtype=pl.Categorical)) == (4, 2)


def test_ancestors_as_a_ragged_array():
    held = fit([(1, "ICD10CM//E11.9", 2.0), (1, "A", None)])
    offsets, ids = held.ancestor_lists()
    assert len(offsets) == held.size + 1
    chains = [tuple(ids[offsets[at] : offsets[at + 1]]) for at in range(held.size)]
    assert chains == list(held.ancestors)
    assert offsets[-1] > 0


@given(ROWS)
def test_a_vocabulary_comes_back_from_its_file(tmp_path_factory, rows):
    counts = merge([count(events(rows))])
    held = Vocabulary.fit(counts, LOOSE, {"LOCAL//ü": ("A",)})
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    held.save(path)
    back = Vocabulary.load(path)
    assert back == held
    assert back.digest == held.digest == json.loads(path.read_text())["digest"]
    written = path.read_bytes()
    back.save(path)
    assert path.read_bytes() == written


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "vocabulary.json"
    held = fit([(1, "ICD10CM//E11.9", None), *((1, "L", float(at)) for at in range(9))])
    held.save(path)
    return held, path.read_bytes()


@given(st.data())
def test_a_changed_byte_is_refused_unless_it_changes_nothing(tmp_path_factory, saved, data):
    held, content = saved
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
    # White space between tokens of JSON means nothing.
    if chr(content[at]).isspace() and chr(byte) in " \n\r\t":
        assert Vocabulary.load(path) == held
    else:
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}|vocabulary: min_patients"):
            Vocabulary.load(path)


@pytest.mark.parametrize("change", ["codes", "patients", "cuts", "ancestors", "settings", "backoff"])
def test_changed_content_is_refused(tmp_path, saved, change):
    content = json.loads(saved[1])
    other = {
        "codes": [*content["codes"], "X"],
        "patients": [0, *content["patients"][1:3], 7, *content["patients"][4:]],
        "cuts": {"L": [1.0]},
        "ancestors": [[] for _ in content["ancestors"]],
        "settings": {**content["settings"], "min_patients": 2},
        "backoff": {"B": 3},
    }
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({**content, change: other[change]}))
    with pytest.raises(ValueError, match="does not match its digest; copy it again"):
        Vocabulary.load(path)
    path.write_text(json.dumps({key: value for key, value in content.items() if key != change}))
    with pytest.raises(ValueError, match=r"not a vocabulary of anamnesis; expected vocabulary\.json"):
        Vocabulary.load(path)


@pytest.mark.parametrize("settings", [{"min_patients": 0}, {"min_rows": 0}, {"bins": 0}, {"bins": 101}])
def test_settings_that_no_data_meet_are_refused(settings):
    with pytest.raises(ValueError, match="min_patients and min_rows must be at least 1, bins from 1 to 100"):
        Settings(**settings)


def test_a_release_s_vocabulary_still_reads_as_it_did():
    """Digests stand in cohorts and releases: the way they are made may not change unnoticed."""
    held = fit([(1, "ICD10CM//E11.9", None), *((1, "L", at / 8) for at in range(9))], LOOSE, {"LOCAL//7": ("L",)})
    assert held.digest == PINNED
