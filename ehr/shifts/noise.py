"""Noise of training records: lost codes and visits, and the spare corruptions that no benchmark tests.  NumPy only.

Of the fifteen corruptions of EHR-C this noise resembles two, code_dropout and visit_dropout: `SEEN`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.batches import generator
from ehr.codes import match
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary

SEEN = ("code_dropout", "visit_dropout")
YEAR_DAYS = 365.25
Bools = npt.NDArray[np.bool_]


class Facts(NamedTuple):
    """What the noise needs to know of each token id.

    Attributes:
        rare: whether few training patients have it, bool [V].
        sex: whether it states the patient's sex, bool [V].
    """

    rare: Bools
    sex: Bools


@dataclass(frozen=True, kw_only=True)
class RecordNoise:
    """What is lost from a record, or wrong in it, each time that it is read in training."""

    clean: float = 0.25
    """Share of the readings left as they are."""
    codes: float = 0.6
    """Codes of dated events lost from a noised reading, at most; the share itself is uniform from 0."""
    visits: float = 0.4
    """Whole visits lost from a noised reading, at most; the last visit stays."""
    rare: float = 0.2
    """Probability that a noised reading has no rare codes."""
    rare_patients: int = 50
    """A code is rare under so many training patients."""
    sex: float = 0.05
    """Probability that a noised reading does not state the sex."""
    age_years: float = 1.0
    """Standard deviation of an error of age, which shifts a whole noised reading."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("clean", "codes", "visits", "rare", "sex"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"noise.{name} is {getattr(self, name)}; expected 0 to 1")
        if self.rare_patients < 0 or not self.age_years >= 0:
            raise ValueError(
                f"noise: rare_patients {self.rare_patients}, age_years {self.age_years}; expected 0 or more"
            )

    def know(self, vocabulary: Vocabulary) -> Facts:
        """Return what the noise needs to know of a vocabulary; pure ancestors are not rare."""
        patients = np.array(vocabulary.patients)
        rare = (patients > 0) & (patients < self.rare_patients)
        return Facts(rare, np.array(match(vocabulary.codes, ("SEX//*",)), dtype=bool))

    def noised(self, sample: Sample, facts: Facts, *, seed: int, epoch: int) -> Sample:
        """Return a sample as it is read in one epoch: no longer than it was, visits keep their numbers.

        The noise hangs on (seed, epoch, subject, prediction time) alone, so any number of workers draws the same.

        Args:
            sample: statics (visit 0) first, then visits in order.
            facts: of the vocabulary.
            seed: of the run.
            epoch: number of the pass.
        """
        draw = generator(seed, epoch, sample.subject, sample.prediction_time)
        # Everything is drawn whatever is done with it, so that one setting does not move another's numbers.
        clean, codes, visits, rare, sex = draw.random(5)
        error = draw.normal() * self.age_years * YEAR_DAYS
        chance = draw.random(len(sample.token))
        number, place = np.unique(sample.visit, return_inverse=True)
        chance_of_visit = draw.random(len(number))
        if clean < self.clean or not len(sample.token):
            return sample
        dated = sample.visit > 0
        lost = dated & (chance < codes * self.codes)
        lost |= dated & (sample.visit != number[-1]) & (chance_of_visit[place] < visits * self.visits)
        if rare < self.rare:
            lost |= dated & facts.rare[sample.token]
        if sex < self.sex:
            lost |= facts.sex[sample.token]
        if lost.all():
            # A reading holds its place in a batch by its tokens.
            lost[0] = False
        # Dates of birth may be wrong, but nothing happened before them.
        shift = max(error, -float(sample.age_days[dated].min(initial=sample.query_age_days)))
        age_days = np.where(dated, sample.age_days + np.float32(shift), sample.age_days)
        return sample._replace(
            token=sample.token[~lost],
            visit=sample.visit[~lost],
            age_days=age_days[~lost].astype(np.float32),
            query_age_days=sample.query_age_days + shift,
        )
