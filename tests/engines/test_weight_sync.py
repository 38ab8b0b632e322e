"""What the engine samples from is the checkpoint that it was given, also after weights were swapped in place.

And tokens that are banned, as return tags are, are never drawn.
"""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine
EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"

SCRIPT = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from rlreason.config import EngineConfig, ModelConfig
from rlreason.engines import SampleRequest, SamplingSettings, start

embedded, folder, engine_name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tokenizer = AutoTokenizer.from_pretrained(embedded)
checkpoints = [embedded]
for number in (1, 2):
    torch.manual_seed(number)
    model = AutoModelForCausalLM.from_pretrained(embedded, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1 + 0.1 * number).add_(0.02 * torch.randn_like(weights))
    checkpoints.append(folder / str(number))
    model.save_pretrained(checkpoints[-1])
    tokenizer.save_pretrained(checkpoints[-1])
engine_config = EngineConfig(name=engine_name, max_sequences=64, memory_share=0.5, tensor_parallel_size=1,
                             enforce_eager=True, replicas=1, devices=None, executor="auto", probe_limit=0.1)
values = dict(name="tiny", path="x", revision=None, parameters=None, dtype="float32", learning_rate=1e-3,
              orm_learning_rate=1e-4,
              rl_learning_rate=1e-6,
              micro_batch_size=1, gradient_checkpointing=False, lora_rank=0, lora_alpha=1.0)
model_config = ModelConfig(**values)
engine = start(engine_config, model_config, 200, 0)
long = "Tom buys 3 more. Ana gives Tom 2 apples. " * 4
texts = [f"Question: Tom has {n} apples. {long}\\nAnswer:\\n" for n in range(4)]
prompts = [tuple(tokenizer(text)["input_ids"]) for text in texts]
requests = [SampleRequest(str(n), s, 7 * s + n, ids) for n, ids in enumerate(prompts) for s in range(3)]
for checkpoint in [*checkpoints, embedded]:
    engine.load(checkpoint)
    reference = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    rollouts = [r for batch in engine.sample(requests, SamplingSettings(0.7, 40)) for r in batch]
    assert len(rollouts) == len(requests)
    for rollout in rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
        with torch.no_grad():
            logprobs = (reference(ids).logits[0] / 0.7).log_softmax(-1)
        for offset, (token, ours) in enumerate(zip(rollout.completion_ids, rollout.sampler_logprobs)):
            theirs = logprobs[len(rollout.prompt_ids) - 1 + offset, token].item()
            assert abs(theirs - ours) < 1e-3, (checkpoint, offset, theirs, ours)
favourite = rollouts[0].completion_ids[0]
settings = SamplingSettings(0.7, 40, banned_token_ids=(favourite,))
banned = [r for batch in engine.sample(requests, settings) for r in batch]
assert any(favourite in r.completion_ids for r in rollouts)
assert not any(favourite in r.completion_ids for r in banned)
print("agreed")
"""


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_sampler_logprobs_are_those_of_the_loaded_checkpoint(engine, tmp_path):
    import subprocess

    pytest.importorskip(engine)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(EMBEDDED), str(tmp_path), engine], capture_output=True, text=True, timeout=300
    )
    assert "agreed" in done.stdout, done.stderr[-3000:]
