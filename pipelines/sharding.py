"""FSDP: weights, gradients and optimizer divided over processes, one file in the checkpoint (torch, Lightning)."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from pipelines.acceleration import blocks

NAME = "fsdp2"


class Sharded(ModelParallelStrategy):
    """Lightning's FSDP2 over all processes, without tensor parallelism.

    A checkpoint is one file with the whole state, so that another number of processes, and plain DDP, go on from it.
    """

    def __init__(self, **others: Any) -> None:  # noqa: ANN401  Lightning's own arguments
        """Set up; sizes follow the number of processes."""
        super().__init__(save_distributed_checkpoint=False, **others)

    def setup_environment(self) -> None:
        """Divide over all processes, not over those of one machine alone."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


def register() -> None:
    """Make `--trainer.strategy fsdp2` known; Lightning's own fsdp cannot clip gradients by their norm."""
    if NAME not in StrategyRegistry:
        StrategyRegistry.register(NAME, Sharded, description="FSDP2 over all processes")


def shard(network: nn.Module, mesh: DeviceMesh, methods: Sequence[str]) -> None:
    """Divide the weights of each block, and of what is left, over the processes of a mesh.

    Args:
        network: built, its blocks in lists of modules.
        mesh: of one dimension.
        methods: what training calls in place of forward, on which the gathering of weights hangs.
    """
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(network, method)


def whole(network: nn.Module) -> dict[str, Tensor]:
    """Return all weights, gathered where they are divided; every process has to ask, the first one receives."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    held: dict[str, Any] = get_model_state_dict(network, options=options)
    return {name: value.contiguous() for name, value in held.items()}
