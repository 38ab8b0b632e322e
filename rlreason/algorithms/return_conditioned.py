"""Return-conditioned RL (upside-down RL; for reasoning, Havrilla et al. 2024, section on RCRL).

The policy learns, offline, from right and wrong solutions alike. A tag before each step (or before the whole solution)
says whether what follows was good; it is given, never learned. At test time the policy is asked for good.

Open in the paper and our choice: without an outcome reward model every step carries the outcome of its solution; with
one a step is good when the score at its end reaches the threshold. Whichever labels, the last step of a solution
without a final answer, or cut in it, is bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlreason.algorithms.base import DEDUPLICATE, Algorithm, Questions, Trained, choose_questions, deduplication_key
from rlreason.algorithms.budget import whole
from rlreason.algorithms.not_kept import NotKept
from rlreason.algorithms.selection import ended
from rlreason.algorithms.space import SUPERVISED, TEMPERATURE, Among
from rlreason.answers.steps import through_answer
from rlreason.config.base import require, setting
from rlreason.config.texts import home_expanded
from rlreason.config.updates import SupervisedConfig
from rlreason.errors import NothingToLearn
from rlreason.models.return_condition import ReturnCondition
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn, learned
from rlreason.training.supervised import Example
from rlreason.types import Rollout, Step

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


@dataclass(frozen=True, kw_only=True)
class ReturnConditionedConfig(SupervisedConfig):
    """Return-conditioned RL: learn from right and wrong solutions under tags, ask for the good one."""

    name: str = setting("rcrl")
    rollouts: str | None = setting(
        "stored rollouts to learn from: a run folder or a Parquet file; null: sample them", read=home_expanded
    )
    policy: str = setting(
        "what writes the solutions: start (the checkpoint that training starts from), or ei (what expert iteration "
        "ended with in the same study, with the sparse reward, as likely in the paper; its rollouts count)",
        choices=("start", "ei"),
    )
    samples: int = setting("K, solutions sampled for every training question", at_least=1)
    questions: int = setting("training questions, a seeded draw; 0 means all of them", at_least=0)
    temperature: float = setting("sampling temperature", above=0)
    per: str = setting("what gets a tag of its own", choices=("step", "solution"))
    labels: str = setting(
        "what decides good or bad: the answer's outcome, or whether the ORM's score reaches the threshold",
        choices=("outcome", "orm"),
    )
    threshold: float | None = setting("ORM score from which a step is good; null: calibrated on validation questions")
    deduplicate: str = setting("what makes two solutions of a question equal, so that one is kept", choices=DEDUPLICATE)
    good_tag: str = setting("token added to the vocabulary, before what is good; asked for at test time")
    bad_tag: str = setting("token added to the vocabulary, before what is bad")
    restart: str = setting("checkpoint that is fine-tuned: base (pretrained) or init (SFT)", choices=("base", "init"))

    def check(self) -> None:
        """Refuse tags that cannot be told apart or would end a step."""
        super().check()
        require(
            self.good_tag.strip() != "" and self.bad_tag.strip() != "" and self.good_tag != self.bad_tag,
            f"algo.good_tag={self.good_tag!r} and algo.bad_tag={self.bad_tag!r} must be two different texts",
        )
        require(
            self.rollouts is None or self.policy == "start",
            f"algo.policy={self.policy} writes solutions, and algo.rollouts={self.rollouts} has them; choose one",
        )
        require("\n" not in self.good_tag + self.bad_tag, "algo.good_tag and algo.bad_tag must not hold a line end")


def return_conditioned(
    config: ReturnConditionedConfig, start: Start, questions: Questions, seed: int, lab: Lab
) -> Trained:
    """Label solutions, fine-tune on them under their tags, measure the policy that is asked for good ones.

    Raises:
        NothingToLearn: Everything is good, or everything is bad, so that the tags would mean nothing.
    """
    # Tags are tokens of their own: as text they did worse (docs/log.md, "Return tags as text"). Only what is trained
    # knows them: other policies must not write them.
    tags = (config.good_tag, config.bad_tag)
    restart = lab.with_tokens({"base": start.base, "init": start.init}[config.restart], tags)
    condition = ReturnCondition(
        lab.token_ids(config.good_tag, restart), lab.token_ids(config.bad_tag, restart), config.per == "step"
    )
    accuracies = {start.init: lab.evaluate(0, start.init, samples_seen=0)}

    drawn, samples_seen = collected(config, start, questions, seed, lab)
    different = distinct(drawn, config.deduplicate)
    rollouts = [item for item in different if item.completion_ids]
    labels = step_labels(config, rollouts, lab)
    good = sum(map(sum, labels))
    total = sum(map(len, labels))
    lab.report(
        1,
        {
            "solutions": len(rollouts),
            "samples_right": sum(item.correct for item in rollouts) / max(1, len(rollouts)),
            "steps_good": good / max(1, total),
        },
        NotKept(len(drawn), len(different) - len(rollouts), len(drawn) - len(different)),
    )
    if good in (0, total):
        raise NothingToLearn(
            f"all {total:,} steps are {'good' if good else 'bad'}, so return tags would mean nothing; "
            "raise algo.samples or algo.temperature, or change algo.threshold"
        )
    examples = [
        tagged(lab.example(item), item.steps, goodness, condition)
        for item, goodness in zip(rollouts, labels, strict=True)
    ]
    policy = lab.update(1, restart, examples, config, condition=condition)[-1]
    accuracies[policy] = lab.evaluate(1, policy, samples_seen)
    ending = f"trained on {len(rollouts):,} solutions, {good / total:.0%} of their steps good"
    return ended(accuracies, lab.validation_questions, samples_seen, ending)


def collected(
    config: ReturnConditionedConfig, start: Start, questions: Questions, seed: int, lab: Lab
) -> tuple[list[Rollout], int]:
    """The rollouts to learn from, stored or newly sampled, and how many samples they cost, their policy's included."""
    if config.rollouts is not None:
        rollouts = lab.stored(config.rollouts)
        return rollouts, len(rollouts)
    policy, earlier = (start.init, 0) if config.policy == "start" else lab.policy_of_study(config.policy)
    asked = choose_questions(questions.problems, config.questions, 1, seed)
    rollouts = lab.sample(1, policy, asked, config.samples, config.temperature)
    return rollouts, earlier + len(rollouts)


