"""Which layers are found, and that the matrix of each is what its forward multiplies with."""

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartModel
from transformers.pytorch_utils import Conv1D

from compress.layers import as_matrix, blocks, columns_of, find, kind, set_matrix


class Tied(nn.Module):
    """An embedding whose weights are the output head too, and two blocks."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 11, bias=False)
        self.embedding = nn.Embedding(11, 4)
        self.head.weight = self.embedding.weight
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4)) for _ in range(2))
        self.classifier = nn.Linear(4, 2)


LAYERS = [
    (nn.Linear(5, 7), (3, 5)),
    (Conv1D(7, 5), (3, 5)),
    (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    (nn.Conv2d(3, 4, (3, 2), stride=2, padding=(2, 1), dilation=(1, 2)), (2, 3, 9, 8)),
    (nn.Conv2d(3, 4, (3, 4), padding="same", dilation=2), (2, 3, 9, 8)),
    (nn.Conv2d(3, 4, 2, padding="valid"), (2, 3, 5, 5)),
]


@pytest.mark.parametrize(("module", "shape"), LAYERS, ids=lambda part: getattr(part, "_get_name", lambda: "")())
def test_the_matrix_is_what_the_forward_multiplies_with(module, shape):
    x = torch.randn(shape)
    expected = module(x)
    found = columns_of(module, x) @ as_matrix(module).T + module.bias
    if isinstance(module, nn.Conv2d):
        found = found.transpose(1, 2).reshape(expected.shape)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("module", "shape"), LAYERS, ids=lambda part: getattr(part, "_get_name", lambda: "")())
def test_a_matrix_written_is_read_again_in_the_layers_dtype(module, shape):
    matrix = torch.randn_like(as_matrix(module))
    module = module.to(torch.bfloat16)
    set_matrix(module, matrix)
    assert torch.equal(as_matrix(module), matrix.to(torch.bfloat16))
    module.to(torch.float32)


def test_blocks_and_default_layers():
    model = Tied()
    assert list(blocks(model)) == ["layers.0", "layers.1"]
    assert list(find(model)) == ["layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1"]
    assert list(find(model, ("*",))) == [*find(model), "classifier"]
    assert list(find(model, ("@blocks", "!layers.0.*"))) == ["layers.1.0", "layers.1.1"]
    assert list(find(model, ("embedding",))) == ["embedding"]


def test_an_encoder_decoder():
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
    )  # fmt: skip
    model = BartModel(config)
    assert len(blocks(model)) == 4
    assert len(find(model)) == 2 * 6 + 2 * 10
    assert all(kind(module) == "linear" for module in find(model).values())


def test_a_model_without_blocks_keeps_its_last_layer():
    assert list(find(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)))) == ["0"]


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"layers\.0\.2 fits no layer; nearest: layers\.0\.[01]"):
        find(Tied(), ("layers.0.2",))
    with pytest.raises(ValueError, match="choose nothing"):
        find(Tied(), ("classifier", "!classifier"))


def test_modules_without_a_matrix():
    assert kind(nn.Conv2d(4, 4, 3, groups=2)) is None
    with pytest.raises(ValueError, match="no matrix"):
        as_matrix(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="multiplies no input"):
        columns_of(nn.Embedding(3, 2), torch.zeros(2, dtype=torch.int64))
