"""From what Hydra composed to the typed experiment: unknown keys, wrong types and impossible combinations end here.

Below this file nobody sees an OmegaConf object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, fields, replace
from typing import Any

from rlreason.algorithms import own, ppo
from rlreason.algorithms.expert_iteration import ExpertIterationConfig
from rlreason.algorithms.ppo import PPOConfig
from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.base import Settings, as_meant, converted, require
from rlreason.config.budget import within_budget
from rlreason.config.experiment import ExperimentConfig, GeneralConfig
from rlreason.config.inits import INITS
from rlreason.config.sections import (
    KINDS,
    AutoPromptConfig,
    CheckConfig,
    EngineConfig,
    EvalConfig,
    ExportConfig,
    LauncherConfig,
    ModelConfig,
    PromptConfig,
    RepeatConfig,
    RescoreConfig,
    ShardingConfig,
    TaskConfig,
    TrackerConfig,
    TryRewardConfig,
    by_kind,
    declared_kind,
    is_auto,
    prompt_settings,
)
from rlreason.config.texts import home_expanded
from rlreason.config.updates import OnPolicyConfig
from rlreason.data.registry import DATASETS
from rlreason.errors import UserError
from rlreason.orm.settings import OutcomeModelConfig
from rlreason.own import Own, imported
from rlreason.rewards import custom
from rlreason.rewards.base import refuse_out_of_reach
from rlreason.rewards.registry import REWARDS
from rlreason.rows import Table
from rlreason.run.identity import prompt_of_checkpoint

TABLES: dict[str, Table[Any]] = {"algo": ALGORITHMS, "reward": REWARDS, "init": INITS, "data": DATASETS}
SECTIONS: dict[str, type[Settings]] = {
    "orm": OutcomeModelConfig,
    "model": ModelConfig,
    "prompt": PromptConfig,
    "engine": EngineConfig,
    "launcher": LauncherConfig,
    "sharding": ShardingConfig,
    "eval": EvalConfig,
    "tracker": TrackerConfig,
}
TASKS: dict[str, type[TaskConfig]] = {
    **dict.fromkeys(("train", "evaluate", "plan", "report", "watch"), TaskConfig),
    "check": CheckConfig,
    "export": ExportConfig,
    "repeat": RepeatConfig,
    "rescore": RescoreConfig,
    "try_reward": TryRewardConfig,
    "tiny_base": TaskConfig,
}
GROUPS = ("task", *TABLES, *SECTIONS)


def register_resolvers() -> None:
    """Teach OmegaConf what the files in `conf/` ask of it.

    `${full_or_lora:RANK,FULL,LORA}` is one value where all weights are trained and one for adapters,
    `${alone_or_beside:ALGO,ALONE,BESIDE}` one value where the engine has a GPU to itself while it samples and one where
    training keeps its models there, `${home:PATH}` a path whose `~` stands for the home folder, `${smaller:ONE,OTHER}`
    the smaller of two numbers.
    """
    from omegaconf import OmegaConf

    def alone_or_beside(algorithm: Mapping[str, Any], alone: float, beside: float) -> float:
        return alone if samples_alone(algorithm) else beside

    OmegaConf.register_new_resolver("alone_or_beside", alone_or_beside, replace=True)
    OmegaConf.register_new_resolver("full_or_lora", lambda rank, full, lora: lora if rank else full, replace=True)
    OmegaConf.register_new_resolver("home", home_expanded, replace=True)
    OmegaConf.register_new_resolver("smaller", min, replace=True)


def samples_alone(algorithm: Mapping[str, Any]) -> bool:
    """Whether training is known to keep nothing on a GPU while the engine samples: it is supervised, and ends before.

    Args:
        algorithm: The section `algo`, which may name a row that nobody has declared.
    """
    try:
        row = ALGORITHMS.of(algorithm)
    except UserError:  # which is said where the section is converted
        return False
    return row.plan is not None and not issubclass(row.settings, OnPolicyConfig)


def from_composed(composed: Any) -> ExperimentConfig:
    """Convert what Hydra composed to the typed configuration.

    Args:
        composed: The composed `DictConfig`.

    Returns:
        The experiment, every field checked, its algorithm within `budget`.

    Raises:
        UserError: A key is unknown, a value has the wrong type or cannot work; the message names it.
    """
    return from_plain(plain_values(composed))


def plain_values(composed: Any) -> dict[str, Any]:
    """What Hydra composed as plain values, which a run saves: `~`, line breaks and run folders as what they mean.

    Args:
        composed: The composed `DictConfig`.

    Raises:
        UserError: A section is missing, nobody has declared it, or a value means nothing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error.msg).splitlines()[0]}") from error
    for group in GROUPS:
        require(group in plain, f"the configuration has no section {group!r}; add it to the defaults list")
        plain[group] = as_meant(settings_of(group, plain[group]), plain[group], f"{group}.")
    asked = plain["eval"]
    second = asked.get("second_prompt")
    if plain["task"]["name"] != "train" and is_auto(second):
        second = None  # of training runs
    kind = declared_kind(plain["model"].get("kind"), str(plain["model"].get("path")))
    known = kind if kind in KINDS else None  # what is no kind is refused later
    trained_with = prompt_of_checkpoint(str(plain["model"].get("path")))
    if is_auto(plain["prompt"]) and trained_with is not None:
        plain["prompt"] = trained_with
    plain["prompt"], asked["second_prompt"] = by_kind(plain["prompt"], second, known)
    return as_meant(GeneralConfig, plain)


