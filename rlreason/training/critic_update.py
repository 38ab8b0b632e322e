"""The critic's side of a PPO update: its own optimizer, and what a resumable checkpoint keeps of it.

It learns beside the policy, with the same kind of optimizer and the same schedule, and a learning rate of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from rlreason.distributed import ranks
from rlreason.models.critic import Critic
from rlreason.models.sharding import full_weights

WEIGHTS_FILE = "critic.safetensors"
OPTIMIZER_FILE = "critic_optimizer.safetensors"


class CriticUpdate:
    """A critic and its optimizer.

    Args:
        critic: On its device, and split already if it is to be.
        optimizer: Makes the optimizer of weights.
        max_grad_norm: Gradients are clipped to it.
        arguments: The optimizer's arguments; its `lr` is the highest of the schedule.
    """

    def __init__(
        self, critic: Critic, optimizer: Callable[..., torch.optim.Optimizer], max_grad_norm: float, **arguments: Any
    ) -> None:
        self.critic = critic
        self.weights = [weights for weights in critic.parameters() if weights.requires_grad]
        self.optimizer = optimizer(self.weights, **arguments)
        self.learning_rate = arguments["lr"]
        self.max_grad_norm = max_grad_norm

    def step(self, share: float) -> None:
        """One optimizer step with the gradients that are there, which it forgets.

        Args:
            share: The share of the learning rate, as the schedule has it now.
        """
        torch.nn.utils.clip_grad_norm_(self.weights, self.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state, whole; every process has to call it, and rank 0 writes."""
        weights = full_weights(self.critic)
        moments = {
            f"{number}.{name}": _whole(value)
            for number, weight in enumerate(self.weights)
            for name, value in self.optimizer.state.get(weight, {}).items()
        }
        if ranks.rank() == 0:
            save_file(weights, folder / WEIGHTS_FILE)
            save_file(moments, folder / OPTIMIZER_FILE)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote, in any number of processes; every one has to call it."""
        options = StateDictOptions(full_state_dict=True, strict=False)  # a tied matrix is stored once
        set_model_state_dict(self.critic, load_file(folder / WEIGHTS_FILE), options=options)
        state: defaultdict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for key, value in load_file(folder / OPTIMIZER_FILE).items():
            number, name = key.split(".", 1)
            state[int(number)][name] = _like(value, self.weights[int(number)])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(state)})


def _whole(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()


def _like(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A moment of a weight, split as the weight is; a count of steps stays whole."""
    if isinstance(weight, DTensor) and value.dim() > 0:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value
