"""The disease graph: what each disease does to labs, visits and survival, and which diseases raise its rate.

Rates are of the simulator, not of any population: they were set so that outcomes are common enough to learn.
Codes are real ones, so that hierarchies and plausible ranges apply.
"""

from dataclasses import dataclass, field
from math import gamma

YEAR = 365.25
LATENCY_DAYS = 1126.0
"""A diagnosed disease raises the rate of its followers from so many days after its diagnosis.

It exceeds the longest window (30 + 1,095 days), so what happens after a prediction time changes no rate within
the window: the true risk has a closed form.
"""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A marker that drifts before the diagnosis."""

    code: str
    """Its LOINC code."""
    mean: float
    """Mean of the healthy, in its unit, or of its logarithm."""
    personal: float
    """Standard deviation between persons."""
    noise: float
    """Standard deviation within a person."""
    shift: float
    """Change that the disease makes in the end."""
    logarithm: bool = False
    """Whether the numbers above are of the natural logarithm."""
    low: float = 0.0
    """Least value that is written."""
    high: float = 1e6
    """Largest value that is written."""


@dataclass(frozen=True, kw_only=True)
class Disease:
    """One disease: healthy, then preclinical (hidden), then diagnosed; some kill."""

    name: str
    """Name of its outcome."""
    codes: tuple[str, ...]
    """ICD-10-CM codes, the later ones written later in its course."""
    symptom: str
    """Code that is written more often while it is preclinical."""
    lab: Lab | None = None
    """Its marker."""
    drugs: tuple[str, ...] = ()
    """ATC codes given once diagnosed."""
    rate: float
    """Onsets a 1,000 person-years at age 60, men, first site, without other diseases."""
    per_decade: float = 0.4
    """Change of the logarithm of the rate a decade of age."""
    female: float = 0.0
    """Change of the logarithm of the rate in women."""
    preclinical_years: float = 2.5
    """Mean of the Weibull time from onset to diagnosis."""
    shape: float = 2.0
    """Shape of that Weibull."""
    acute: bool = False
    """Whether it is diagnosed by admission to hospital."""
    admissions: float = 0.0
    """Admissions a year once diagnosed."""
    early_admissions: float = 0.0
    """Further admissions a year right after the diagnosis, fading with EARLY_YEARS."""
    readmission: float = 0.1
    """Mean number of readmissions that an admission for it brings."""
    fatality: float = 0.0
    """Deaths a year once diagnosed."""
    early_fatality: float = 0.0
    """Further deaths a year right after the diagnosis, fading with EARLY_YEARS."""
    visits: float = 0.4
    """Follow-up visits a year once diagnosed."""
    raised_by: dict[str, float] = field(default_factory=dict[str, float])
    """Logarithms of rate ratios by earlier disease."""

    @property
    def scale_days(self) -> float:
        """Scale of the Weibull time from onset to diagnosis, days."""
        return self.preclinical_years * YEAR / gamma(1 + 1 / self.shape)


EARLY_YEARS = 0.4


def lab(
    code: str, mean: float, personal: float, noise: float, shift: float, *, low: float = 0.0, high: float = 1e6
) -> Lab:
    """Return a lab on its own scale."""
    return Lab(code=f"LOINC//{code}", mean=mean, personal=personal, noise=noise, shift=shift, low=low, high=high)


def log_lab(code: str, mean: float, shift: float, personal: float = 0.35, noise: float = 0.25) -> Lab:
    """Return a lab on the logarithmic scale."""
    return Lab(code=f"LOINC//{code}", mean=mean, personal=personal, noise=noise, shift=shift, logarithm=True, low=0.001)


def icd(*codes: str) -> tuple[str, ...]:
    """Return ICD-10-CM codes."""
    return tuple(f"ICD10CM//{code}" for code in codes)


def atc(*codes: str) -> tuple[str, ...]:
    """Return ATC codes."""
    return tuple(f"ATC//{code}" for code in codes)
