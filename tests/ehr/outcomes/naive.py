"""Labels a second time: one patient after another, in plain Python over dates, as docs/how-to/outcomes.md tells it."""

import fnmatch
from datetime import datetime, timedelta
from typing import NamedTuple

NEVER = datetime.max
RULES = ("candidates", "alive", "min_history_days", "age", "every", "exclude", "prior_case", "kept")


class Event(NamedTuple):
    """One row; statics have no time."""

    subject: int
    time: datetime | None
    code: str


def label(events, outcomes):
    """Return labels as tuples in the order of LABELS, and {(outcome, rule): (patients, samples) removed or kept}."""
    rows, attrition = [], {}
    people = {}
    for event in events:
        people.setdefault(event.subject, []).append(event)
    for place, outcome in enumerate(outcomes):
        for subject, own in people.items():
            dated = [event for event in own if event.time is not None]
            times, lost = eligible(dated, outcome)
            for rule, number in lost:
                gone, samples = attrition.get((outcome.name, rule), (0, 0))
                attrition[outcome.name, rule] = (gone + number[0], samples + number[1])
            for time in times:
                for horizon in outcome.horizons_days:
                    value, days = ahead(dated, outcome, time, horizon)
                    key = (subject, time, place, horizon)
                    rows.append((key, (subject, time, outcome.name, horizon, value, days, value is True)))
    return [row for _, row in sorted(rows)], attrition


def eligible(dated, outcome):
    """Return one patient's prediction times, and what each rule took: (rule, (patients, samples))."""
    index = outcome.index
    times = candidates(dated, index)
    lost = [("candidates", (bool(times), len(times)))]

    def keep(rule, test):
        nonlocal times
        left = [time for time in times if test(time)]
        lost.append((rule, (bool(times) and not left, len(times) - len(left))))
        times = left

    dead = first(dated, ["MEDS_DEATH"])
    born = first(dated, ["MEDS_BIRTH"])
    begin = min((event.time for event in dated if event.code not in ("MEDS_BIRTH", "MEDS_DEATH")), default=NEVER)
    if index.alive:
        keep("alive", lambda time: time < dead)
    keep("min_history_days", lambda time: begin <= time and time - begin >= timedelta(days=index.min_history_days))
    if index.min_age is not None or index.max_age is not None:
        keep("age", lambda time: born is not NEVER and aged(time - born, index))
    if index.every != "all":
        chosen = pick(times, index.every)
        keep("every", lambda time: time in chosen)
    if outcome.exclude:
        keep("exclude", lambda time: first(dated, outcome.exclude) > time)
    if outcome.incident_only:
        gap = timedelta(days=outcome.gap_days)
        keep("prior_case", lambda time: first(dated, outcome.any_of) > time + gap)
    lost.append(("kept", (bool(times), len(times))))
    return times, lost


def candidates(dated, index):
    """Return the distinct times that the index rule names, ascending."""
    clinical = [event for event in dated if event.code not in ("MEDS_BIRTH", "MEDS_DEATH")]
    if index.at[:4].isdigit():
        times = {datetime.fromisoformat(index.at)}
    elif index.at == "last_event":
        times = {max(event.time for event in clinical)} if clinical else set()
    elif index.at == "day_end":
        times = {max(e.time for e in clinical if e.time.date() == one.time.date()) for one in clinical}
    elif index.at in ("visit_start", "visit_end"):
        end = "START" if index.at == "visit_start" else "END"
        times = {event.time for event in dated if matches(event.code, f"VISIT//{index.visit_type}//{end}")}
    else:
        times = {event.time for event in dated if matches(event.code, index.at)}
    low = datetime.fromisoformat(index.since) if index.since else datetime.min
    high = datetime.fromisoformat(index.until) if index.until else NEVER
    return sorted(time for time in times if low <= time < high)


def aged(age, index):
    """Tell whether an age, a difference of times, lies within the index rule's."""
    years = age / timedelta(days=365.25)
    return (index.min_age or 0) <= years and (index.max_age is None or years < index.max_age)


def pick(times, every):
    """Return the times that `every` keeps."""
    if every == "first_per_year":
        return {min(time for time in times if time.year == year) for year in {time.year for time in times}}
    return set(times[:1] if every == "first" else times[-1:])


def ahead(dated, outcome, time, horizon):
    """Return the label of one window, None where it is not known, and days until what ended it."""
    begin = time + timedelta(days=outcome.gap_days)
    end = begin + timedelta(days=horizon)
    until = follow_up(dated, outcome.censor, time)
    event = min(
        (e.time for e in dated if begin < e.time <= until and matches_any(e.code, outcome.any_of)), default=NEVER
    )
    rival = NEVER
    if outcome.competing is not None and not matches_any(outcome.competing, outcome.any_of):
        rival = min((e.time for e in dated if e.time > time and matches(e.code, outcome.competing)), default=NEVER)
    stop = max(min(event, rival, until, end), time)
    days = (stop - time) / timedelta(days=1)
    if event <= end and event <= rival:
        return True, days
    if end <= until or (rival <= end and rival <= until):
        return False, days
    return None, days


def follow_up(dated, censor, time):
    """Return where follow-up ends."""
    last = max(event.time for event in dated)
    if censor == "never":
        return NEVER
    if censor == "last_event":
        return last
    if censor[:4].isdigit():
        return datetime.fromisoformat(censor)
    return min((e.time for e in dated if e.time > time and matches(e.code, censor)), default=last)


def first(dated, patterns):
    """Return the first time of any of the codes, NEVER where there is none."""
    return min((event.time for event in dated if matches_any(event.code, patterns)), default=NEVER)


def matches_any(code, patterns):
    """Tell whether any pattern matches."""
    return any(matches(code, pattern) for pattern in patterns)


def matches(code, pattern):
    """Tell whether a pattern of these tests matches: * and ?, and ICD codes with their children."""
    if pattern.startswith("ICD") and "*" not in pattern:
        pattern += "*"
    return fnmatch.fnmatchcase(code.replace(".", ""), pattern.replace(".", ""))
