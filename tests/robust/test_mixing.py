"""Batches of original and generated samples, labels of generated ones, and generators."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from robust.generators import Bootstrap, fit_gaussian
from robust.mixing import BatchRatio, most_confident, pseudo_label, smoothed, soft_cross_entropy


def test_the_published_batch():
    assert BatchRatio(original=0.3, multiplicity=4).counts(1024) == (77, 308, 716)


@settings(max_examples=20)
@given(st.integers(1, 8), st.integers(1, 64), st.sampled_from([0.2, 0.3, 0.5, 0.8, 1.0]))
def test_parts_make_the_batch(multiplicity, times, original):
    batch = multiplicity * times
    ratio = BatchRatio(original=original, multiplicity=multiplicity)
    if round(original * batch / multiplicity) == 0:
        with pytest.raises(ValueError, match="no original"):
            ratio.counts(batch)
        return
    counts = ratio.counts(batch)
    assert counts.original + counts.generated == batch
    assert counts.original == counts.distinct * multiplicity
    assert abs(counts.original - original * batch) <= multiplicity / 2 + 1e-9


@settings(max_examples=20)
@given(st.integers(20, 60), st.integers(0, 40), st.integers(0, 5))
def test_an_epoch_takes_each_original_once_at_most(originals, generated, epoch):
    ratio = BatchRatio(original=0.5, multiplicity=2)
    plan = ratio.plan(originals, generated, batch=8, seed=3, epoch=epoch)
    taken = np.concatenate([own for own, _ in plan])
    assert len(plan) == originals // 2
    assert len(np.unique(taken)) == len(taken) / 2
    made = np.concatenate([other for _, other in plan])
    assert len(made) == (4 * len(plan) if generated else 0)
    if 0 < len(made) <= generated:
        assert len(np.unique(made)) == len(made)
    again = ratio.plan(originals, generated, batch=8, seed=3, epoch=epoch)
    for (a, b), (c, d) in zip(plan, again, strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    other = ratio.plan(originals, generated, batch=8, seed=3, epoch=epoch + 1)
    assert not np.array_equal(taken, np.concatenate([own for own, _ in other]))


def test_labels_of_generated_rows_are_smoothed_and_originals_are_not():
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 1.0]])
    found = pseudo_label(lambda x: logits[x], torch.tensor([1, 0]), smoothing=0.1, batch=1)
    assert torch.allclose(found, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))
    assert torch.allclose(found.sum(1), torch.ones(2))
    hard = functional.one_hot(torch.tensor([0, 2]), 4).float()
    assert torch.equal(smoothed(hard, 0.0), hard)
    assert torch.isclose(soft_cross_entropy(logits, hard), functional.cross_entropy(logits, torch.tensor([0, 2])))
    expected = functional.cross_entropy(logits, torch.tensor([0, 2]), label_smoothing=0.1)
    assert torch.isclose(soft_cross_entropy(logits, smoothed(hard, 0.1)), expected)
    with pytest.raises(ValueError, match="smoothing"):
        pseudo_label(lambda x: logits[x], torch.tensor([0]), smoothing=1.0)


def test_selection_keeps_how_common_each_class_is():
    probability = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    stratum = (torch.arange(1000) % 10 == 0).long()
    kept = most_confident(probability, stratum, 0.2)
    assert torch.equal(kept, kept.sort().values)
    assert stratum[kept].float().mean() == stratum.float().mean()
    left = torch.ones(1000, dtype=torch.bool)
    left[kept] = False
    for value in (0, 1):
        assert probability[kept][stratum[kept] == value].min() >= probability[left & (stratum == value)].max()
    # One alone is kept: no class is lost.
    assert most_confident(torch.tensor([0.1, 0.9]), torch.tensor([0, 1]), 0.01).tolist() == [0, 1]
    with pytest.raises(ValueError, match="share"):
        most_confident(probability, stratum, 0)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda: BatchRatio(original=0), "above 0"),
        (lambda: BatchRatio(multiplicity=0), "1 or more"),
        (lambda: BatchRatio(multiplicity=3).counts(10), "no multiple"),
    ],
)
def test_settings_are_checked(made, word):
    with pytest.raises(ValueError, match=word):
        made()


def test_gaussians_are_those_that_they_were_fitted_to():
    draw = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
    label = torch.arange(4000) % 4 % 3
    x = torch.randn(4000, 2, generator=draw, dtype=torch.float64) @ root.T + 3.0 * label[:, None]
    fitted = fit_gaussian(x, label, shrinkage=1e-6)
    made = fitted.sample(20_000, seed=1)
    for of_class in range(3):
        own, other = x[label == of_class], made.x[made.label == of_class]
        assert torch.allclose(own.mean(0), other.mean(0), atol=0.06)
        assert torch.allclose(torch.cov(own.T), torch.cov(other.T), atol=0.06)
    share = torch.bincount(made.label) / 20_000
    assert torch.allclose(share, torch.tensor([0.5, 0.25, 0.25]), atol=0.02)
    again = fitted.sample(20_000, seed=1)
    assert torch.equal(again.x, made.x)
    assert not torch.equal(fitted.sample(20_000, seed=2).x, made.x)


def test_generated_images_keep_shape_and_bounds():
    x, label = torch.rand(30, 1, 4, 4), torch.arange(30) % 3
    # Fewer samples than pixels: only shrinkage makes it a density.
    made = fit_gaussian(x, label, low=0, high=1).sample(50, seed=0)
    assert made.x.shape == (50, 1, 4, 4)
    assert made.x.dtype == x.dtype
    assert 0 <= float(made.x.min()) < float(made.x.max()) <= 1
    for bad, word in (({"label": torch.arange(30) // 29 * 2}, "two"), ({"shrinkage": 0}, "shrinkage")):
        with pytest.raises(ValueError, match=word):
            fit_gaussian(**{"x": x, "label": label, **bad})


def test_resamples_are_samples():
    x, label = torch.arange(20.0)[:, None], torch.arange(20) % 2
    made = Bootstrap(x, label).sample(100, seed=0)
    assert torch.equal(made.label, made.x[:, 0].long() % 2)
    assert len(made.x.unique()) > 10
