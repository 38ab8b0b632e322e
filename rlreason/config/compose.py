"""From what Hydra composed to the typed experiment: unknown keys, wrong types and impossible combinations end here.

Below this file nobody sees an OmegaConf object.
"""

from __future__ import annotations

from typing import Any

from rlreason.algorithms.expert_iteration import ExpertIterationConfig
from rlreason.algorithms.grpo import GRPOConfig
from rlreason.algorithms.orm import OutcomeModelAlgorithmConfig
from rlreason.algorithms.ppo import PPOConfig
from rlreason.algorithms.return_conditioned import ReturnConditionedConfig
from rlreason.algorithms.sft import SFTConfig
from rlreason.config.base import Settings, converted, require
from rlreason.config.experiment import ExperimentConfig, GeneralConfig
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
from rlreason.orm.settings import OutcomeModelConfig
from rlreason.rewards.dense import DenseRewardConfig
from rlreason.rewards.orm import OutcomeRewardConfig
from rlreason.rewards.sparse import SparseRewardConfig

SECTIONS: dict[str, dict[str, type[Settings]]] = {
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
            values[section] = converted(schema, plain[section])
        except UserError as error:
            raise UserError(str(error) if str(error).startswith(f"{section}.") else f"{section}.{error}") from error
    general = {key: value for key, value in plain.items() if key not in SECTIONS}
    config = ExperimentConfig(**vars(converted(GeneralConfig, general)), **values)
    _check_together(config)
    return config


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
