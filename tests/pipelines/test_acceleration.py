"""Blocks compiled or run again, and how fast training is: the same losses, and figures that add up."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from ehr.model import Anamnesis, AnamnesisConfig
from pipelines.acceleration import blocks, compile_blocks, flops_a_token, keep_little, measured_flops
from pipelines.callbacks.speed import Speed

SHAPE = {"width": 16, "heads": 2, "encoder_layers": 2, "decoder_layers": 1, "dropout": 0.1}


def network():
    torch.manual_seed(0)
    return Anamnesis(AnamnesisConfig(vocabulary_size=50, network=SHAPE)).train()


def run(net, rows, positions):
    """Return the loss of made-up rows and the gradient of the embedding; dropout is on."""
    draw = torch.Generator().manual_seed(rows)
    token = torch.randint(1, 50, (rows, positions), generator=draw)
    segment, age = torch.ones_like(token), token.float()
    net.zero_grad()
    torch.manual_seed(1)
    loss = net.encode(token, segment, segment, age, age, net.table()).encoded.pow(2).mean()
    loss.backward()
    return loss.item(), net.embedding.weight.grad.clone()


def kept(net):
    """Return the bytes that a forward pass keeps for its gradient."""
    held = {}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    token = torch.randint(1, 50, (8, 64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net.encode(token, token, token, token.float(), token.float(), net.table())
    return sum(held.values())


def test_what_is_made_again_is_the_same_to_the_bit_and_takes_less():
    plain, little = network(), network()
    keep_little(little)
    for shape in ((2, 8), (3, 11)):
        (loss, gradient), (other, made_again) = run(plain, *shape), run(little, *shape)
        assert loss == other
        assert torch.equal(gradient, made_again)
    assert kept(little) < kept(plain) / 2
    assert list(little.state_dict()) == list(plain.state_dict())


# Of torch itself, while it looks at what is no leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("little", [False, True])
def test_compiled_blocks_give_the_same_loss(little):
    plain, compiled = network().eval(), network().eval()
    if little:
        keep_little(compiled)
    torch._dynamo.reset()
    counters.clear()
    # The compiler's own code generation takes minutes; what reaches it is what is tested here.
    compile_blocks(compiled, backend="aot_eager")
    for shape in ((2, 8), (3, 11)):
        (loss, gradient), (other, same) = run(plain, *shape), run(compiled, *shape)
        assert math.isclose(loss, other, rel_tol=1e-6)
        torch.testing.assert_close(gradient, same)
    assert counters["stats"]["unique_graphs"] > 0
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_a_token_costs_six_times_the_weights_of_the_blocks():
    net = network()
    assert len(blocks(net)) == 3
    weights = sum(p.numel() for name, p in net.named_parameters() if name.startswith(("encoder.", "decoder.")))
    assert flops_a_token(net) == 6 * weights


def test_a_processor_can_do_something():
    assert measured_flops(torch.float32) > 1e8


def test_speed_adds_up():
    net = network()
    said = []
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda counts, reduce_op: 2 * counts),
        precision="32-true",
        world_size=2,
        is_last_batch=False,
        global_step=1,
        loggers=[SimpleNamespace(log_metrics=lambda found, step: said.append(found))],
    )
    speed = Speed(every=2)
    speed.on_train_start(trainer, SimpleNamespace(network=net))
    token = torch.tensor([[1, 2, 3, 0], [1, 0, 0, 0]])
    batch = SimpleNamespace(content=[SimpleNamespace(token=token)])
    speed.on_train_batch_end(trainer, None, None, batch, 0)
    assert not said
    assert speed.line == ""
    speed.on_train_batch_end(trainer, None, None, batch, 1)
    (found,) = said
    assert found["speed/padding"] == 0.5
    # Two batches of four tokens in each of two processes.
    assert found["speed/tokens_per_second"] == pytest.approx(16 / speed.seconds)
    assert found["speed/mfu"] == pytest.approx(16 * flops_a_token(net) / speed.seconds / speed.peak)
    assert 0.05 < found["speed/memory_gib"] < 100
    assert "padding 50.0%, MFU" in speed.line
