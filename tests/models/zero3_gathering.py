"""ZeRO-3 over gloo: torchrun starts this twice; the tiny model is split, scored and saved (see test_sharding.py)."""

import sys
from pathlib import Path

import deepspeed
import torch
from tests_support import composed
from transformers.integrations import HfDeepSpeedConfig

from rlreason.models.loading import load_for_training, load_tokenizer, save_snapshot
from rlreason.models.resolve import resolve
from rlreason.models.sharding import is_sharded

if __name__ == "__main__":
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # which compiles C++
    deepspeed.init_distributed("gloo")
    stage3 = {"stage": 3, "stage3_param_persistence_threshold": 0}
    alive = HfDeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, "zero_optimization": stage3})
    config = composed().model
    start = resolve(config).folder
    model = load_for_training(start, config)
    assert is_sharded(model) and all(weights.numel() == 0 for weights in model.parameters())
    engine, *_ = deepspeed.initialize(
        model=model, config={**alive.config, "bf16": {"enabled": False}}, model_parameters=None
    )
    save_snapshot(model, load_tokenizer(start), Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
