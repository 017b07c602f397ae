"""The linear part of a summary: what is fitted is what the network answers."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ehr.batches import plan
from ehr.network import Network
from pipelines import wide
from pipelines.cohort import open_cohort
from pipelines.data import FinetuningData, tensors
from pipelines.modules import Finetuning, new_network


@pytest.fixture(scope="module")
def fitted(chain):
    cohort = open_cohort(chain.cohort)
    torch.manual_seed(0)
    shape = Network(width=16, heads=2, encoder_layers=1, decoder_layers=1)
    module, data = Finetuning(summary=True), FinetuningData(max_length=64)
    asked = data.open(cohort, share=True)
    module.build(new_network(shape, cohort.vocabulary, 64), cohort.vocabulary, cohort.registry, asked)
    network = module.network.eval()
    before = network.heads.bias.detach().clone()
    wide.fit(network, data.train, data.tuning)
    return network, data.train, before


def test_the_network_answers_what_was_fitted(fitted):
    network, source, before = fitted
    table = wide.table(network.heads.summary, source)
    with torch.no_grad():
        found = [
            network.outcomes_at(content.batch, content.moments).numpy()
            for layout in plan(source.lengths, tokens=wide.TOKENS)
            for content in [tensors(source.make(layout, 0))]
        ]
    logit = np.concatenate(found)
    weight = torch.cat([network.heads.summary.wide.flatten(0, 1), network.heads.summary.age]).numpy()
    expected = (table.columns @ weight).reshape(logit.shape) + network.heads.bias.detach().numpy()
    assert np.allclose(logit, expected, atol=1e-4)
    assert not torch.equal(network.heads.bias, before)
    assert np.abs(weight).max() > 0
    # Where too few have an outcome the head keeps to the prior.
    rare = (table.label == 1).sum(0) < wide.FEW
    assert rare.any()
    assert torch.equal(network.heads.bias[torch.from_numpy(rare)], before[torch.from_numpy(rare)])


def test_weights_are_those_of_a_penalised_regression(fitted):
    network, source, _ = fitted
    table = wide.table(network.heads.summary, source)
    k, h = np.unravel_index(np.nansum(table.label, 0).argmax(), table.label.shape[1:])
    x, positive = table.known(k, h)
    weight, bias = wide.regression(table, None, k, h)
    exact = LogisticRegression(C=wide.MIDDLE, tol=1e-6, max_iter=2_000).fit(x.astype(np.float64), positive)
    assert bias is not None
    assert np.corrcoef(x @ weight + bias, exact.decision_function(x))[0, 1] > 0.999
    assert wide.regression(table._replace(label=np.zeros_like(table.label)), None, k, h)[1] is None
