"""What transformers says a token's log-probability was, against the model's own logits."""

import pytest
from fake_engine import question
from tests_support import composed

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.start import start_engine
from rlreason.models.resolve import EMBEDDED_FOLDER

pytestmark = pytest.mark.engine
TINY = EMBEDDED_FOLDER / "tiny"


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_they_are_those_of_the_distribution_that_was_drawn_from(temperature):
    import torch

    from rlreason.models.loading import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(TINY), load_model(TINY, "float32")
    banned = tokenizer("7")["input_ids"][-1]
    config = composed("engine=transformers", "engine.max_sequences=3")
    engine = start_engine(config.engine, config.model, 120, 0)
    engine.load(TINY)
    prompts = [tuple(tokenizer(f"Question: Tom has {n} apples.\nAnswer:\n")["input_ids"]) for n in (3, 12, 120)]
    requests = [SampleRequest(question(str(n)), n, n, prompts[n % 3]) for n in range(5)]
    settings = SamplingSettings(temperature, 12, banned_token_ids=(banned,))
    rollouts = [rollout for batch in engine.sample(requests, settings) for rollout in batch]
    assert len(rollouts) == 5
    for rollout in rollouts:
        start, ids = len(rollout.prompt_ids), torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1].clone()
        logits[:, banned] = -torch.inf
        logits = logits / (temperature or 1.0)
        expected = logits.log_softmax(-1).gather(-1, ids[0, start:, None]).squeeze(-1)
        assert rollout.sampler_logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        assert banned not in rollout.completion_ids
