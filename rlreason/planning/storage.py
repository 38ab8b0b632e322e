"""Disk that an experiment takes: checkpoints, resumable ones, rollouts."""

from __future__ import annotations

from rlreason.config.algorithms import OnPolicyConfig, PPOConfig
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import SFTInitConfig
from rlreason.planning.batches import trains_outcome_model
from rlreason.planning.shape import ModelShape, local_folder
from rlreason.planning.workload import Work, checkpoints

# Zstandard Parquet with token ids, log-probs and text: 5.5 to 6.2 bytes in three finished runs (docs/log.md).
BYTES_PER_SAMPLED_TOKEN = 6


def storage(config: ExperimentConfig, shape: ModelShape, work: list[Work]) -> dict[str, float]:
    """Bytes on disk by what they are for.

    Trained weights are written in float32, or merged in bfloat16 with LoRA; a resumable checkpoint holds the weights
    that are trained and Adam's moments, and the one before it is removed only when it is whole.

    Args:
        config: The experiment.
        shape: Of its model.
        work: Its workload.
    """
    rank = config.model.lora_rank
    saved = (2.0 if rank else 4.0) * shape.parameters
    trained = shape.adapters(rank) if rank else shape.parameters
    models = 1
    found: dict[str, float] = {}
    if not local_folder(config.model).is_dir():
        found["download"] = 2.0 * shape.parameters
    if config.task.name == "evaluate":
        return found | _rollouts(work)
    kept = 0 if config.algo.name == "orm" else checkpoints(config)
    kept += isinstance(config.init, SFTInitConfig)
    found["checkpoints"] = kept * saved
    if trains_outcome_model(config):
        found["outcome reward model"] = saved
    if isinstance(config.algo, OnPolicyConfig):
        found["policy of the moment"] = saved
        models += isinstance(config.algo, PPOConfig) and config.algo.critic == "separate"
    if config.algo.name == "rcrl":
        found["copy with tags"] = 2.0 * shape.parameters
    found["resumable, for a while"] = 2 * 12.0 * trained * models
    return found | _rollouts(work)


def _rollouts(work: list[Work]) -> dict[str, float]:
    return {"rollouts": BYTES_PER_SAMPLED_TOKEN * sum(item.tokens for item in work if item.kind != "train")}
