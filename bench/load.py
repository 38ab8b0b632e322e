"""What the measurements share: a composed experiment, and a load for an engine."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rlreason.config.compose import from_composed, with_protocols
from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.data.splits import read_data
from rlreason.display import Display
from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.start import in_this_process, start_engine, takes_adapters
from rlreason.jobs import config_folder
from rlreason.lab.checks import fit_prompts
from rlreason.lab.context import Context, Splits, Start
from rlreason.lab.engine import SharedEngine
from rlreason.lab.lab import Lab
from rlreason.models.resolve import resolve
from rlreason.models.tokens import model_kind
from rlreason.run.folder import Run
from rlreason.run.trackers import Tracker
from rlreason.types import Rollout


def compose(*overrides: str) -> ExperimentConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return from_composed(hydra_compose("config", overrides=["tracker=none", *overrides]))


class Questions:
    """One model, and some of its training questions as it is asked them."""

    def __init__(self, questions: int, *overrides: str) -> None:
        from rlreason.models.loading import load_tokenizer

        config = compose(*overrides)
        self.model = resolve(config.model)
        self.tokenizer = load_tokenizer(self.model.folder)
        self.config = with_protocols(config, model_kind(config.model, self.tokenizer))
        data = read_data(self.config.data)
        training = data.training().train
        self.problems = training[:questions]
        self.tested = data.measured("test")
        self.display = Display(Console(quiet=True))
        splits = {"training": self.problems, "test": self.tested}
        self.prompts, _ = fit_prompts(self.config, self.config.protocol, self.tokenizer, training, splits, self.display)


class Load(Questions):
    """Questions, K samples of each, and an engine.

    Args:
        questions: How many.
        samples: K.
        overrides: Of the default configuration.
        here: Whether the engine is vLLM in this process even on a GPU, where its own `LLM` can be reached.
    """

    def __init__(self, questions: int, samples: int, *overrides: str, here: bool = False) -> None:
        super().__init__(questions, *overrides)
        self.samples = samples
        limits = self.config.data.max_prompt_tokens + self.config.data.max_completion_tokens
        engine, model = self.config.engine, self.config.model
        rank = model.lora_rank if takes_adapters(engine) else 0
        self.engine: Any = (
            in_this_process("vllm", engine, model, limits, 0, rank, None)
            if here
            else start_engine(engine, model, limits, 0, rank)
        )
        self.engine.load(self.model.folder)

    def stage(self, folder: Path) -> float:
        """Completion tokens per second of a run's sampling stage, storing and grading included."""
        began = time.perf_counter()
        drawn = self.rollouts(folder)
        return sum(len(item.completion_ids) for item in drawn) / (time.perf_counter() - began)

    def rollouts(self, folder: Path) -> list[Rollout]:
        """The rollouts of such a stage."""
        run = Run(folder, {})
        context = Context(
            config=self.config,
            run=run,
            display=self.display,
            tracker=Tracker(),
            tokenizer=self.tokenizer,
            prompts=self.prompts,
            asked_with=self.config.protocol,
            second_prompts={},
            splits=Splits(self.problems, (), ()),
            engine=SharedEngine(self.config, longest_context(self.config), self.engine),
            source=self.model.source,
            start=Start(self.model.folder, self.model.folder),
        )
        drawn = Lab(context).sample(1, self.model.folder, self.problems, self.samples, 1.0)
        run.close()
        return drawn

    def raw_vllm(self) -> float:
        """Completion tokens per second of `LLM.generate` with n=K."""
        from vllm import SamplingParams

        llm = self.engine.llm
        llm.reset_prefix_cache()
        parameters = SamplingParams(
            n=self.samples,
            temperature=1.0,
            max_tokens=self.config.data.max_completion_tokens,
            stop=list(self.config.protocol.stop),
            logprobs=0,
        )
        prompts = [{"prompt_token_ids": list(self.prompts[problem.id].token_ids)} for problem in self.problems]
        began = time.perf_counter()
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - began
        return sum(len(item.token_ids) for output in outputs for item in output.outputs) / seconds

    def transformers_generate(self) -> float:
        """Completion tokens per second of our transformers engine, `model.generate` in batches."""
        from rlreason.engines.transformers import TransformersEngine

        engine = TransformersEngine(self.config.engine, self.config.model)
        engine.load(self.model.folder)
        return self.engine_speed(engine, self.problems)

    def engine_speed(self, engine: Any, problems: Sequence[Any]) -> float:
        """Completion tokens per second of one of our engines, K samples of each problem."""
        requests = [
            SampleRequest(problem, sample, sample, self.prompts[problem.id].token_ids)
            for problem in problems
            if problem.id in self.prompts
            for sample in range(self.samples)
        ]
        settings = SamplingSettings(1.0, self.config.data.max_completion_tokens, tuple(self.config.protocol.stop))
        began = time.perf_counter()
        tokens = sum(len(item.completion_ids) for batch in engine.sample(requests, settings) for item in batch)
        return tokens / (time.perf_counter() - began)
