"""The driver on any module: encoder-decoders, plain modules, convolutions; padding, sharing, resuming."""

from typing import NamedTuple

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from compress.layers import as_matrix, find
from compress.report import dumps
from compress.sparsity.collection import collect
from compress.sparsity.driver import prune
from compress.sparsity.settings import SparseGPT

PAD = 1


def bart():
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=50, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    return BartForConditionalGeneration(config).eval()


class Pair(NamedTuple):
    """Source and target tokens, 1 = padding."""

    source: torch.Tensor
    target: torch.Tensor


class Masks:
    """What an adapter of an encoder-decoder does: which of its two masks is a layer's."""

    def forward(self, model, batch):
        self.batch = batch
        source = batch.source != PAD
        model(input_ids=batch.source, attention_mask=source, decoder_input_ids=batch.target)

    def mask(self, name, args):
        encoded = ".encoder." in name or ".encoder_attn.k_proj" in name or ".encoder_attn.v_proj" in name
        return (self.batch.source if encoded else self.batch.target) != PAD


def pairs(count=6, *, extra=0):
    """Return batches of one sentence each, with so much more padding at the end."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for at in range(count):
        parts = [torch.randint(3, 50, (1, size), generator=draw) for size in (9 + at, 5 + at)]
        found.append(Pair(*(nn.functional.pad(part, (0, extra), value=PAD) for part in parts)))
    return found


def pruned(model, batches, **settings):
    adapter = Masks()
    return prune(
        model, batches, forward=adapter.forward, token_mask=adapter.mask,
        settings=SparseGPT(**{"refit_steps": 4, "held_out": 0.2, **settings}),
    )  # fmt: skip


def test_an_encoder_decoder_is_pruned_everywhere_but_outside_its_blocks():
    model, dense = bart(), bart()
    report = pruned(model, pairs())
    names = list(find(model))
    assert [layer.name for layer in report.layers] == names
    assert {layer.sparsity for layer in report.layers} == {0.5}
    assert all(0 < layer.error < 1 for layer in report.layers)
    assert all(0 < layer.held_out_error < 2 for layer in report.layers)
    for name, value in model.state_dict().items():
        inside = name.rpartition(".")[0] in names and name.endswith("weight")
        assert torch.equal(value, dense.state_dict()[name]) != inside, name
    assert report.sparsity == 0.5
    assert report.settings["sparsity"] == 0.5


def test_each_block_is_calibrated_behind_pruned_ones():
    replayed, dense = pruned(bart(), pairs()), pruned(bart(), pairs(), propagate="dense")
    errors = [{layer.name: layer.error for layer in report.layers} for report in (replayed, dense)]
    first = "model.encoder.layers.0.self_attn.q_proj"
    later = "model.decoder.layers.1.fc1"
    assert errors[0][first] == errors[1][first]
    assert errors[0][later] != errors[1][later]


def test_padding_changes_nothing():
    """Padded to the right, with masks: the same sums, but for the order in which attention adds up."""
    close, wide = bart().double(), bart().double()
    pruned(close, pairs(), held_out=0.0)
    pruned(wide, pairs(extra=7), held_out=0.0)
    for name, module in find(close).items():
        matrix, other = as_matrix(module), as_matrix(find(wide)[name])
        assert torch.equal(matrix == 0, other == 0), name
        torch.testing.assert_close(matrix, other, rtol=1e-6, atol=1e-9)


def test_any_division_into_batches():
    """The same sentences of one length, one by one and all together."""
    draw = torch.Generator().manual_seed(2)
    whole = Pair(torch.randint(3, 50, (6, 9), generator=draw), torch.randint(3, 50, (6, 7), generator=draw))
    single = [Pair(whole.source[at : at + 1], whole.target[at : at + 1]) for at in range(6)]
    first, second = bart().double(), bart().double()
    pruned(first, [whole])
    pruned(second, single)
    for name, module in find(first).items():
        other = as_matrix(find(second)[name])
        assert torch.equal(as_matrix(module) == 0, other == 0)
        torch.testing.assert_close(as_matrix(module), other, rtol=1e-6, atol=1e-9)


def test_layers_with_the_same_input_share_one_hessian():
    model, adapter = bart(), Masks()
    layers = find(model)
    held = collect(model, pairs(), layers, forward=adapter.forward, token_mask=adapter.mask)
    encoder, decoder = "model.encoder.layers.0.self_attn", "model.decoder.layers"
    assert held[f"{encoder}.q_proj"] is held[f"{encoder}.k_proj"] is held[f"{encoder}.v_proj"]
    crossed = [held[f"{decoder}.{at}.encoder_attn.{part}_proj"] for at in (0, 1) for part in "kv"]
    assert all(hessian is crossed[0] for hessian in crossed)
    assert held[f"{decoder}.0.encoder_attn.q_proj"] is not crossed[0]
    for name in (f"{encoder}.v_proj", f"{decoder}.1.encoder_attn.v_proj", f"{decoder}.0.fc1"):
        module = layers[name]
        alone = collect(model, pairs(), {name: module}, forward=adapter.forward, token_mask=adapter.mask)[name]
        assert torch.equal(alone.gram, held[name].gram)
        assert alone.tokens == held[name].tokens


class Fickle(nn.Module):
    """Two layers with one input in the first pass, and another one each from the second on."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x, *, same):
        return self.layers[0](x) + self.layers[1](x if same else 2 * x)


