"""Results of the gates as one self-contained page: no script, no outside address, printable."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

from ehr.quality.profile import REASONS

# What each gate counts, in words of a reader; `thresholds` says how much of it is borne.
MEANINGS: Mapping[str, str] = {
    "null_subject": "Rows without a subject",
    "negative_subject": "Rows with a subject id below 0",
    "null_code": "Rows without a code",
    "not_finite": "Rows with a value that is NaN or infinite",
    "unreadable": "Rows that the reader could not use",
    "future": "Rows dated later than today",
    "before_birth": "Rows dated before the patient's birth",
    "after_death": "Rows dated after the patient's death",
    "out_of_order": "Rows out of order of subject and time",
    "implausible": "Values outside the plausible range of their code",
    "duplicates": "Rows equal to another in every column",
    "no_birth": "Patients without a birth",
    "births_twice": "Patients born on two days",
    "deaths_twice": "Patients who died on two days",
    "unknown_codes": "Events whose code the vocabulary does not know",
    "empty_patients": "Patients without a token",
    "long_patients": "Patients with more tokens than one patient has",
    "visits_fall": "Tokens whose visit comes before the visit ahead of them",
    "times_fall": "Tokens whose time comes before the time ahead of them",
    "label_before_input": "Labelled samples before the patient's first event",
    "event_before_prediction": "Labels whose event does not lie after the last input",
    "drifted_codes": "Codes whose values moved as units do",
    "null_probability": "Predictions without a probability",
    "outside_unit_interval": "Predictions below 0 or above 1",
    "repeated": "Predictions that stand there twice",
    "falls_with_horizon": "Predictions that fall as the horizon grows",
}
TITLES = {
    "events": "Raw events",
    "timelines": "Prepared timelines and labels",
    "predictions": "Predictions",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Quality gates: {{ "all hold" if not failed else failed | string + " do not hold" }}</title><style>
:root{--ink:#1b1f24;--grey:#59636e;--line:#d8dee4;--good:#116329;--bad:#a40e26;--fill:#dbe7f3;--full:#f6c9cf}
*{box-sizing:border-box} body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:#fff;max-width:66rem;
margin:2.5rem auto;padding:0 1.5rem} h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem} p{color:var(--grey);margin:.3rem 0;max-width:46rem}
.verdict{display:inline-block;font-weight:600;padding:.35rem .8rem;border-radius:.4rem;margin:.6rem 0 .4rem}
.verdict.good{background:#e6f4ea;color:var(--good)} .verdict.bad{background:#fbe9eb;color:var(--bad)}
table{border-collapse:collapse;width:100%;table-layout:fixed}
col.n{width:8.2rem} col.bar{width:9rem} col.r{width:6.5rem}
th{font-weight:600;text-align:left;color:var(--grey);font-size:.85rem;border-bottom:2px solid var(--line)}
td,th{padding:.45rem .6rem;vertical-align:top} td{border-bottom:1px solid var(--line)}
.n{text-align:right;font-variant-numeric:tabular-nums} code,.where{font-size:.8rem;color:var(--grey)}
code{font-family:ui-monospace,monospace} .where{overflow-wrap:anywhere}
.track{height:.55rem;margin-top:.5rem;border-radius:.3rem;background:#eef1f4;overflow:hidden}
.used{height:100%;background:#7fa6cc} .no .used{background:#d3475a} .ok{color:var(--good)}
.no .verdict-cell{color:var(--bad);font-weight:600} .zero{color:#8c959f}
@media print{body{margin:0;max-width:none;font-size:11px} tr{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
</style></head><body>
<h1>Quality gates</h1>
<div class="verdict {{ "bad" if failed else "good" }}">{% if failed %}{{ failed }} of {{ total }} gates do not hold
{%- else %}All {{ total }} gates hold{% endif %}</div>
<p>Each gate counts something that should be rare and bears a share of it; the bar shows how much of what is borne was
found. No record's content is shown: offenders are named by file and row number. The names in small letters are the
keys of <code>configs/quality.yaml</code>.</p>
{% for suite, gates in suites.items() %}<section><h2>{{ titles.get(suite, suite) }}</h2>
<table><colgroup><col><col class="n"><col class="n"><col class="n"><col class="bar"><col class="r"></colgroup>
<thead><tr><th>Gate</th><th class="n">Found</th><th class="n">of</th><th class="n">Share / borne</th><th>Used</th>
<th>Result</th></tr></thead><tbody>
{% for gate in gates %}<tr class="{{ "yes" if gate.success else "no" }}">
<td>{{ meanings.get(gate.expectation, gate.expectation) }}
{%- if gate.expectation in rejecting %} (left out){% endif %}<br>
<code>{{ gate.expectation }}</code>{% if gate.where %}<div class="where">first at {{ gate.where }}</div>{% endif %}</td>
<td class="n{{ "" if gate.found else " zero" }}">{{ "{:,}".format(gate.found) }}</td>
<td class="n zero">{{ "{:,}".format(gate.of) }}</td>
<td class="n">{{ percent(gate.share) }}<br><span class="zero">{{ percent(gate.bound) }}</span></td>
<td><div class="track"><div class="used" style="width:{{ used(gate) }}%"></div></div></td>
<td class="verdict-cell{{ " ok" if gate.success else "" }}">{{ "holds" if gate.success else "does not hold" }}</td></tr>
{% endfor %}</tbody></table></section>
{% endfor %}</body></html>
"""


def percent(share: float) -> str:
    """Return a share as a percentage with two figures."""
    return "0 %" if share == 0 else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def used(gate: Mapping[str, Any]) -> int:
    """Return how much of what is borne was found, 0 to 100."""
    if not gate["found"]:
        return 0
    return max(2, min(100, round(100 * gate["share"] / gate["bound"]))) if gate["bound"] else 100


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        results: gates as mappings of suite, expectation, success, found, of, share, bound and where.
    """
    suites: dict[str, list[Mapping[str, Any]]] = {}
    for gate in results:
        suites.setdefault(gate["suite"], []).append(gate)
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            suites=suites,
            titles=TITLES,
            meanings=MEANINGS,
            rejecting=REASONS,
            percent=percent,
            used=used,
            total=len(results),
            failed=sum(not gate["success"] for gate in results),
        )
    )
