"""What every experiment has: a task, a model, a start, data, prompts, an engine, measurements, a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rlreason.answers.extraction import EXTRACTIONS, FINAL_ANSWER_MARKER, FORMS, final_answer_line
from rlreason.config.base import Settings, as_meant, converted, require, setting
from rlreason.config.choices import chosen
from rlreason.config.texts import home_expanded, with_line_breaks
from rlreason.config.updates import SupervisedConfig
from rlreason.errors import UserError
from rlreason.run.checkpoints import model_path, outcome_model_path

KINDS = ("base", "instruct", "embedded")
EMBEDDED = "embedded:"  # begins the path of a model inside the package


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """What to do."""

    name: str = setting(
        "train, evaluate, plan, check (this machine), report or watch (a study), export, repeat, rescore, "
        "try_reward, tiny_base (make the embedded models again)"
    )


@dataclass(frozen=True, kw_only=True)
class ExportConfig(TaskConfig):
    """Which checkpoint becomes a folder for others, and in which form."""

    run: str | None = setting(
        "folder of a finished run; null: the run that the rest of the command describes", read=home_expanded
    )
    to: str | None = setting(
        "folder to write; null: `export`, or `export-adapter`, in the run's folder", read=home_expanded
    )
    checkpoint: str | None = setting("name of a checkpoint of the run; null: the selected one")
    adapter: bool = setting("the LoRA adapter alone, for use on the base model, instead of merged weights")
    precision: str = setting(
        "precision of the weights; auto: as in the checkpoint", choices=("auto", "float32", "bfloat16")
    )

    def check(self) -> None:
        """Refuse a precision for an adapter, and a checkpoint that is a path."""
        require(
            not self.adapter or self.precision == "auto",
            f"task.precision={self.precision} is for merged weights; an adapter is written as it was trained",
        )
        require(
            self.checkpoint is None or ("/" not in self.checkpoint and self.checkpoint.strip(".") != ""),
            f"task.checkpoint={self.checkpoint!r} must be the name of a checkpoint of the run, such as round-1",
        )


@dataclass(frozen=True, kw_only=True)
class CheckConfig(TaskConfig):
    """What is checked of a machine."""

    steps: list[str] | None = setting("names of the steps to do, besides installation; null: all")
    step_seconds: float = setting("seconds after which a step is given up and counts as failed", above=0)


@dataclass(frozen=True, kw_only=True)
class RepeatConfig(TaskConfig):
    """Which run is done once more."""

    run: str | None = setting("folder of a finished run", read=home_expanded)

    def check(self) -> None:
        """Refuse to repeat nothing."""
        require(self.run is not None, "task.run is missing; name the folder of a finished run: task.run=runs/NAME")


@dataclass(frozen=True, kw_only=True)
class RescoreConfig(TaskConfig):
    """Which run is scored again from its stored texts, and by what rule."""

    run: str | None = setting("folder of a finished run", read=home_expanded)
    gold: str | None = setting(
        "a file of gold answers, by the ids of the run's questions or by the questions themselves; null: the run's own",
        read=home_expanded,
    )
    extraction: str | None = setting(
        "how an answer is found, as in prompt.extraction; null: as the run has found it", choices=tuple(EXTRACTIONS)
    )
    vote: str = setting(
        "which samples vote alike: those whose answers are equal, as grading finds them, or whose answers are spelt "
        "alike (text)",
        choices=("equal", "text"),
    )
    k: int | None = setting("K of maj@K, of the samples that are stored; null: all of them", at_least=1)
    rerank: str | None = setting(
        "a solution's rank by its steps' scores, as in eval.rerank; null: the run's",
        choices=("final", "product", "minimum"),
    )
    examples: int = setting("solutions with another verdict that are shown", at_least=0)

    def check(self) -> None:
        """Refuse to score nothing."""
        require(self.run is not None, "task.run is missing; name the folder of a finished run: task.run=runs/NAME")


@dataclass(frozen=True, kw_only=True)
class TryRewardConfig(TaskConfig):
    """Which solutions the reward of the command is tried on."""

    rollouts: str | None = setting(
        "a run folder, one of its files of rollouts, or a file of answers (columns: question, answer, completion)",
        read=home_expanded,
    )
    most: int = setting("solutions that are tried at most, spread evenly over all", at_least=1)
    examples: int = setting("solutions that are shown with what their steps earn", at_least=0)

    def check(self) -> None:
        """Refuse to try a reward on nothing."""
        require(
            self.rollouts is not None,
            "task.rollouts is missing; name a run folder, one of its files of rollouts, or a file of answers",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Which pretrained language model, and how it is held in memory."""

    name: str = setting("short name, used in run names")
    path: str = setting(
        "embedded:NAME, a folder in Hugging Face format, a Hub name, or the folder of a finished run: its policy",
        read=model_path,
    )
    revision: str | None = setting("branch, tag or commit on the Hub")
    kind: str | None = setting(
        "what it was trained to do: base (go on with a text), instruct (answer), or embedded (the package's own); "
        "null: instruct where its tokeniser has a chat template, otherwise base",
        choices=KINDS,
    )
    thinking: bool | None = setting(
        "whether a chat template that leaves the choice, as Qwen3's does, has the model think before it answers; "
        "null: as the template has it"
    )
    parameters: float | None = setting(
        "parameter count, for the memory check before a download; null: unknown", above=0
    )
    shape: dict[str, Any] | None = setting(
        "what decides memory in the config.json of a Hub model, for plans before the download; null: unknown"
    )
    licence: str | None = setting("its licence, as the Hub writes licences; null: as its own card says")
    dtype: str = setting("precision of weights in the engine", choices=("auto", "float32", "bfloat16", "float16"))
    learning_rate: float = setting("learning rate of supervised updates: SFT, EI and RCRL", above=0)
    orm_learning_rate: float = setting("learning rate of the language model inside an outcome reward model", above=0)
    rl_learning_rate: float = setting("learning rate of on-policy training: PPO and GRPO", above=0)
    micro_batch_size: int = setting(
        "sequences per forward pass in training, unless the algorithm has its own", at_least=1
    )
    gradient_checkpointing: bool = setting("recompute activations in the backward pass: less memory, more time")
    lora_rank: int = setting("rank of LoRA adapters, merged after each update; 0 trains all weights", at_least=0)
    lora_alpha: float = setting("scale of the LoRA update")

    def check(self) -> None:
        """Refuse a model that nobody has named."""
        require(
            self.path != "",
            "model.path is empty: name a folder or a Hub model, e.g. model.path=/models/my-llama",
        )


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Settings):
    """Start from the pretrained checkpoint, with no supervised fine-tuning (the paper's word)."""

    name: str = setting("scratch")


