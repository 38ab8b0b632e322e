"""Disk that an experiment takes: checkpoints, resumable ones, rollouts."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import trains_outcome_model
from rlreason.config.sections import SFTInitConfig
from rlreason.planning.facts import Work, total
from rlreason.planning.shape import ModelShape, local_folder, sync_number_bytes
from rlreason.planning.updates import algorithm_facts

# Zstandard Parquet with token ids, log-probs and text: 5.5 to 6.2 bytes in three finished runs (docs/log.md).
BYTES_PER_SAMPLED_TOKEN = 6
# Bytes of a resumable checkpoint for each weight that is trained: itself, twice in a split model, and two moments.
RESUMABLE, RESUMABLE_SPLIT = 12.0, 16.0


def storage(config: ExperimentConfig, shape: ModelShape | None, work: list[Work]) -> dict[str, float | None]:
    """Bytes on disk by what they are for; None where that is not known.

    Trained weights are written in float32, or merged in bfloat16 with LoRA; a resumable checkpoint holds the weights
    that are trained (those of a split model twice, by transformers and by accelerate) and Adam's moments, and the one
    before it is removed only when it is whole.

    Args:
        config: The experiment.
        shape: Of its model; None where that is not known.
        work: Its workload.
    """
    drawn = total(item.tokens for item in work if item.kind != "train")
    rollouts = {"rollouts": None if drawn is None else BYTES_PER_SAMPLED_TOKEN * drawn}
    found: dict[str, float | None] = {}
    if not local_folder(config.model).is_dir():
        found["download"] = None if shape is None else 2.0 * shape.parameters
    if config.task.name == "evaluate":
        return found | rollouts
    facts = algorithm_facts(config)
    if shape is None or facts is None:
        return found | {"checkpoints": None} | rollouts
    rank = config.model.lora_rank
    saved = (2.0 if rank else 4.0) * shape.parameters
    trained = shape.adapters(rank) if rank else shape.parameters
    found["checkpoints"] = (facts.checkpoints + isinstance(config.init, SFTInitConfig)) * saved
    if trains_outcome_model(config):
        found["outcome reward model"] = saved
    resumable = (RESUMABLE if config.sharding.name == "none" else RESUMABLE_SPLIT) * trained
    if facts.update is not None and facts.update.rollouts:
        found["policy of the moment"] = min(saved, float(sync_number_bytes(config.model.dtype)) * shape.parameters)
        if facts.update.critic:
            resumable += RESUMABLE * (shape.parameters if facts.update.critic == "whole" else trained)
    found["copy with tags"] = facts.copies * 2.0 * shape.parameters
    found["resumable, for a while"] = 2 * resumable
    return found | rollouts
