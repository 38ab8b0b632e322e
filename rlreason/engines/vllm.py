"""Generation by vLLM inside this process: the same code on CPU and CUDA, where start.py gives it one of its own.

vLLM's own loop returns when the last completion is done; here its engine is stepped by hand, so that each finished
completion can be stored at once. Every completion is a request of its own with its own seed; prefix caching lets
the samples of a question share the work on their prompt.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from rlreason.config.sections import EngineConfig, ModelConfig
from rlreason.engines.engine import Feed, SampleRequest, SamplingSettings, without_stop_text
from rlreason.engines.shared_memory import folder_in_memory
from rlreason.engines.untied import matrix_bytes, shape_name, untied_view
from rlreason.errors import UserError
from rlreason.models.tokens import end_ids
from rlreason.planning.shape import engine_number_bytes
from rlreason.types import Rollout

GIB = 2**30
BLOCK = 32  # tokens whose keys and values are kept together on a CPU
BESIDE = GIB // 2  # of main memory, for what vLLM allocates besides weights, keys and values
NEVER = -100.0  # vLLM's lowest logit bias


class VLLMEngine:
    """A vLLM engine that starts with its first checkpoint and then swaps weights in place."""

    def __init__(
        self,
        config: EngineConfig,
        model_config: ModelConfig,
        max_model_tokens: int,
        seed: int,
        adapter_rank: int = 0,
        cache_tokens: int | None = None,
    ) -> None:
        self.config = config
        self.model_config = model_config
        self.max_model_tokens = max_model_tokens
        self.seed = seed
        self.adapter_rank = adapter_rank
        self.cache_tokens = config.max_sequences * max_model_tokens if cache_tokens is None else cache_tokens
        self.loaded: Path | None = None
        self.vocabulary_size = 0
        self.ends: Sequence[int] = ()  # tokens that end a completion
        self.asleep = False
        self.llm: Any = None
        self.adapters: Any = None  # vLLM's LoRARequest for those of `loaded`, where it is no whole checkpoint
        self._base: Path | None = None
        self._adapters_loaded = 0

    def load(self, checkpoint: Path) -> None:
        """Start on `checkpoint`, or put its weights in the place of the current ones and forget cached prefixes.

        Of a folder with LoRA adapters these alone are read where the weights below them are here already.
        """
        if self.asleep:
            self.llm.wake_up()  # before anything is written into its memory
            self.asleep = False
        if checkpoint == self.loaded:
            return
        from rlreason.models.loading import base_of

        base = base_of(checkpoint)
        self.loaded = None  # a load that fails half way leaves nothing to rely on
        if base != self._base:
            self._load_weights(base)
        self._load_adapters(None if base == checkpoint else checkpoint)
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM keeps keys and values of the weights before; none of them may be sampled from")
        self.loaded = checkpoint

    def _load_weights(self, checkpoint: Path) -> None:
        self._base = None
        size = vocabulary_size(checkpoint)
        if size != self.vocabulary_size:
            self.close()  # tokens were added: the weights no longer fit into the place of the old ones
        elsewhere = Path(tempfile.gettempdir()) / f"rlreason-{os.getpid()}"
        # vLLM finds what it has compiled for a model by the path of the checkpoint, too.
        with folder_in_memory(matrix_bytes(checkpoint), elsewhere, shape_name(checkpoint)) as folder:
            view = untied_view(checkpoint, folder / "view")
            if self.llm is None:
                self.llm = self._start(view)
                self.vocabulary_size = size
            else:
                self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(view)})
        self.ends = end_ids(checkpoint, self.llm.get_tokenizer())
        self._base = checkpoint

    def _load_adapters(self, folder: Path | None) -> None:
        """Put adapters in the place of the current ones; None: none."""
        from vllm.lora.request import LoRARequest

        if self.adapters is not None:
            self.llm.llm_engine.remove_lora(self.adapters.lora_int_id)
            self.adapters = None
        if folder is not None:
            self._adapters_loaded += 1  # one that is known by its number is not read again
            adapters = LoRARequest(f"adapters-{self._adapters_loaded}", self._adapters_loaded, str(folder))
            self.llm.llm_engine.add_lora(adapters)
            self.adapters = adapters

    def release(self) -> None:
        """Move weights off the GPU and drop the KV cache; on a CPU there is nothing to gain."""
        import torch

        if self.llm is not None and torch.cuda.is_available() and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = True

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw all requests, yielding the rollouts that each engine step finishes.

        vLLM holds twice as many as it generates at the same time: however many end in one step, as many wait.
        """
        waiting = iter(requests)

        def feed(pending: int) -> Sequence[SampleRequest] | None:
            new = list(islice(waiting, 2 * self.config.max_sequences - pending))
            return new if new or pending else None

        return self.sample_fed(feed, settings)

    def sample_fed(self, feed: Feed, settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw what `feed` gives until it gives None, yielding the rollouts that each engine step finishes."""
        engine = self.llm.llm_engine
        pending: dict[str, SampleRequest] = {}
        count = 0
        try:
            while (new := feed(len(pending))) is not None:
                for request in new:
                    prompt = {"prompt_token_ids": list(request.prompt_ids)}
                    parameters = _parameters(request, settings, self.ends)
                    engine.add_request(str(count), prompt, parameters, lora_request=self.adapters)
                    pending[str(count)] = request
                    count += 1
                finished = [output for output in engine.step() if output.finished]
                if finished:
                    yield [self._rollout(pending.pop(output.request_id), output) for output in finished]
        finally:
            if pending:
                engine.abort_request(list(pending))

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability of each token but the first given those before it, in nats, at temperature 1.

        vLLM computes a prompt whole when its log-probs are asked for, whatever prefixes are cached.
        """
        from vllm import SamplingParams

        parameters = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        prompt = {"prompt_token_ids": list(token_ids)}
        output = self.llm.generate(prompt, parameters, use_tqdm=False, lora_request=self.adapters)[0]
        positions = zip(output.prompt_logprobs[1:], token_ids[1:], strict=True)
        return tuple(position[token].logprob for position, token in positions)

    def _rollout(self, request: SampleRequest, output: Any) -> Rollout:
        completion = output.outputs[0]
        ids: Sequence[int] = completion.token_ids
        if isinstance(completion.stop_reason, str):  # vLLM cuts a stop text from the text alone
            ids = without_stop_text(ids, completion.text, self.llm.get_tokenizer())
        logprobs = [position[token].logprob for position, token in zip(completion.logprobs, ids, strict=False)]
        finish_reason = "length" if completion.finish_reason == "length" else "stop"
        return request.drawn(ids, logprobs, completion.text, finish_reason)

    def close(self) -> None:
        """End vLLM, with its weights and its KV cache."""
        if self.llm is None:
            return
        from rlreason.models.loading import free_memory

        self._base = self.loaded = None
        self.asleep = False
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = self.adapters = None
        free_memory()

    def _start(self, checkpoint: Path) -> Any:
        # The worker must live in this process, where its weights can be swapped without a copy between processes.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        import torch

        device_arguments = self._cuda_arguments() if torch.cuda.is_available() else self._cpu_arguments(checkpoint)
        from vllm import LLM

        try:
            return LLM(
                model=str(checkpoint),
                dtype=self.model_config.dtype,
                max_model_len=self.max_model_tokens,
                max_num_seqs=self.config.max_sequences,
                logprobs_mode="processed_logprobs",  # of the distribution that tokens are drawn from
                enable_prefix_caching=True,
                seed=self.seed,
                trust_remote_code=False,
                load_format="safetensors",
                generation_config="vllm",  # nothing of what the model's maker proposes
                use_tqdm_on_load=False,
                tensor_parallel_size=self.config.tensor_parallel_size,
                distributed_executor_backend=None if self.config.executor == "auto" else self.config.executor,
                **self._adapter_arguments(),
                **device_arguments,
            )
        except (ValueError, AssertionError, RuntimeError) as error:
            reason = " ".join(str(error).split())  # the second line and those after it say what is wrong with a setting
            raise UserError(f"vLLM cannot start on {checkpoint}: {reason}{advice(reason)}") from error

    def _adapter_arguments(self) -> dict[str, Any]:
        if self.adapter_rank == 0:
            return {}
        from vllm.config.lora import MaxLoRARanks

        allowed = [rank for rank in get_args(MaxLoRARanks) if rank >= self.adapter_rank]
        if not allowed:
            raise UserError(
                f"model.lora_rank={self.adapter_rank} is more than vLLM can hold; lower it to "
                f"{max(get_args(MaxLoRARanks))}, or use engine=transformers"
            )
        return {"enable_lora": True, "max_lora_rank": min(allowed), "max_loras": 1}

    def _cuda_arguments(self) -> dict[str, Any]:
        import torch

        share = self.config.memory_share
        if self.config.executor != "ray":  # Ray chooses the GPU; this process may see another one, or none
            free, total = torch.cuda.mem_get_info()
            share *= free / total
        return {
            "gpu_memory_utilization": share,
            "enforce_eager": self.config.enforce_eager,
            "enable_sleep_mode": True,
        }

    def _cpu_arguments(self, checkpoint: Path) -> dict[str, Any]:
        from vllm.utils.cpu_resource_utils import get_allowed_cpu_list, get_memory_node_info

        there = get_memory_node_info(get_allowed_cpu_list()[0].numa_node).available_memory
        block = BLOCK * _cache_bytes_per_token(checkpoint, engine_number_bytes(self.model_config.dtype))
        room = there - _engine_bytes(checkpoint)
        blocks = cached_blocks(block, room, self.cache_tokens, self.max_model_tokens, self.config.memory_share)
        return {
            "kv_cache_memory_bytes": block * blocks,
            "enforce_eager": True,
            "block_size": BLOCK,  # the samples of a question share whole blocks; the default, 128, is most prompts
            # A prompt cut in two fails with per-request seeds: vLLM 0.32 rewinds the generator by an offset that
            # CPU generators do not have.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, self.max_model_tokens),
        }


def cached_blocks(block: int, room: float, tokens: int, context: int, share: float) -> int:
    """Blocks of keys and values to reserve in main memory: as many as the work needs, within what vLLM will find.

    Args:
        block: Bytes of one, for `BLOCK` tokens.
        room: Bytes that the weights leave of what is free.
        tokens: Those whose keys and values the work needs.
        context: Tokens of the longest context, of which there must be room for one.
        share: Of `room`, beyond which no more than one context is reserved.

    Raises:
        UserError: There is no room for one context.
    """
    least = math.ceil(context / BLOCK) + 1  # vLLM keeps one for itself
    if least * block > room:
        raise UserError(
            f"engine=vllm: its weights leave {max(room, 0.0) / GIB:.1f} GiB of the memory that is free, and keys and "
            f"values of one context of {context:,} tokens take {least * block / GIB:.1f}; end other programs, lower "
            "data.max_prompt_tokens or data.max_completion_tokens, or take a smaller model"
        )
    return max(least, min(math.ceil(tokens / BLOCK) + 1, int(share * room / block)))


def advice(reason: str) -> str:
    """What to change where vLLM does not start for lack of memory; nothing for other reasons."""
    if "memory profiling" in reason:
        return "; run the same command again, without other programs on that GPU"
    if "less than desired" in reason or "on kv cache allocation" in reason:
        return "; end other programs, or lower engine.memory_share"
    if "KV cache" in reason or "cache blocks" in reason:
        return "; lower data.max_completion_tokens or data.max_prompt_tokens, or raise engine.memory_share"
    return ""


def _parameters(request: SampleRequest, settings: SamplingSettings, ends: Sequence[int]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=settings.temperature,
        seed=request.seed if settings.temperature > 0 else None,
        max_tokens=request.max_tokens or settings.max_tokens,
        stop=list(settings.stop),
        stop_token_ids=[*ends, *settings.stop_token_ids],
        logit_bias=dict.fromkeys(settings.banned_token_ids, NEVER) or None,
        logprobs=0,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def vocabulary_size(checkpoint: Path) -> int:
    """Rows of a checkpoint's embedding: a running engine takes no weights with another number of them."""
    return int(_shape(checkpoint).vocab_size)


def _shape(checkpoint: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).get_text_config()


def _engine_bytes(checkpoint: Path) -> float:
    """Bytes of a checkpoint's weights in the engine, and of what vLLM allocates besides."""
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) + BESIDE


def _cache_bytes_per_token(checkpoint: Path, size: int) -> int:
    """Bytes of keys and values that one token of one sequence takes, at `size` bytes a number."""
    shape = _shape(checkpoint)
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    head_size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    return int(2 * shape.num_hidden_layers * heads * head_size * size)
