"""Augmentations of images and of packed sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robust.augmentation import beta, cutmix, cutout, mixup, pad_crop, partner
from robust.draws import Draws
from robust.sequences import NOTHING, embedding_mixup, segment_cutmix, token_cutout
from tests.robust.cases import SEGMENT, images, rows, six

IDS = torch.arange(12) * 3
LABEL = torch.nn.functional.one_hot(torch.arange(12) % 3, 3).double()
seeds = st.integers(0, 10_000)


@settings(max_examples=20)
@given(seeds)
def test_images_are_changed_each_by_its_own_id(seed):
    x = images()
    for augment in (
        lambda x, ids: pad_crop(x, ids, Draws(seed), pad=2),
        lambda x, ids: cutout(x, ids, Draws(seed), size=4),
    ):
        whole = augment(x, IDS)
        assert whole.shape == x.shape
        assert torch.equal(augment(x[3:5], IDS[3:5]), whole[3:5])
    assert augment(x[:0], IDS[:0]).shape == (0, 1, 8, 8)


def test_crops_are_shifts_and_mirrors():
    x = images(200)
    found = pad_crop(x, torch.arange(200), Draws(0), pad=2)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for image, wide in zip(found, padded, strict=True):
        matches = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if torch.equal(
                image,
                (lambda part, flip=flip: part.flip(-1) if flip else part)(wide[:, top : top + 8, left : left + 8]),
            )
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 40
    assert torch.equal(pad_crop(x, torch.arange(200), Draws(0), pad=0, flip=False), x)


def test_cutouts_are_squares_of_0():
    x = images() + 1
    gone = cutout(x, IDS, Draws(1), size=4) == 0
    for image in gone[:, 0]:
        height, width = int(image.any(1).sum()), int(image.any(0).sum())
        assert int(image.sum()) == height * width
        assert 2 <= height <= 4
        assert 2 <= width <= 4


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0])
def test_shares_follow_the_beta_distribution(alpha):
    drawn = beta(torch.arange(4000), Draws(0), alpha).numpy()
    assert stats.kstest(drawn, "beta", args=(alpha, alpha)).pvalue > 1e-4


@settings(max_examples=20)
@given(seeds)
def test_mixed_labels_follow_mixed_inputs(seed):
    x = images()
    for made in (mixup(x, LABEL, IDS, Draws(seed)), cutmix(x, LABEL, IDS, Draws(seed))):
        assert made.x.shape == x.shape
        assert torch.allclose(made.label.sum(1), torch.ones(12, dtype=torch.float64))
        assert ((made.share >= 0) & (made.share <= 1)).all()
    other = partner(IDS, Draws(seed).fork(2))
    assert torch.equal(other.sort().values, torch.arange(12))
    made = cutmix(x, LABEL, IDS, Draws(seed))
    own, foreign = made.x == x, made.x == x[other]
    assert (own | foreign).all()
    apart = other != torch.arange(12)
    # The share is the area that is left, also where the border cut the box.
    assert torch.allclose(own.flatten(1).double().mean(1)[apart], made.share[apart])
    made = mixup(x, LABEL, IDS, Draws(seed))
    wide = made.share.view(-1, 1, 1, 1)
    assert torch.allclose(made.x, wide * x + (1 - wide) * x[other])


VISIT = torch.tensor([[0, 1, 2, 1, 1, 0], [1, 1, 2, 2, 3, 1], [0, 1, 1, 2, 3, 4]])


@settings(max_examples=20)
@given(seeds)
def test_visits_are_exchanged_for_visits_of_the_same_number(seed):
    examples = six()
    found = segment_cutmix(examples, VISIT, Draws(seed))
    place, visit, source = examples.place.flatten(), VISIT.flatten(), found.source.flatten()
    assert torch.equal(found.other.sort().values, torch.arange(6))
    for at in range(18):
        if source[at] in (at, NOTHING):
            continue
        assert visit[at] > 0
        assert place[at] >= 0
        assert place[source[at]] == found.other[place[at]]
        assert visit[source[at]] == visit[at]
    # Statics and padding keep what they hold, and nothing stands in two places of one sample.
    still = (place < 0) | (visit == 0)
    assert torch.equal(source[still], torch.arange(18)[still])
    for example in range(6):
        own = source[place == example]
        own = own[own != NOTHING]
        assert len(own.unique()) == len(own)
        kept = (source[place == example] == torch.nonzero(place == example)[:, 0]).double().mean()
        assert kept >= found.share[example] - 1e-9
    assert ((found.share >= 0) & (found.share <= 1)).all()


def test_whole_visits_are_exchanged():
    # All of a sample's positions in one visit go together, whatever becomes of the visit.
    examples = six()
    changed = 0
    for seed in range(30):
        found = segment_cutmix(examples, VISIT, Draws(seed))
        moved = found.source != torch.arange(18).view(3, 6)
        for example in range(6):
            if found.other[example] == example:
                continue
            for visit in range(1, 5):
                there = (examples.place == example) & (visit == VISIT)
                if there.any():
                    assert moved[there].all() or not moved[there].any()
                    changed += int(moved[there].any())
    assert changed > 20


def test_contents_are_exchanged_by_index():
    token = torch.arange(18).view(3, 6) + 100
    found = segment_cutmix(six(), VISIT, Draws(1))
    taken = found.apply(token, 0)
    assert torch.equal(taken[found.source != NOTHING], found.source[found.source != NOTHING] + 100)
    assert (taken[found.source == NOTHING] == 0).all()


@settings(max_examples=20)
@given(seeds)
def test_embeddings_are_mixed_at_the_same_place(seed):
    x, examples = rows(), six()
    mixed, found = embedding_mixup(x, examples, Draws(seed))
    assert torch.equal(mixed[SEGMENT == 0], x[SEGMENT == 0])
    rank = examples.rank()
    for example in range(6):
        own = torch.nonzero(examples.place == example)
        for r, t in own.tolist():
            there = (examples.place == found.other[example]) & (rank == rank[r, t])
            share = found.share[example]
            expected = share * x[r, t] + (1 - share) * x[there][0] if there.any() else x[r, t]
            assert torch.allclose(mixed[r, t], expected)


@settings(max_examples=20)
@given(seeds, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_run_of_tokens_is_left_out(seed, share):
    kept = token_cutout(six(), Draws(seed), share=share)
    assert kept[SEGMENT == 0].all()
    for example in range(6):
        own = kept[six().place == example]
        assert int((~own).sum()) == round(share * len(own))
        gone = torch.nonzero(~own)[:, 0]
        assert len(gone) == 0 or int(gone.max() - gone.min()) == len(gone) - 1
