"""A model card made from the result of a run: nothing in it that the run did not record, and no path of its machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.answers.extraction import FINAL_ANSWER_MARKER
from rlreason.config.inits import INITS
from rlreason.data.registry import DATASETS
from rlreason.evaluation.statistics import interval_text, questions_text
from rlreason.rewards.registry import REWARDS
from rlreason.run.identity import prompt_of
from rlreason.run.stage import FINAL, INIT
from rlreason.study.commands import Compose, settings

SHOWN_SECTIONS = ("algo", "reward", "orm", "model", "init", "data", "prompt", "engine", "eval")
PATHS = (("model", "path"), ("data", "path"), ("orm", "path"), ("eval", "orm"), ("algo", "rollouts"))
PLACEHOLDER = "FOLDER"
ANSWERS = {  # by the prompt's extraction
    "standard": f"the number after `{FINAL_ANSWER_MARKER}`, or the one that is boxed or stated otherwise",
    "first_marker": f"the number after the first `{FINAL_ANSWER_MARKER}`",
    "last_marker": f"the number after the last `{FINAL_ANSWER_MARKER}`",
    "boxed": r"what the last `\boxed{}` holds",
    "answer_is": 'what stands behind the last "answer is"',
    "last_number": "its last number",
}


@dataclass(frozen=True)
class Exported:
    """What was exported, beside the result of its run.

    Args:
        checkpoint: Name of the checkpoint.
        is_policy: Whether it is the run's selected checkpoint.
        adapter: Whether it is a LoRA adapter alone.
        dtype: Precision of the weights.
        licence: The base model's licence; None where nobody says.
        prompt: A prompt of the final evaluation, as the policy read it.
        completion: What the policy wrote, greedily.
        tag: Text that asks a return-conditioned policy for a good solution; None for any other.
        tag_every_step: Whether that tag stands before every step, or once before the solution.
        tag_tokens: Ids of the tokens of both tags that must never be drawn.
    """

    checkpoint: str
    is_policy: bool
    adapter: bool
    dtype: str
    licence: str | None
    prompt: str
    completion: str
    tag: str | None = None
    tag_every_step: bool = False
    tag_tokens: tuple[int, ...] = ()


def base_name(result: Mapping[str, Any]) -> str:
    """What others call the model that a run started from."""
    source, model = str(result["model_source"]), result["config"]["model"]
    if source.startswith("hub "):
        return source.removeprefix("hub ").partition("@")[0]
    return str(model["name"]) if source != "folder" else "a model in a local folder"


def base_revision(result: Mapping[str, Any]) -> str | None:
    """The commit of that model on the Hub; None for a model from elsewhere."""
    source = str(result["model_source"])
    return source.partition("@")[2] or None if source.startswith("hub ") else None


def licence_of(folder: Path) -> str | None:
    """The licence that the card in a model's folder names; None without one."""
    if not (folder / "README.md").is_file():
        return None
    from huggingface_hub import ModelCard

    try:
        licence = ModelCard.load(folder / "README.md", ignore_metadata_errors=True).data.license
    except ValueError:  # its metadata is no YAML
        return None
    return str(licence) if licence else None


def public_configuration(result: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run with a placeholder for every path on the machine that it ran on."""
    config = {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in result["config"].items()
        if key not in ("runs_dir", "tracker", "launcher")
    }
    for section, field in PATHS:
        value = config.get(section, {}).get(field)
        local = isinstance(value, str) and (value.startswith(("/", ".", "~")) or value.count("/") > 1)
        if local or (section == "model" and result["model_source"] == "folder"):
            config[section][field] = PLACEHOLDER
    return config


def model_card(result: Mapping[str, Any], exported: Exported, compose: Compose) -> str:
    """The text of README.md, with the metadata that the Hub reads.

    Args:
        result: The content of the run's `result.json`.
        exported: What was exported.
        compose: From choices to the composed configuration, for the command that made the run.
    """
    import yaml
    from huggingface_hub import ModelCard

    from rlreason.study.report import rendered

    config, base = {**public_configuration(result), "prompt": dict(prompt_of(result))}, base_name(result)
    algorithm, reward = ALGORITHMS.of(config["algo"]), REWARDS.of(config["reward"])
    evaluation = _evaluation(result, exported)
    shown = {section: config[section] for section in SHOWN_SECTIONS if section in config}
    view = {
        "card_data": _metadata(result, exported, evaluation).to_yaml(),
        "result": result,
        "config": config,
        "exported": exported,
        "base": base,
        "revision": base_revision(result),
        "licence": exported.licence,
        "method": algorithm.method,
        "init": INITS.of(config["init"]),
        "reward": reward if algorithm.uses_reward else None,
        "reward_function": config["reward"].get("function"),
        "rows": _rows(result, exported, evaluation),
        "questions": questions_text(next(iter(evaluation["metrics"].values()))) if evaluation else "",
        "wrong": 1 - evaluation["metrics"]["maj@1"]["value"] if evaluation else None,
        "drawn": result["training_rollouts"],
        "command": " ".join(map(shlex.quote, ["rlreason", *settings(config, compose), f"seed={config['seed']}"])),
        "configuration": yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
        "placeholder": PLACEHOLDER,
        "limit": config["data"]["max_completion_tokens"],
        "stop": list(config["prompt"]["stop"]),
        "final_answer_marker": FINAL_ANSWER_MARKER,
        "answer_in_words": ANSWERS[config["prompt"]["extraction"]],
    }
    view["program"] = rendered("program.py.j2", view)
    return str(ModelCard(rendered("model_card.md.j2", view)))


def _evaluation(result: Mapping[str, Any], exported: Exported) -> Mapping[str, Any] | None:
    """The evaluation of the exported checkpoint, if the run made one."""
    wanted = FINAL if exported.is_policy else exported.checkpoint
    return next((item for item in result["evaluations"] if item["stage"] == wanted), None)


def _rows(
    result: Mapping[str, Any], exported: Exported, evaluation: Mapping[str, Any] | None
) -> list[tuple[str, str, str, str]]:
    """Metric, before, after and difference, with intervals."""
    before: Mapping[str, Any] = next((item["metrics"] for item in result["evaluations"] if item["stage"] == INIT), {})
    changes = result.get("differences", {}) if exported.is_policy else {}
    return [
        (
            metric,
            interval_text(before[metric]) if metric in before else "",
            interval_text(value),
            interval_text(changes[metric], signed=True) if metric in changes else "",
        )
        for metric, value in (evaluation["metrics"] if evaluation else {}).items()
    ]


def _metadata(result: Mapping[str, Any], exported: Exported, evaluation: Mapping[str, Any] | None) -> Any:
    """What the Hub reads: base model, data, licence, tags, and a model index with every metric."""
    from huggingface_hub import EvalResult, ModelCardData

    config, base = result["config"], base_name(result)
    data, hub_data = config["data"]["name"], DATASETS.of(config["data"]).hub_name
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=hub_data or data,
            dataset_name=data,
            dataset_split=config["eval"]["split"],
            metric_type=metric,
            metric_name=metric,
            metric_value=value["value"],
            metric_args={"low": value["low"], "high": value["high"], "problems": value["problems"]},
        )
        for metric, value in (evaluation["metrics"] if evaluation else {}).items()
    ]
    return ModelCardData(
        model_name=result["name"],
        base_model=base if "/" in base else None,
        datasets=hub_data,
        license=exported.licence,
        language="en",
        library_name="peft" if exported.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["rlreason", config["algo"]["name"], *(["lora"] if config["model"]["lora_rank"] else [])],
        eval_results=results or None,
    )
