"""From what Hydra composed to the typed experiment: unknown keys, wrong types and impossible combinations end here.

Below this file nobody sees an OmegaConf object.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from rlreason.config.algorithms import (
    ExpertIterationConfig,
    GRPOConfig,
    OutcomeModelAlgorithmConfig,
    PPOConfig,
    ReturnConditionedConfig,
    SFTConfig,
)
from rlreason.config.base import require
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.rewards import DenseRewardConfig, OutcomeModelConfig, OutcomeRewardConfig, SparseRewardConfig
from rlreason.config.sections import (
    DataConfig,
    EngineConfig,
    EvalConfig,
    ExportConfig,
    LauncherConfig,
    ModelConfig,
    PromptConfig,
    ScratchConfig,
    SFTInitConfig,
    ShardingConfig,
    TaskConfig,
    TrackerConfig,
)
from rlreason.errors import UserError

SECTIONS: dict[str, dict[str, type]] = {
    "task": {
        **dict.fromkeys(("train", "evaluate", "plan", "report", "watch", "tiny_base"), TaskConfig),
        "export": ExportConfig,
    },
    "algo": {
        "sft": SFTConfig,
        "ei": ExpertIterationConfig,
        "rcrl": ReturnConditionedConfig,
        "ppo": PPOConfig,
        "grpo": GRPOConfig,
        "orm": OutcomeModelAlgorithmConfig,
    },
    "reward": {"sparse": SparseRewardConfig, "dense": DenseRewardConfig, "orm": OutcomeRewardConfig},
    "orm": {"*": OutcomeModelConfig},
    "model": {"*": ModelConfig},
    "init": {"scratch": ScratchConfig, "sft": SFTInitConfig},
    "data": dict.fromkeys(("gsm8k", "svamp", "gsm_symbolic", "wordproblems"), DataConfig),
    "prompt": {"*": PromptConfig},
    "engine": {"*": EngineConfig},
    "launcher": {"*": LauncherConfig},
    "sharding": {"*": ShardingConfig},
    "eval": {"*": EvalConfig},
    "tracker": {"*": TrackerConfig},
}

TOP_LEVEL = (
    "name",
    "study",
    "runs_dir",
    "seed",
    "nproc",
    "checkpoint_seconds",
    "check_memory",
    "gpus",
    "gpu_memory",
    "gpu_name",
    "gpu_hour_price",
)
RESERVED_FOLDERS = ("cache", "sweeps")


def register_resolvers() -> None:
    """Teach OmegaConf `${full_or_lora:RANK,FULL,LORA}`: one value where all weights are trained, one for adapters."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("full_or_lora", lambda rank, full, lora: lora if rank else full, replace=True)


def from_composed(composed: Any) -> ExperimentConfig:
    """Convert what Hydra composed to the typed configuration.

    Args:
        composed: The composed `DictConfig`.

    Returns:
        The experiment, every field checked.

    Raises:
        UserError: A key is unknown, a value has the wrong type or cannot work; the message names it.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error.msg).splitlines()[0]}") from error
    values: dict[str, Any] = {}
    for section, classes in SECTIONS.items():
        require(section in plain, f"the configuration has no section {section!r}; add it to the defaults list")
        chosen = plain[section].get("name")
        schema = classes.get(chosen, classes.get("*"))
        if schema is None:
            raise UserError(f"{section}.name={chosen!r} is unknown; choose from: {', '.join(sorted(classes))}")
        try:
            values[section] = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain[section]))
        except OmegaConfBaseException as error:
            raise UserError(f"{section}.{error.full_key or '?'}: {str(error.msg).splitlines()[0]}") from error
        except UserError as error:
            raise UserError(str(error) if f"{section}." in str(error) else f"{section}: {error}") from error
    for key in TOP_LEVEL:
        values[key] = plain[key]
    for unknown in set(plain) - set(values):
        raise UserError(f"unknown key {unknown!r}; the sections are {', '.join(SECTIONS)}")
    _check_top_level(values)
    config = ExperimentConfig(**values)
    _check_together(config)
    return config


def _check_top_level(values: dict[str, Any]) -> None:
    name, seed, seconds = values["name"], values["seed"], values["checkpoint_seconds"]
    require(name is None or isinstance(name, str), f"name={name!r} must be text")
    require_study_name(values["study"])
    require(isinstance(seed, int) and seed >= 0, f"seed={seed!r} must be a whole number from 0")
    require(isinstance(values["runs_dir"], str), f"runs_dir={values['runs_dir']!r} must be a folder")
    require(isinstance(seconds, int | float) and seconds >= 0, f"checkpoint_seconds={seconds!r} must be 0 or more")
    nproc = values["nproc"]
    require(isinstance(nproc, int) and nproc >= 1, f"nproc={nproc!r} must be a whole number from 1")
    check = values["check_memory"]
    require(isinstance(check, bool), f"check_memory={check!r} must be true or false")
    gpus = values["gpus"]
    require(gpus is None or (isinstance(gpus, int) and gpus >= 0), f"gpus={gpus!r} must be a whole number from 0")
    kind = values["gpu_name"]
    require(kind is None or isinstance(kind, str), f"gpu_name={kind!r} must be text, such as h100")
    for key in ("gpu_memory", "gpu_hour_price"):
        amount = values[key]
        require(amount is None or (isinstance(amount, int | float) and amount > 0), f"{key}={amount!r} must be above 0")


def require_study_name(name: Any) -> None:
    """Raise a UserError unless `name` can be the folder of a study, or is None."""
    require(
        name is None or (isinstance(name, str) and bool(re.fullmatch(r"[\w.=+-]+", name)) and name.strip(".") != ""),
        f"study={name!r} must be a plain name: letters, digits and . _ = + -",
    )
    require(name not in RESERVED_FOLDERS, f"study={name} is where rlreason keeps files of its own; choose another name")


def _check_together(config: ExperimentConfig) -> None:
    """Refuse combinations that are each valid alone but cannot work together."""
    generated = config.data.name in ("wordproblems", "gsm_symbolic")
    require(not (generated and config.data.path), f"data={config.data.name} is generated; leave data.path out")
    require(
        config.eval.split != "ood" or config.data.name == "wordproblems",
        f"eval.split=ood needs data=wordproblems; data={config.data.name} has no such split",
    )
    require(
        not config.eval.ood or config.data.name == "wordproblems",
        f"eval.ood needs data=wordproblems; data={config.data.name} has no questions of another kind",
    )
    if isinstance(config.algo, ExpertIterationConfig | ReturnConditionedConfig):
        wanted, there = config.algo.questions, config.data.train_size
        require(
            there is None or wanted <= there,
            f"algo.questions={wanted} is more than data.train_size={there}; lower one or raise the other",
        )
    require(
        not (config.init.name == "sft" and config.data.name == "svamp"),
        "init=sft needs worked solutions, which svamp does not have; use init=scratch, or an SFT model",
    )
    require(
        config.task.name != "evaluate" or config.eval.orm != "train",
        "eval.orm=train belongs to training runs; with task=evaluate give the folder of a trained ORM: eval.orm=FOLDER",
    )


def describe(schema: type) -> list[tuple[str, str, str]]:
    """(field, type, meaning) of every field of a section, for `--help`."""
    return [(item.name, str(item.type), item.metadata.get("help", "")) for item in fields(schema)]
