"""What changes records each time that training reads them; chosen by class_path (ehr.shifts.noise.RecordNoise)."""

from typing import Any, NamedTuple, Protocol

from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary


class Noise(Protocol):
    """Noise of records."""

    def know(self, vocabulary: Vocabulary) -> Any:  # noqa: ANN401  the noise's own
        """Return what the noise needs to know of a vocabulary."""
        ...

    def noised(self, sample: Sample, facts: Any, *, seed: int, epoch: int) -> Sample:  # noqa: ANN401
        """Return a sample as it is read in one epoch: no longer than it was, visits keep their numbers.

        Args:
            sample: a patient up to a time.
            facts: what `know` returned.
            seed: of the run.
            epoch: number of the pass.
        """
        ...


class Noising(NamedTuple):
    """A noise, what it knows of the vocabulary, and the seed of the run."""

    noise: Noise
    facts: Any
    seed: int

    def __call__(self, sample: Sample, epoch: int) -> tuple[Sample, float]:
        """Return a sample as it is read in one epoch, and the days by which its ages are wrong."""
        noised = self.noise.noised(sample, self.facts, seed=self.seed, epoch=epoch)
        return noised, noised.query_age_days - sample.query_age_days
