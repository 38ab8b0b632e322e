"""Two real vLLM engines on the CPU: one is killed while it samples, and nothing of what was drawn shows it."""

import os
import signal

import pytest
from fake_engine import question
from tests_support import composed

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.start import start_engine
from rlreason.models.resolve import EMBEDDED_FOLDER

pytestmark = pytest.mark.engine
TINY = EMBEDDED_FOLDER / "tiny"
GREEDY, DRAWN = SamplingSettings(0.0, 40), SamplingSettings(0.7, 40)


@pytest.fixture(scope="module")
def pair():
    pytest.importorskip("vllm")
    config = composed("engine=vllm", "engine.replicas=2", "engine.max_sequences=16", "engine.memory_share=0.2")
    lines = []
    engine = start_engine(config.engine, config.model, 120, 0, report=lines.append)
    engine.load(TINY)
    engine.lines = lines
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests():
    from rlreason.models.loading import load_tokenizer

    tokenizer = load_tokenizer(TINY)
    texts = [f"Question: Tom has {n} apples and buys {n % 7} more. How many has he?\nAnswer:\n" for n in range(24)]
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    return [
        SampleRequest(question(str(n)), sample, 10 * n + sample, ids)
        for n, ids in enumerate(prompts)
        for sample in range(4)
    ]


def sampled(stream):
    rollouts = [rollout for finished in stream for rollout in finished]
    found = {(item.problem.id, item.sample): item for item in rollouts}
    assert len(found) == len(rollouts), "a sample came twice"
    return found


def test_a_killed_engine_changes_nothing(pair, requests):
    assert len(pair.processes) == 2
    greedy, drawn = sampled(pair.sample(requests, GREEDY)), sampled(pair.sample(requests, DRAWN))
    assert greedy.keys() == drawn.keys() == {(request.problem.id, request.sample) for request in requests}

    def disturbed():
        for count, finished in enumerate(pair.sample(requests, DRAWN)):
            if count == 1:
                os.kill(pair.processes[0], signal.SIGKILL)
            yield finished

    again = sampled(disturbed())
    assert "was killed by SIGKILL; its" in pair.lines[0] and len(pair.lines) == 1
    assert list(pair.processes) == [1]
    alone = sampled(pair.sample(requests, GREEDY))
    for one, other in ((drawn, again), (greedy, alone)):
        assert one.keys() == other.keys()
        for key, rollout in one.items():
            assert rollout.completion_ids == other[key].completion_ids
            assert rollout.sampler_logprobs == pytest.approx(other[key].sampler_logprobs, abs=1e-4)
    assert pair.lines[1:] == []