def distinct(rollouts: Sequence[Rollout], deduplicate: str) -> list[Rollout]:
    """One of all solutions to a question that count as the same and have the same outcome; the first."""
    kept: dict[tuple[str, bool, str], Rollout] = {}
    for position, item in enumerate(rollouts):
        key = deduplication_key(item, deduplicate, position)
        if not item.correct:
            key = f"{key}\n{item.answer}"
        kept.setdefault((item.problem.id, item.correct, key), item)
    return list(kept.values())


def step_labels(config: ReturnConditionedConfig, rollouts: Sequence[Rollout], lab: Lab) -> list[list[bool]]:
    """Whether each step through the final answer is good; one label for the whole solution with `per=solution`."""
    complete = [item.answer is not None and lab.is_finished(item) for item in rollouts]
    if config.labels == "outcome":
        counts = [len(through_answer(item.steps)) for item in rollouts]
        right = [item.correct and whole for item, whole in zip(rollouts, complete, strict=True)]
        labels = [[good] * count for good, count in zip(right, counts, strict=True)]
    else:
        threshold = lab.orm_threshold if config.threshold is None else config.threshold
        labels = [[score >= threshold for score in scores] for scores in lab.step_scores(1, rollouts)]
        labels = [[*values[:-1], values[-1] and whole] for values, whole in zip(labels, complete, strict=True)]
    return labels if config.per == "step" else [values[-1:] for values in labels]


def tagged(example: Example, steps: Sequence[Step], labels: Sequence[bool], condition: ReturnCondition) -> Example:
    """A solution with a tag before every labelled step; the tags carry no loss."""
    completion: list[int] = []
    inserted: list[tuple[int, int]] = []
    ends = [*(step.end for step in steps[: len(labels) - 1]), len(example.completion_ids)]
    for first, end, good in zip([0, *ends], ends, labels, strict=False):
        tag = condition.good if good else condition.bad
        inserted.append((len(completion), len(completion) + len(tag)))
        completion += [*tag, *example.completion_ids[first:end]]
    return Example(example.prompt_ids, tuple(completion), tuple(inserted))


def needs_outcome_model(settings: ReturnConditionedConfig) -> bool:
    """Whether an outcome reward model labels the steps."""
    return settings.labels == "orm"


def rollouts_at_most(settings: ReturnConditionedConfig, questions: int) -> int:
    """Training rollouts, of so many training questions; none where stored ones are learned from."""
    return 0 if settings.rollouts is not None else settings.samples * min(settings.questions or questions, questions)


def for_budget(settings: ReturnConditionedConfig, budget: int, questions: int) -> ReturnConditionedConfig:
    """As many samples of each question as the budget pays for; stored rollouts are what they are.

    Raises:
        UserError: The budget does not pay for one sample of every question, or would be left unused.
    """
    if settings.rollouts is not None:
        return settings
    asked = min(settings.questions or questions, questions)
    return replace(settings, samples=whole(budget, asked, f"one sample of each of the {asked:,} questions"))


def planned(settings: ReturnConditionedConfig) -> AlgorithmFacts:
    """Return-conditioned RL: draws once, unless rollouts are given, and learns from right and wrong with their tags."""
    update = Update("RCRL training", "algo", settings, lambda sizes: sizes.longest_completion + round(2 * sizes.steps))

    def work(sizes: Sizes) -> list[Work]:
        asked = sizes.asked(settings.questions)
        training = learned(update, asked * settings.samples, sizes, more=sizes.steps, at_most=True)
        return [*([drawn("sampling", asked * settings.samples, sizes, asked)] * (settings.rollouts is None)), training]

    return AlgorithmFacts(update, work, checkpoints=1, ends=4, stops_early=True, samples=settings.samples, copies=1)


RETURN_CONDITIONED = Algorithm(
    settings=ReturnConditionedConfig,
    train=return_conditioned,
    title="RCRL",
    method="return-conditioned RL",
    color="#009E73",
    marker="^",
    learns_from_rewards=True,
    trains_policy=True,
    uses_reward=False,
    needs_solutions=False,
    repeats_init=None,
    completion_factor=2,
    needs_outcome_model=needs_outcome_model,
    rollouts=rollouts_at_most,
    plan=planned,
    for_budget=for_budget,
    space={**SUPERVISED, "temperature": TEMPERATURE, "per": Among(("step", "solution"))},
)