@dataclass(frozen=True, kw_only=True)
class SFTInitConfig(SupervisedConfig):
    """Fine-tune on the reference solutions first; cached by its configuration for later runs."""

    name: str = setting("sft")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Questions, answers and splits."""

    name: str = setting("files (your own), gsm8k, gsm8k_platinum, math, svamp, gsm_symbolic or wordproblems")
    path: str | None = setting(
        "file or folder with the data, or OWNER/NAME on the Hub; null: from the Hub, or generated",
        read=home_expanded,
    )
    seed: int = setting(
        "decides the order of questions, and which are held out (not with data=files) or generated; not the run's seed"
    )
    train_size: int | None = setting("training questions; null: all", at_least=1)
    validation_size: int | None = setting(
        "questions held out of training to decide when to stop; null: the whole validation split of data=files",
        at_least=1,
    )
    test_size: int | None = setting("test questions; null: all", at_least=1)
    max_prompt_tokens: int = setting("longer prompts are left out, counted and reported", at_least=1)
    max_completion_tokens: int = setting("tokens after which a completion is cut, counted and reported", at_least=1)


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Settings):
    """How a question becomes a prompt, and how its answer is found in what the model writes: a protocol."""

    name: str = setting("short name, which is shown beside the numbers")
    system: str | None = setting(
        "system message before the question, with a chat template; null: as the chat template has it",
        read=with_line_breaks,
    )
    template: str = setting("jinja2 template of the question, with the variable `question`", read=with_line_breaks)
    chat: bool = setting("wrap the question in the tokeniser's chat template")
    examples: int = setting("solved training questions shown before the question", at_least=0)
    drawn: str = setting(
        "when they are drawn: once (the same for all questions) or anew (for every question its own)",
        choices=("once", "anew"),
    )
    separator: str = setting("text between them, without a chat template", read=with_line_breaks)
    answer: str = setting(
        "last line of a solved example, and of a reference solution that is learned: marker (#### 18), boxed "
        "(\\boxed{18}) or answer_is (The answer is 18.)",
        choices=tuple(FORMS),
    )
    extraction: str = setting(
        "what counts as the answer of a completion: standard (whatever states one, docs/answers.md), first_marker or "
        "last_marker (the number behind ####), boxed (the last box), answer_is (the last of these) or last_number",
        choices=tuple(EXTRACTIONS),
    )
    stop: list[str] = setting("texts at which a completion ends, besides the end-of-text token", read=with_line_breaks)

    def check(self) -> None:
        """Refuse a template without the question, and an answer asked for in a form that is not read."""
        require("question" in self.template, f"prompt.template={self.template!r} never uses {{{{ question }}}}")
        require(
            self.chat or self.system is None,
            f"prompt.system={self.system!r} needs prompt.chat=true; without it put the words into prompt.template",
        )
        read = EXTRACTIONS[self.extraction].answer
        asked = f"{self.system or ''}\n{self.template}"
        written = {"marker": FINAL_ANSWER_MARKER, "boxed": r"\boxed", "answer_is": "answer is"}
        for form, words in written.items():
            is_shown = form == self.answer and (self.examples > 0 or not self.chat)
            require(
                not (words in asked or is_shown) or read(f"1+17=18\n{final_answer_line('18', form)}") == "18",
                f"prompt.extraction={self.extraction} does not read {final_answer_line('18', form)!r}, which "
                f"{'prompt.answer' if is_shown else 'prompt.template'} asks for; change one of them",
            )


AUTO = "auto"  # the choice of a prompt by the kind of model


def _protocol(name: str) -> dict[str, Any]:
    section = chosen("prompt", name)
    return as_meant(prompt_settings(section), section)


@dataclass(frozen=True, kw_only=True)
class AutoPromptConfig(Settings):
    """The prompt by the kind of model, see `model.kind`."""

    name: str = setting(AUTO)
    instruct: dict[str, Any] = setting("that of models that answer", read=_protocol, choice_of="prompt")
    base: dict[str, Any] = setting("that of models that go on with a text", read=_protocol, choice_of="prompt")
    embedded: dict[str, Any] = setting("that of the package's own models", read=_protocol, choice_of="prompt")

    def check(self) -> None:
        """Refuse what is no prompt."""
        for item in fields(self):
            if item.metadata["choice_of"]:
                try:
                    self.of(item.name)
                except UserError as error:
                    raise UserError(f"{item.name}.{error}") from error

    def of(self, kind: str) -> PromptConfig:
        """The prompt of a kind of model."""
        return converted(PromptConfig, getattr(self, kind))


def declared_kind(kind: str | None, path: str) -> str | None:
    """The kind of a model where a preset, the user or its path says it; None where only its tokeniser can."""
    return "embedded" if kind is None and path.startswith(EMBEDDED) else kind


def prompt_settings(section: Mapping[str, Any]) -> type[PromptConfig] | type[AutoPromptConfig]:
    """The dataclass of a section `prompt`."""
    return AutoPromptConfig if is_auto(section) else PromptConfig


def is_auto(section: Any) -> bool:
    """Whether a section `prompt` is the choice by the kind of model."""
    return isinstance(section, Mapping) and section.get("name") == AUTO


def by_kind(
    prompt: Mapping[str, Any], second: Mapping[str, Any] | None, kind: str | None
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The prompt of a kind of model, and the second prompt where that is another one; both as sections.

    Args:
        prompt: The section `prompt`; `auto` is replaced by what it stands for.
        second: The section `eval.second_prompt`; None is given for an `auto` that stands for a prompt of that name.
        kind: Of the model; None where nobody knows it yet, so that what depends on it is given as it is.
    """
    if second is not None and is_auto(second):
        known = kind is not None and second[kind].get("name") == prompt.get("name")
        second = None if known or is_auto(prompt) else second
    return prompt[kind] if kind is not None and is_auto(prompt) else prompt, second


