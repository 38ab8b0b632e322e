"""What vLLM is asked on CUDA, and in which order, with stand-ins for it and for the GPU: `make gpu-check` has them."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from fake_engine import question
from tests_support import composed

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.vllm import VLLMEngine
from rlreason.errors import UserError
from rlreason.models.resolve import EMBEDDED_FOLDER

TINY, SMALL = EMBEDDED_FOLDER / "tiny", EMBEDDED_FOLDER / "small"
SETTINGS = SamplingSettings(1.0, 8)
GIB = 2**30


class FakeLLM:
    """Notes what is called; draws one token of a request at each step, and never more than `seats` at a time."""

    seats = 4
    resets = True
    error: Exception | None = None

    def __init__(self, calls, **arguments):
        calls.append(("start", arguments))
        if FakeLLM.error is not None:
            raise FakeLLM.error
        self.calls = calls
        self.queue = []
        self.most = 0
        self.llm_engine = SimpleNamespace(
            add_request=self._add,
            step=self._step,
            abort_request=lambda ids: calls.append(("abort", ids)),
            engine_core=SimpleNamespace(shutdown=lambda: calls.append("shutdown")),
        )

    def _add(self, identity, prompt, parameters, lora_request):
        self.queue.append(identity)
        self.most = max(self.most, len(self.queue))

    def _step(self):
        now, self.queue = self.queue[: self.seats], self.queue[self.seats :]
        choice = SimpleNamespace(
            token_ids=[1],
            logprobs=[{1: SimpleNamespace(logprob=-1.0)}],
            text="x",
            finish_reason="stop",
            stop_reason=None,
        )
        return [SimpleNamespace(request_id=identity, finished=True, outputs=[choice]) for identity in now]

    def collective_rpc(self, method, kwargs):
        self.calls.append(method)

    def reset_prefix_cache(self):
        self.calls.append("reset")
        return self.resets

    def sleep(self, level):
        self.calls.append("sleep")

    def wake_up(self):
        self.calls.append("wake")

    def get_tokenizer(self):
        from rlreason.models.loading import load_tokenizer

        return load_tokenizer(TINY)


@pytest.fixture
def calls(monkeypatch):
    """Calls of vLLM in order, on a GPU of 80 GiB of which 60 are free."""
    noted = []
    module = ModuleType("vllm")
    module.LLM = lambda **arguments: FakeLLM(noted, **arguments)
    module.SamplingParams = lambda **arguments: arguments
    parameters = ModuleType("vllm.sampling_params")
    parameters.RequestOutputKind = SimpleNamespace(FINAL_ONLY=2)
    lora = ModuleType("vllm.lora.request")
    lora.LoRARequest = SimpleNamespace
    for name, one in (("vllm", module), ("vllm.sampling_params", parameters), ("vllm.lora.request", lora)):
        monkeypatch.setitem(sys.modules, name, one)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (60 * GIB, 80 * GIB))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr(FakeLLM, "error", None)
    monkeypatch.setattr(FakeLLM, "resets", True)
    return noted


def engine(*overrides):
    config = composed("engine=vllm", "engine.memory_share=0.5", *overrides)
    return VLLMEngine(config.engine, config.model, 120, 0)


def names(calls):
    return [call if isinstance(call, str) else call[0] for call in calls]


def test_it_starts_with_a_share_of_what_is_free_and_a_memory_that_can_be_given_back(calls):
    engine().load(TINY)
    arguments = calls[0][1]
    assert arguments["gpu_memory_utilization"] == pytest.approx(0.5 * 60 / 80)
    assert arguments["enable_sleep_mode"] and arguments["enforce_eager"] is False
    assert arguments["logprobs_mode"] == "processed_logprobs" and arguments["trust_remote_code"] is False
    assert not {"kv_cache_memory_bytes", "block_size", "enable_chunked_prefill"} & arguments.keys(), "those of a CPU"


def test_a_model_starts_at_the_same_path_each_time_by_which_what_was_compiled_is_found(calls):
    for _ in range(2):
        engine().load(SMALL)
    assert SMALL.joinpath("config.json").read_text().count('"tie_word_embeddings": true') == 1
    assert calls[0][1]["model"] == calls[2][1]["model"] != str(SMALL)


def test_the_share_is_a_fixed_one_where_ray_chooses_the_gpu(calls, monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: pytest.fail("another process samples"))
    engine("engine.executor=ray").load(TINY)
    assert calls[0][1]["gpu_memory_utilization"] == 0.5


def test_weights_are_put_in_place_awake_and_what_was_cached_is_forgotten(calls, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(TINY)
    one = engine()
    one.load(TINY)
    one.release()
    one.release()
    one.load(copy)
    expected = ["start", "reset", "sleep", "wake", "reload_weights", "reset"]
    assert names(calls) == expected
    one.release()
    one.load(copy)
    assert names(calls)[len(expected) :] == ["sleep", "wake"], "the weights are there"


def test_keys_and_values_that_vllm_keeps_end_the_load(calls, monkeypatch):
    one = engine()
    one.load(TINY)
    monkeypatch.setattr(FakeLLM, "resets", False)
    copy = TINY.parent / "." / "tiny" / ".." / "tiny"
    with pytest.raises(RuntimeError, match="keeps keys and values"):
        one.load(copy)
    assert one.loaded is None


def test_another_vocabulary_starts_it_anew(calls):
    one = engine()
    one.load(TINY)
    one.vocabulary_size += 2  # as before tokens were added
    one.load(SMALL)
    assert names(calls) == ["start", "reset", "shutdown", "start", "reset"]


@pytest.mark.parametrize("error", [ValueError, RuntimeError, AssertionError])
def test_the_reason_of_vllm_is_in_the_message(calls, monkeypatch, error):
    text = "1 validation error for VllmConfig\n  Value error, Model Runner V2 requires Triton\n"
    monkeypatch.setattr(FakeLLM, "error", error(text))
    with pytest.raises(UserError, match=r"cannot start on .*: 1 validation error .* Model Runner V2 requires Triton$"):
        engine().load(TINY)


def test_advice_on_memory_is_given_where_memory_is_short(calls, monkeypatch):
    text = "Free memory on device cuda:0 (3.0/79.1 GiB) on startup is less than desired GPU memory utilization"
    monkeypatch.setattr(FakeLLM, "error", ValueError(text))
    with pytest.raises(UserError, match=r"less than desired .*; end other programs, or lower engine\.memory_share$"):
        engine().load(TINY)


def test_vllm_holds_a_few_of_the_requests_and_draws_all(calls):
    one = engine("engine.max_sequences=4")
    one.load(TINY)
    requests = [SampleRequest(question(str(number)), 0, number, (1, 2)) for number in range(100)]
    drawn = [rollout for rollouts in one.sample(requests, SETTINGS) for rollout in rollouts]
    assert [rollout.problem.id for rollout in drawn] == [request.problem.id for request in requests]
    assert one.llm.most == 8
    assert list(one.sample([], SETTINGS)) == []