def test_sharing_is_verified_on_each_batch():
    model = Fickle()
    batches = [(torch.randn(5, 4), same) for same in (True, False)]

    def forward(model, batch):
        model(batch[0], same=batch[1])

    held = collect(model, batches, dict(find(model)), forward=forward)
    x = batches[0][0], 2 * batches[1][0]
    torch.testing.assert_close(held["layers.1"].gram, x[0].T @ x[0] + x[1].T @ x[1])
    torch.testing.assert_close(held["layers.0"].gram, x[0].T @ x[0] + x[1].T @ x[1] / 4)


class Plain(lightning.LightningModule):
    """A Lightning module without blocks: a convolution, a map, and a head that stays dense."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, stride=2), nn.ReLU(inplace=True))
        self.mix = nn.Linear(6 * 16, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(torch.relu(self.mix(self.image(x).flatten(1))))


def test_a_lightning_module_with_a_convolution():
    torch.manual_seed(0)
    model = Plain().train()
    head = model.head.weight.clone()
    images = [torch.randn(16, 2, 8, 8) for _ in range(4)]
    report = prune(model, images, forward=lambda model, x: model(x), settings=SparseGPT())
    assert [(layer.name, layer.kind, layer.rows, layer.columns) for layer in report.layers] == [
        ("image.0", "conv2d", 6, 18),
        ("mix", "linear", 12, 96),
    ]
    assert report.sparsity == 0.5
    assert report.tokens == 64 * 16, "of each image 4 x 4 places"
    assert torch.equal(model.head.weight, head)
    assert model.training


def test_a_transposed_layer_is_pruned_like_a_linear_one():
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=40, n_positions=32)
    model = GPT2LMHeadModel(config)
    tokens = [torch.randint(0, 40, (4, 20)) for _ in range(3)]
    report = prune(model, tokens, forward=lambda model, x: model(x), settings=SparseGPT(pattern="2:4", refit_steps=0))
    assert [layer.kind for layer in report.layers] == ["conv1d"] * 8
    for module in find(model).values():
        assert ((module.weight.T != 0).unflatten(1, (-1, 4)).sum(-1) == 2).all()
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    assert (model.lm_head.weight != 0).all()


def test_the_transposed_layer_gets_the_same_weights():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    turned, linear = nn.ModuleList([Conv1D(5, 8)]), nn.ModuleList([nn.Linear(8, 5)])
    with torch.no_grad():
        linear[0].weight.copy_(turned[0].weight.T)
    x = [torch.randn(50, 8)]
    for model in (turned, linear):
        prune(model, x, forward=lambda model, x: model[0](x), settings=SparseGPT())
    assert torch.equal(turned[0].weight.T, linear[0].weight)


class StopError(Exception):
    """A stop in the middle."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_gives_the_same_bytes(tmp_path, stop_after, dtype):
    adapter = Masks()
    every = {"forward": adapter.forward, "token_mask": adapter.mask, "settings": SparseGPT(refit_steps=3)}
    straight, resumed = bart().to(dtype), bart().to(dtype)
    expected = prune(straight, pairs(), **every)
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == stop_after:
            raise StopError

    with pytest.raises(StopError):
        prune(bart().to(dtype), pairs(), store=tmp_path / "blocks", told=stop, **every)
    assert len(list((tmp_path / "blocks").glob("*.npz"))) == stop_after
    found = prune(resumed, pairs(), store=tmp_path / "blocks", **every)
    assert dumps(found) == dumps(expected)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match="another model, other data or other settings"):
        prune(bart().to(dtype), pairs(5), store=tmp_path / "blocks", **every)