@dataclass(frozen=True, kw_only=True)
class EngineConfig(Settings):
    """What generates."""

    name: str = setting("auto: vLLM where it is installed", choices=("auto", "vllm", "transformers"))
    max_sequences: int = setting("completions generated at the same time, by each replica", at_least=1)
    memory_share: float = setting(
        "share of the free GPU memory that vLLM may take (on a CPU its keys and values, of the free RAM beside its "
        "weights), in all replicas",
        above=0,
        at_most=1,
    )
    tensor_parallel_size: int = setting("GPUs that share one copy of the model", at_least=1)
    enforce_eager: bool = setting("skip graph capture and compilation: starts sooner, generates slower on a GPU")
    replicas: int = setting(
        "copies of the model that share the sampling; above 1, each in a process of its own", at_least=1
    )
    devices: list[int] | None = setting("GPUs of the engine alone; null: those of training, by turns")
    executor: str = setting(
        "how vLLM starts the GPUs of one copy: mp (this node) or ray (over nodes)", choices=("auto", "mp", "ray")
    )
    probe_limit: float | None = setting(
        "mean |log-prob of trainer - log-prob of engine| of a fixed text after new weights, in nats, that ends the "
        "run; null: 0.05 where the engine computes in float32, 0.1 in half precision",
        above=0,
    )
    adapters: str = setting(
        "what an engine gets of a policy in training with LoRA: alone (the adapters), merged (all weights), or "
        "auto: alone for vLLM on a GPU; on a CPU its LoRA kernels cost more than they save",
        choices=("auto", "alone", "merged"),
    )

    def check(self) -> None:
        """Refuse devices that are not one for every GPU of the engine."""
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
class LauncherConfig(Settings):
    """Which processes train together."""

    name: str = setting("who starts the processes: somebody else, or accelerate", choices=("single", "accelerate"))
    nodes: int = setting("machines that train together; the same command is run on each", at_least=1)
    node_rank: int = setting("number of this machine among them, from 0", at_least=0)
    address: str | None = setting("HOST:PORT of machine 0, for more than one")

    def check(self) -> None:
        """Refuse machines without a number of their own or an address to meet at."""
        require(
            self.node_rank < self.nodes,
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
class ShardingConfig(Settings):
    """How processes that train together split the model."""

    name: str = setting("who splits; none: DDP", choices=("none", "fsdp2"))
    cpu_offload: bool = setting("keep what is split in main memory: less GPU memory, more time")

    def check(self) -> None:
        """Refuse offloading where nothing is split."""
        require(
            not (self.cpu_offload and self.name == "none"),
            "sharding.cpu_offload=true needs sharding=fsdp2",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Settings):
    """What is measured, on which questions, how often."""

    split: str = setting(
        "questions that are measured; ood: more steps than training has, generated data only",
        choices=("test", "validation", "ood"),
    )
    k: int = setting(
        "samples per question at the start and the end: maj@K, pass@K (the paper: 96); 0: greedy only", at_least=0
    )
    k_between: int = setting("samples per question after each round before the last; 0: greedy only", at_least=0)
    temperature: float = setting(
        "sampling temperature of those samples (the paper: 0.7); maj@1 is always greedy", above=0
    )
    orm: str | None = setting(
        "ORM for rerank@K: a folder, or train (that of the section orm); null: only where the run uses an ORM anyway",
        read=outcome_model_path,
    )
    rerank: str = setting("a solution's rank by its steps' scores", choices=("final", "product", "minimum"))
    ood: bool = setting("also measure the first and the last policy on questions with more steps (generated data)")
    metrics: list[str] = setting(
        "functions of your own: FILE.py:NAME, PACKAGE.MODULE:NAME or PACKAGE.MODULE.NAME", own=True
    )
    second_prompt: dict[str, Any] | None = setting(
        "with which the start and the selected policy are asked the reported questions as well, greedily, to see if a "
        "gain is one of form; another than the prompt of the run; auto: that of prompt=auto, in training runs with "
        "another one; null: none",
        read=_protocol,
        choice_of="prompt",
    )
    resamples: int = setting("bootstrap resamples of the questions for each 95 % interval", at_least=100)

    def check(self) -> None:
        """Refuse more samples between rounds than at the end."""
        require(self.k_between <= self.k, f"eval.k_between={self.k_between} must be at most eval.k={self.k}")
        try:
            _ = self.second
        except UserError as error:
            raise UserError(f"second_prompt.{error}") from error

    @property
    def second(self) -> PromptConfig | AutoPromptConfig | None:
        """The second prompt; None without.

        Raises:
            UserError: The section is no prompt.
        """
        section = self.second_prompt
        return None if section is None else converted(prompt_settings(section), section)


@dataclass(frozen=True, kw_only=True)
class TrackerConfig(Settings):
    """Where metrics go besides the run folder."""

    name: str = setting(
        "wandb: as WANDB_MODE says, else online where a key is set and the server answers, offline otherwise",
        choices=("wandb", "none"),
    )
    project: str | None = setting("W&B project; null: WANDB_PROJECT, or rlreason")
    entity: str | None = setting("W&B team; null: your own")
    group: str | None = setting("W&B group; null: WANDB_RUN_GROUP, the study, or the name of the run without its seed")
    rollouts: int = setting("example rollouts of each evaluation in the W&B table", at_least=0)
