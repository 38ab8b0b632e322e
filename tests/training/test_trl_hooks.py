"""What rlreason/training/on_policy_trainer.py takes from TRL beyond its public interface is still there."""

from __future__ import annotations

import inspect
from importlib import metadata

import pytest

HOOKS = {
    "_prepare_inputs": ["self", "generation_batch"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_compute_loss": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
}
FIELDS = [
    "rollout_func(prompts, self)",
    '"prompt_ids", "completion_ids", "logprobs"',
    '"env_mask"',
    '"old_per_token_logps"',
    '"sampling_per_token_logps"',
    "advantages.dim() == 1",
    "self._step",
    "self._metrics[mode]",
    '"num_items_in_batch"',
]


@pytest.mark.engine
def test_private_hooks_of_trl_are_where_they_were() -> None:
    from trl import GRPOTrainer
    from trl.trainer import grpo_trainer

    source = inspect.getsource(grpo_trainer)
    moved = [
        name
        for name, parameters in HOOKS.items()
        if list(inspect.signature(inspect.unwrap(getattr(GRPOTrainer, name))).parameters) != parameters
    ]
    moved += ["_get_per_token_logps_and_entropies"] * (
        list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)[:5]
        != ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    )
    moved += [field for field in FIELDS if field not in source]
    assert not moved, (
        f"TRL {metadata.version('trl')} has moved {', '.join(moved)}: pin the earlier version, or adapt "
        "rlreason/training/on_policy_trainer.py and ppo.py"
    )