def test_a_half_written_block_is_done_again(tmp_path):
    adapter = Masks()
    every = {"forward": adapter.forward, "token_mask": adapter.mask, "settings": SparseGPT(refit_steps=0)}
    model = bart()
    prune(model, pairs(), store=tmp_path, **every)
    last = sorted(tmp_path.glob("*.npz"))[-1]
    (tmp_path / f".{last.name}.partial").write_bytes(last.read_bytes()[:50])
    last.unlink()
    again = bart()
    prune(again, pairs(), store=tmp_path, **every)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_outliers_decide_how_much_is_pruned_where():
    model = bart()
    with torch.no_grad():
        find(model)["model.encoder.layers.0.fc1"].weight[:, 0] *= 50
    report = pruned(model, pairs(), allocation="owl", sparsity=0.6)
    share = {layer.name: layer.sparsity for layer in report.layers}
    assert min(share, key=share.get) == "model.encoder.layers.0.fc1"
    assert max(share.values()) - min(share.values()) == pytest.approx(0.16, abs=0.01)
    assert report.sparsity == pytest.approx(0.6, abs=0.005), "counts of small layers are rounded down"


@pytest.mark.parametrize("method", ["magnitude", "wanda", "wanda+refit"])
def test_rivals_run_through_the_same_driver(method):
    report = pruned(bart(), pairs(), method=method)
    assert report.method == method
    assert {layer.sparsity for layer in report.layers} == {0.5}


def test_joint_quantisation_of_a_model():
    model = bart()
    report = pruned(model, pairs(), bits=4)
    assert {layer.bits for layer in report.layers} == {4}
    assert all(layer.sparsity >= 0.5 for layer in report.layers)
    assert all(len(row.unique()) <= 16 for module in find(model).values() for row in as_matrix(module))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layers": ("model.encoder.embed_tokens",)}, "fits no layer"),
        ({"layers": ("model.shared",)}, "layer model.shared: is an embedding"),
        ({"layers": ("model.encoder.layers.0.fc9",)}, "nearest: model.encoder.layers.0.fc"),
        ({"batches": []}, "no calibration batch"),
        ({"settings": SparseGPT(pattern="2:32")}, r"layer .*k_proj: pattern 2:32 does not divide 16 columns"),
        ({"token_mask": lambda name, args: torch.zeros(args[0].shape[:-1], dtype=torch.bool)}, "no token is left"),
    ],
)
def test_mistakes_are_answered_before_a_layer_is_changed(change, told):
    model, adapter = bart(), Masks()
    given = {"batches": pairs(2), "forward": adapter.forward, "settings": SparseGPT(), **change}
    with pytest.raises(ValueError, match=told):
        prune(model, given.pop("batches"), **given)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), bart().parameters(), strict=True))


def test_activations_that_are_not_finite_name_layer_and_batch():
    model = nn.ModuleList([nn.Linear(4, 4)])
    batches = [torch.randn(6, 4), torch.full((6, 4), np.inf)]
    with pytest.raises(ValueError, match="layer 0, calibration batch 1: inputs are not finite"):
        prune(model, batches, forward=lambda model, x: model[0](x), settings=SparseGPT())


def test_a_layer_that_is_never_called_is_named():
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    with pytest.raises(ValueError, match="layer 1: was not called on the calibration data; leave it out with !1"):
        prune(model, [torch.randn(6, 4)], forward=lambda model, x: model[0](x), settings=SparseGPT())