def with_protocols(config: ExperimentConfig, kind: str) -> ExperimentConfig:
    """The experiment with the prompts of its kind of model, where they are chosen by it.

    Raises:
        UserError: The second prompt is the prompt of the run.
    """
    prompt, second = by_kind(asdict(config.prompt), config.eval.second_prompt, kind)
    section = None if second is None else dict(second[kind] if is_auto(second) else second)
    known = replace(config, prompt=converted(PromptConfig, prompt), eval=replace(config.eval, second_prompt=section))
    _refuse_same_prompt(known)
    return known


def from_plain(plain: Mapping[str, Any]) -> ExperimentConfig:
    """Convert plain values to the typed configuration.

    Args:
        plain: What `plain_values` gives.

    Returns:
        The experiment, every field checked, its algorithm within `budget`.

    Raises:
        UserError: A key is unknown, a value has the wrong type or cannot work; the message names it.
    """
    values: dict[str, Any] = {}
    for group in GROUPS:
        section = {key: value for key, value in plain[group].items() if group not in TABLES or key != "row"}
        try:
            values[group] = converted(settings_of(group, plain[group]), section)
        except UserError as error:
            raise UserError(
                str(error) if str(error).startswith((f"{group}.", f"{group}=")) else f"{group}.{error}"
            ) from error
    general = {key: value for key, value in plain.items() if key not in GROUPS}
    config = ExperimentConfig(**vars(converted(GeneralConfig, general)), **values)
    _check_together(config)
    return within_budget(config)


def settings_by_key() -> dict[str, list[Field[Any]]]:
    """Every setting that this package and the rows registered so far declare, such as "algo.samples", from all choices.

    Returns:
        By key the field of each choice of its group that has it.
    """
    schemas: dict[str, list[type[Settings]]] = {"": [GeneralConfig], "task.": list(TASKS.values())}
    schemas |= {f"{group}.": [schema] for group, schema in SECTIONS.items()}
    schemas["prompt."].append(AutoPromptConfig)
    schemas |= {f"{group}.": [row.settings for row in table.values()] for group, table in TABLES.items()}
    found: dict[str, list[Field[Any]]] = {}
    for prefix, group in schemas.items():
        for item in (item for schema in group for item in fields(schema)):
            found.setdefault(f"{prefix}{item.name}", []).append(item)
    return found


def own_parts(config: ExperimentConfig) -> list[Own]:
    """What the user has written and the configuration names: rewards, advantages, losses, metrics.

    Raises:
        UserError: Something cannot be imported.
    """
    found = []
    for group in GROUPS:
        section = getattr(config, group)
        for item in fields(section):
            if item.metadata.get("own"):
                value = getattr(section, item.name)
                paths = value if isinstance(value, list) else [value]
                chosen = (None, *item.metadata["choices"])
                found += [imported(f"{group}.{item.name}", path) for path in paths if path not in chosen]
    return found


def settings_of(group: str, section: Mapping[str, Any]) -> type[Settings]:
    """The dataclass of a section.

    Args:
        group: Its group.
        section: What it holds, at least its `name`.

    Raises:
        UserError: Nobody has declared what it names.
    """
    if group in TABLES:
        settings: type[Settings] = TABLES[group].of(section).settings
        return settings
    if group == "prompt":
        return prompt_settings(section)
    if group == "task":
        name = section.get("name")
        require(name in TASKS, f"task.name={name!r} is unknown; choose from: {', '.join(TASKS)}")
        return TASKS[str(name)]
    return SECTIONS[group]


def _check_together(config: ExperimentConfig) -> None:
    """Refuse combinations that are each valid alone but cannot work together."""
    data, name = DATASETS[config.data.name], config.data.name
    require(not (data.generated and config.data.path), f"data={name} is generated; leave data.path out")
    others = ", ".join(other for other, row in DATASETS.items() if row.other_kind)
    require(
        config.eval.split != "ood" or data.other_kind,
        f"eval.split=ood needs questions of another kind, which data={name} does not have; choose from: {others}",
    )
    require(
        not config.eval.ood or data.other_kind,
        f"eval.ood needs questions of another kind, which data={name} does not have; choose from: {others}",
    )
    asked, there = getattr(config.algo, "questions", None), config.data.train_size
    require(
        not asked or there is None or asked <= there,
        f"algo.questions={asked} is more than data.train_size={there}; lower one or raise the other",
    )
    require(
        data.solutions or not INITS[config.init.name].needs_solutions,
        f"init={config.init.name} needs worked solutions, which {name} does not have; "
        "use init=scratch, or an SFT model",
    )
    if isinstance(config.algo, ExpertIterationConfig):
        refuse_out_of_reach("algo.threshold", config.algo.threshold, config.reward)
    if isinstance(config.algo, PPOConfig):
        ppo.check_with(config.algo, config.reward)
    for part in own_parts(config):
        _check_own(part, config)
    _refuse_same_prompt(config)
    require(
        config.task.name != "evaluate" or config.eval.second_prompt is None,
        "eval.second_prompt belongs to training runs; with task=evaluate give the prompt itself: prompt=NAME",
    )
    require(
        config.task.name != "evaluate" or config.eval.orm != "train",
        "eval.orm=train belongs to training runs; with task=evaluate give the folder of a trained ORM: eval.orm=FOLDER",
    )


def _refuse_same_prompt(config: ExperimentConfig) -> None:
    require(
        config.eval.second != config.prompt,
        f"eval.second_prompt={config.prompt.name} is the prompt of the run; name another, or leave it out",
    )


def _check_own(part: Own, config: ExperimentConfig) -> None:
    """Refuse what cannot be called as it will be, tried on a small batch where it works on tensors."""
    if part.key == custom.KEY:
        custom.check_function(part.path)
    elif part.key == own.ADVANTAGE:
        own.check_advantage(part.path)
    elif part.key == own.LOSS:
        own.check_loss(part.path, with_reference=config.algo.kl_coefficient > 0)
    else:
        require(callable(part.value), f"{part.key}={part.path} is not a function")
