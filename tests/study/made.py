"""Run folders as training leaves them, made in milliseconds and with known answers."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer, decoders, models

from rlreason.config.compose import register_resolvers
from rlreason.evaluation.evaluate import intervals, measure
from rlreason.run import stage as stages
from rlreason.run.folder import append_line
from rlreason.run.store import seal, write_evaluation, write_scores
from rlreason.types import Problem, Rollout, StepReward

CONF = Path(__file__).parents[2] / "conf"
ALPHABET = [*(chr(code) for code in range(32, 127)), "\n", "\x1b", "\u202e", "\0"]
NUMBER = {letter: number for number, letter in enumerate(ALPHABET)}
PROBLEMS = 24
K = 4
TRAINING_PROBLEMS = 10
STEPS = (1, 2, 3)
EVIL = "<script>alert(1)</script> | `` ``` </td> {{ 7*7 }} \x1b[2J\u202e\0"


@cache
def composed(*groups: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(groups))


def plain_config(*choices: str) -> dict[str, Any]:
    """The configuration of a run; Hydra takes a while, so single values are put into what it composed of groups."""
    values = [choice for choice in choices if "." in choice.partition("=")[0]]
    groups = [choice for choice in choices if choice not in values]
    config = OmegaConf.merge(composed(*groups), OmegaConf.from_dotlist(values))
    plain = OmegaConf.to_container(config, resolve=True)
    if plain["eval"]["second_prompt"] == "auto":
        plain["eval"]["second_prompt"] = None  # what it comes to with the embedded models and their own prompt
    return plain


def tokens(text: str) -> tuple[int, ...]:
    return tuple(NUMBER[letter] for letter in text)


def rollout(problem: str, sample: int, text: str, correct: bool, rewards: Sequence[tuple[int, int, float]] = ()):
    """A rollout whose tokens are its letters; without `rewards`, 1 at its last line when it is right."""
    ids = tokens(text)
    if not rewards and correct:
        rewards = ((text.rfind("\n") + 1, len(text), 1.0),)
    return Rollout(
        problem=Problem(problem, f"{problem}?", "1"),
        sample=sample,
        seed=7,
        prompt_ids=tokens(f"Question: {problem}?\nAnswer:\n"),
        completion_ids=ids,
        sampler_logprobs=(-0.5,) * len(ids),
        text=text,
        finish_reason="stop",
        answer=text.rpartition("#### ")[2] or None,
        correct=correct,
        rewards=tuple(StepReward(*reward) for reward in rewards),
    )


def solution(number: int, way: int, correct: bool) -> str:
    """A solution of question `number`, in one of many ways, right or wrong."""
    left = number + way + 1
    answer = number + 100 if correct else number
    return f"{left}+{answer - left}={answer}\n#### {answer}"


def samples(generator: np.random.Generator, accuracy: float, problems: int, count: int, ways: int) -> list[Rollout]:
    """`count` solutions of every question, each right with the probability `accuracy`."""
    return [
        rollout(f"q{number:03}", sample, solution(number, int(generator.integers(ways)), right), right)
        for number in range(problems)
        for sample in range(count)
        for right in [bool(generator.random() < accuracy)]
    ]


def write_stage(run: Path, stage: str, scored: Sequence[Rollout]) -> None:
    seal(run / "rollouts", stage, scored, round_number=0, checkpoint="init", temperature=0.7)


def journal(run: Path, stage: stages.Stage, **facts: Any) -> None:
    """The line of a finished stage that took a second."""
    record = {"stage": stage.name, "kind": stage.kind, "number": stage.number, "seconds": {"total": 1.0}, "tokens": {}}
    append_line(run / "journal.jsonl", {**record, **facts})


def evaluate(
    run: Path,
    stage: str,
    accuracy: float,
    generator: np.random.Generator,
    k: int,
    split: str,
    scores: bool,
    greedy: Sequence[Rollout] = (),
) -> tuple[dict[str, Any], Sequence[Rollout]]:
    """Sample, measure and store one checkpoint; its metrics, as result.json has them, and the greedy rollouts."""
    greedy = greedy or samples(generator, accuracy, PROBLEMS, 1, 1)
    sampled = samples(generator, accuracy, PROBLEMS, k, 3)
    name = f"{split}-{stage}"
    write_stage(run, f"{name}-greedy", greedy)
    step_scores = None
    if k:
        write_stage(run, f"{name}-sampled", sampled)
    if k and scores:
        # Right solutions score 0.2 higher, so the AUC is well above one half and well below one.
        step_scores = [(0.5, float(0.15 + 0.5 * generator.random() + 0.2 * item.correct)) for item in sampled]
        write_scores(run / "rollouts" / f"scores-{name}-sampled.parquet", sampled, step_scores)
    values = measure(greedy, sampled, k, step_scores, at_start=sampled if k else ())
    write_values(run, name, values, Counter(item.problem.id for item in sampled if item.correct), k)
    return {metric: interval.to_dict() for metric, interval in intervals(values, 100).items()}, greedy


def write_values(run: Path, name: str, values: dict[str, Any], right: Counter, k: int) -> None:
    """An evaluation file: `values` of every question."""
    ids = [f"q{number:03}" for number in range(len(next(iter(values.values()))))]
    facts = {
        "problem_id": ids,
        "reference_steps": [STEPS[number % len(STEPS)] for number in range(len(ids))],
        "samples": [k] * len(ids),
        "right": [right[problem] for problem in ids],
    }
    write_evaluation(run / "evaluations" / f"{name}.parquet", {**facts, **values})


def make_run(
    study: Path,
    algo: str = "ei",
    reward: str = "sparse",
    init: str = "scratch",
    model: str = "tiny",
    seed: int = 0,
    accuracies: Sequence[float] = (0.2, 0.5, 0.7),
    settings: Sequence[str] = (),
    name: str | None = None,
    scores: bool = True,
    ood: bool = True,
    files: int = 1,
    finished: bool = True,
    last: float | None = None,
    second: tuple[float, float] | None = None,
) -> Path:
    """One run: its first policy has the first of `accuracies`, the policy after round N the one after it.

    Where the last checkpoint is not the selected one, it has the accuracy `last`. Under a second prompt the first and
    the last policy have the accuracies `second`.
    """
    overrides = [f"eval.k={K}", f"eval.k_between={K}", *settings]
    config = json.loads(
        json.dumps(plain_config(f"algo={algo}", f"reward={reward}", f"init={init}", f"model={model}", *overrides))
    )
    config["seed"] = seed
    if second is not None:
        config["eval"]["second_prompt"] = plain_config("prompt=few_shot")["prompt"]
    run = study / (name or f"{algo}-{model}-{init}-{reward}{''.join('-' + item for item in settings)}-seed{seed}")
    config["name"] = run.name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if not finished:
        return run
    generator = np.random.default_rng([seed, *f"{algo}{reward}{init}{model}".encode()])
    write_tokenizer(run)
    split, k, k_between = config["eval"]["split"], config["eval"]["k"], config["eval"]["k_between"]
    evaluations, rollouts = [], {}
    for number, accuracy in enumerate(accuracies):
        if number and algo != "sft":
            for file in range(files):
                in_rounds = algo in ("ei", "rcrl")
                batch = (number - 1) * files + file + 1
                stage = stages.sampling_round(number) if in_rounds else stages.sampling_batch(batch)
                drawn = samples(generator, accuracies[number - 1], TRAINING_PROBLEMS, 6, 5)
                write_stage(run, stage.name, drawn)
                rollouts[stage.name] = len(drawn)
                journal(run, stage, rollouts=len(drawn))
        checkpoint = stages.checkpoint_of_round(number)
        metrics, greedy = evaluate(run, checkpoint, accuracy, generator, k_between if number else k, split, scores)
        found = {"stage": checkpoint, "on_the_way": True, "samples_seen": sum(rollouts.values()), "metrics": metrics}
        evaluations.append(found)
        journal(run, stages.log_of(f"evaluate-{checkpoint}"))
    seen = sum(rollouts.values())
    if last is not None:
        metrics, _ = evaluate(run, "last", last, generator, k, split, scores)
        evaluations.append({"stage": "last", "on_the_way": False, "samples_seen": seen, "metrics": metrics})
    # The last policy is the last checkpoint, and greedy decoding is the same each time.
    metrics, _ = evaluate(run, "final", accuracies[-1], generator, k, split, scores, greedy)
    evaluations.append({"stage": "final", "on_the_way": False, "samples_seen": seen, "metrics": metrics})
    elsewhere = {"ood": (accuracies[0] / 2, accuracies[-1] / 2)} if ood else {}
    elsewhere |= {} if second is None else {stages.SECOND_PROMPT: second}
    for name, ends in elsewhere.items():
        for stage, accuracy in zip(("init", "final"), ends, strict=True):
            greedy = np.array([float(generator.random() < accuracy) for _ in range(PROBLEMS)])
            write_values(run, f"{name}-{stage}", {"maj@1": greedy}, Counter(), 0)
    checkpoints = {"policy": "checkpoints/round-1", "last": f"checkpoints/round-{1 if last is None else 2}"}
    write_result(run, config, evaluations, rollouts, checkpoints)
    return run


def write_result(
    run: Path,
    config: dict[str, Any],
    evaluations: list[dict[str, Any]],
    rollouts: dict[str, int],
    checkpoints: dict[str, str],
) -> None:
    drawn = sum(rollouts.values())
    result = {
        "name": run.name,
        "config": config,
        "versions": {"python": "3.12.1", "rlreason": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789abcdef",
        "hardware": {"machine": "x86_64", "cpus": 4, "memory_gib": 16.0, "gpus": ["Test GPU"]},
        "evaluations": evaluations,
        "verdict": "trained",
        **checkpoints,
        "rollouts": rollouts,
        "training_rollouts": drawn,
        "seconds": {
            "start": 1.0,
            "sample": 10.0,
            "train": 20.0 + drawn / 60,
            "evaluate": 5.0,
            "total": 40.0 + drawn / 60,
        },
        "tokens": {"sample": 20 * drawn, "train": 30 * drawn + 100, "evaluate": 500},
    }
    if config["eval"]["second_prompt"] is not None:
        result["second_prompt"] = {"prompt": config["eval"]["second_prompt"]["name"]}
    (run / "result.json").write_text(json.dumps(result))


def write_tokenizer(run: Path) -> None:
    """A tokeniser of letters beside a checkpoint."""
    folder = run / "checkpoints" / "round-1"
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel(NUMBER, unk_token="?"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))


def make_study(folder: Path) -> Path:
    """Two models, two inits, five algorithms, three rewards, two seeds of each, and one run that is not finished."""
    for seed in (0, 1):
        make_run(folder, "ei", seed=seed, accuracies=(0.2, 0.5, 0.8))
        make_run(folder, "ei", "dense", seed=seed, accuracies=(0.2, 0.6, 0.7))
        make_run(folder, "ppo", seed=seed, accuracies=(0.2, 0.4, 0.6), files=7)
        make_run(folder, "grpo", "orm", seed=seed, accuracies=(0.2, 0.4, 0.75), files=7)
        make_run(folder, "sft", seed=seed, accuracies=(0.2, 0.5, 0.6))
        make_run(folder, "ei", init="sft", seed=seed, accuracies=(0.6, 0.7, 0.85))
        make_run(folder, "rcrl", init="sft", seed=seed, accuracies=(0.6, 0.55))
        make_run(folder, "ei", model="small", seed=seed, accuracies=(0.3, 0.9))
    make_run(folder, "ppo", model="small", finished=False)
    return folder


def write_evil_rollouts(run: Path) -> None:
    """Training rollouts whose text would do harm if it were not escaped."""
    text = f"1+1=2\n{EVIL}\n#### 2"
    steps = ((0, 6, 0.25), (len(text) - 6, len(text), 1.0))
    for stage in ("round-1", "round-2"):
        write_stage(run, stage, [rollout("q1", 0, text, True, steps), rollout("q1", 1, "1+1=3\n#### 3", False)])
