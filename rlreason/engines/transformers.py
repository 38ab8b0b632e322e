"""Generation by transformers, for machines without vLLM: slower, with the same contract.

`generate` has one random state for a whole batch, so here a batch is seeded by its first request; results repeat
for the same requests in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlreason.config.sections import EngineConfig, ModelConfig
from rlreason.engines.engine import SampleRequest, SamplingSettings, without_stop_text
from rlreason.models.tokens import end_ids
from rlreason.types import Rollout

LOGIT_MEMORY = 2**30  # bytes that a batch may take for the distributions of its next tokens
COPIES = 4  # of those distributions at one time: logits, those with a temperature, their logarithms, probabilities


class TransformersEngine:
    """Samples with `model.generate` in batches grouped by prompt length; its methods are those of `Engine`."""

    def __init__(self, config: EngineConfig, model_config: ModelConfig) -> None:
        self.config = config
        self.model_config = model_config
        self.loaded: Path | None = None
        self.model: Any = None
        self.tokenizer: Any = None
        self.ends: Sequence[int] = ()  # tokens that end a completion

    def load(self, checkpoint: Path) -> None:
        """Read the weights of `checkpoint` unless they are already here."""
        if checkpoint == self.loaded and self.model is not None:
            return
        import torch
        from transformers import GenerationConfig

        from rlreason.models.loading import base_of, load_model, load_tokenizer

        base = base_of(checkpoint)
        self.tokenizer = load_tokenizer(base)
        self.tokenizer.padding_side = "left"
        self.model = load_model(base, self.model_config.dtype)
        if base != checkpoint:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, str(checkpoint)).merge_and_unload()
        # What a model's maker proposes (a penalty, beams, a least length) would act on samples unasked.
        self.model.generation_config = GenerationConfig()
        self.ends = end_ids(base, self.tokenizer)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.loaded = checkpoint

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability of each token but the first given those before it, in nats, at temperature 1."""
        from rlreason.models.probe import sequence_logprobs

        return sequence_logprobs(self.model, token_ids)

    def release(self) -> None:
        """Drop the model; the next `load` reads it again."""
        from rlreason.models.loading import free_memory

        self.model = None
        free_memory()

    def close(self) -> None:
        """Drop the model."""
        self.release()

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw all requests, yielding one batch of rollouts at a time."""
        vocabulary = self.model.config.vocab_size
        size = max(1, min(self.config.max_sequences, LOGIT_MEMORY // (COPIES * 4 * vocabulary)))
        ordered = sorted(requests, key=lambda request: len(request.prompt_ids))
        for first in range(0, len(ordered), size):
            yield self._batch(ordered[first : first + size], settings)

    def _batch(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Rollout]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        greedy = settings.temperature == 0
        drawn = _DrawnFrom(1.0 if greedy else settings.temperature)
        prompts = {"input_ids": [list(request.prompt_ids) for request in requests]}
        encoded = self.tokenizer.pad(prompts, return_tensors="pt").to(self.model.device)
        generation = GenerationConfig(
            do_sample=not greedy,
            temperature=None if greedy else 1.0,  # `drawn` applies it
            top_k=0,
            top_p=1.0,
            max_new_tokens=max(request.max_tokens or settings.max_tokens for request in requests),
            stop_strings=list(settings.stop) or None,
            suppress_tokens=list(settings.banned_token_ids) or None,
            eos_token_id=[*self.ends, *settings.stop_token_ids],
            pad_token_id=self.tokenizer.pad_token_id,
        )
        torch.manual_seed(requests[0].seed % 2**63)
        with torch.inference_mode():
            sequences = self.model.generate(
                **encoded,
                generation_config=generation,
                tokenizer=self.tokenizer,
                logits_processor=LogitsProcessorList([drawn]),
            )
        completions = sequences[:, encoded["input_ids"].shape[1] :]  # (batch, time)
        logprobs = drawn.logprobs(sequences)
        rows = zip(requests, completions.tolist(), logprobs.tolist(), strict=True)
        return [self._rollout(request, ids, values, settings) for request, ids, values in rows]

    def _rollout(
        self, request: SampleRequest, ids: list[int], logprobs: list[float], settings: SamplingSettings
    ) -> Rollout:
        ids = ids[: request.max_tokens]
        ends = {*self.ends, *settings.stop_token_ids}
        end = next((position + 1 for position, token in enumerate(ids) if token in ends), None)
        written: Sequence[int] = ids[:end]
        spelled = written[:-1] if end is not None and written[-1] in self.ends else written  # some are no special token
        text = self.tokenizer.decode(spelled, skip_special_tokens=True)
        cut = min((text.find(stop) for stop in settings.stop if stop in text), default=None)
        if cut is not None:
            text = text[:cut]
            written = without_stop_text(written, text, self.tokenizer)
        finish_reason = "length" if end is None and cut is None else "stop"
        return request.drawn(written, logprobs[: len(written)], text, finish_reason)


class _DrawnFrom:
    """The last step before a token is drawn: applies the temperature, and keeps what each token's log-probability was.

    Whole distributions of all tokens would fill the memory with a large vocabulary; here one is alive at a time.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._distribution: Any = None  # log-probabilities of the next token; (batch, vocabulary)
        self._columns: list[Any] = []  # of each token drawn so far; (batch,)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Logits of the next token, (batch, vocabulary), after the tokens `input_ids`, (batch, time)."""
        if self._distribution is not None:
            self._take(input_ids)
        scores = scores / self._temperature
        self._distribution = scores.float().log_softmax(-1)
        return scores

    def logprobs(self, sequences: Any) -> Any:
        """Log-probability of every token that was drawn, in nats; (batch, time)."""
        import torch

        self._take(sequences)
        return torch.stack(self._columns, dim=1)

    def _take(self, sequences: Any) -> None:
        self._columns.append(self._distribution.gather(-1, sequences[:, -1:]).squeeze(-1))
