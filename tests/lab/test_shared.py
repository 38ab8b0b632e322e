"""A shared evaluation of the starting checkpoint is exactly the one that a run would have made itself."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests_support import BATCHES, LABORATORY, composed

from rlreason.config.context import longest_context
from rlreason.data.splits import read_data
from rlreason.display import Display
from rlreason.lab.context import Context, Splits, Start
from rlreason.lab.engine import SharedEngine
from rlreason.lab.measuring import Evaluations, compared_start, under_second_prompt
from rlreason.lab.sampling import rollouts, sealed_rollouts
from rlreason.lab.shared import evaluation_rollouts
from rlreason.models.resolve import resolve
from rlreason.run.folder import Run
from rlreason.run.stage import greedy, sampled, selection
from rlreason.run.trackers import Tracker
from rlreason.types import Prompt, Rollout

STAGES = [(selection("init", 0), 1, 0.0), (greedy("test", "init"), 1, 0.0), (sampled("test", "init"), 3, 0.7)]


class SeedEngine:
    """Answers with what follows from the request's seed; dies after so many answers where it is told to."""

    def __init__(self, tokenizer, dies_after=None):
        self.tokenizer = tokenizer
        self.dies_after = dies_after
        self.answered = 0

    def load(self, checkpoint):
        pass

    def release(self):
        pass

    def score(self, token_ids):
        return (0.0,) * (len(token_ids) - 1)

    def sample(self, requests, settings):
        for request in requests:
            if self.answered == self.dies_after:
                raise KeyboardInterrupt
            self.answered += 1
            text = f"{request.seed % 100} + 1 = {request.seed % 100 + 1}\nThe answer is {request.seed % 7}"
            ids = tuple(self.tokenizer(text)["input_ids"])
            logprobs = tuple(-float(number % 5) for number in range(len(ids)))
            yield [
                Rollout(request.problem, request.sample, request.seed, request.prompt_ids, ids, logprobs, text, "stop")
            ]


class Laboratory:
    def __init__(self, folder):
        from rlreason.models.loading import load_tokenizer

        self.folder = folder
        self.model = resolve(composed().model)
        self.tokenizer = load_tokenizer(self.model.folder)

    def context(self, name, *overrides, dies_after=None):
        config = composed(*LABORATORY, f"runs_dir={self.folder}", "engine.probe_limit=99", *overrides)
        problems = read_data(config.data).measured("test")
        return Context(
            config=config,
            run=Run(self.folder / name, {"seed": config.seed}),
            display=Display(Console(quiet=True)),
            tracker=Tracker(),
            tokenizer=self.tokenizer,
            prompts={item.id: Prompt(item.id, item.question, (1, 2, 3)) for item in problems},
            asked_with=config.prompt,
            second_prompts={},
            splits=Splits((), (), problems),
            engine=SharedEngine(config, longest_context(config), SeedEngine(self.tokenizer, dies_after)),
            source=self.model.source,
            start=Start(self.model.folder, self.model.folder),
        )

    def run(self, name, *overrides, shared=True, dies_after=None):
        """The rollouts of every stage in a run of its own, its journal, and how many the engine drew."""
        context = self.context(name, *overrides, dies_after=dies_after)
        draw = evaluation_rollouts if shared else rollouts
        try:
            found = {
                stage.name: draw(context, stage, self.model.folder, context.splits.measured, samples, temperature)
                for stage, samples, temperature in STAGES
            }
        finally:
            context.run.close()
        return found, context, context.engine.loaded(self.model.folder, context.run, context.display).answered


@pytest.fixture
def laboratory(tmp_path):
    return Laboratory(tmp_path)


def test_shared_rollouts_are_those_that_the_run_would_have_drawn(laboratory):
    own, own_context, drawn = laboratory.run("own", shared=False)
    first, first_context, first_drawn = laboratory.run("first")
    second, second_context, second_drawn = laboratory.run("second", "algo=ppo", *BATCHES, "reward=dense")
    assert (drawn, first_drawn, second_drawn) == (50, 50, 0)
    assert own == first == second
    own_run, first_run, second_run = own_context.run, first_context.run, second_context.run
    for stage in own:
        assert len({item.seed for item in own[stage]}) == (1 if stage != "test-init-sampled" else 30)
        assert sealed_rollouts(second_context, stage, second_context.splits.measured) == own[stage]
        assert own_run.journal[stage]["rollouts"] == second_run.journal[stage]["rollouts"]
        assert own_run.journal[stage]["cut_at_limit"] == second_run.journal[stage]["cut_at_limit"]
        assert [run.journal[stage]["cached"] for run in (first_run, second_run)] == [False, True]
        assert first_run.journal[stage]["tokens"] == own_run.journal[stage]["tokens"]
        assert second_run.journal[stage]["tokens"] == {}


def test_a_run_folder_needs_the_cache_no_longer(laboratory):
    first, _, _ = laboratory.run("first")
    for path in (laboratory.folder / "cache").rglob("*"):
        if path.is_file():
            path.unlink()
    again, _, drawn = laboratory.run("first")
    assert again == first
    assert drawn == 0


@pytest.mark.parametrize(
    "other",
    [
        "seed=1",
        "eval.temperature=0.5",
        "eval.k=2",
        "data.max_completion_tokens=70",
        "engine.max_sequences=8",
        "algo=rcrl",
    ],
)
def test_what_could_change_the_rollouts_is_not_shared(laboratory, other):
    laboratory.run("first")
    _, _, drawn = laboratory.run("second", other)
    assert drawn == 50


def test_a_start_is_asked_with_a_second_prompt_once_and_never_for_the_first(laboratory):
    def drawn(name, *overrides):
        context = laboratory.context(name, *overrides)
        context = replace(context, second_prompts={"none": next(iter(context.prompts.values())), **context.prompts})
        start, last = laboratory.model.folder, laboratory.folder / "last"
        if not last.exists():
            shutil.copytree(start, last)
        context = replace(context, start=Start(start, start))
        found = under_second_prompt(context, Evaluations(), start, last)
        context.run.close()
        return found, context.engine.loaded(start, context.run, context.display).answered

    first, engine_drew = drawn("first", "eval.second_prompt=few_shot")
    assert first["prompt"] == "few_shot"
    assert first["before"]["problems"] == first["after"]["problems"] == 10
    assert engine_drew == 20
    again, engine_drew = drawn("second", "eval.second_prompt=few_shot", "algo=ppo", *BATCHES)
    assert (again, engine_drew) == (first, 10)  # the end is its own
    assert drawn("third", "eval.second_prompt=chat")[1] == 20
    assert drawn("fourth", "eval.second_prompt=few_shot", "prompt=chat")[1] == 20  # a start made with another prompt
    assert laboratory.run("plain")[2] == 50


def test_a_start_that_differs_by_more_than_five_points_between_the_prompts_is_a_warning(laboratory):
    context = laboratory.context("run", "eval.second_prompt=few_shot")
    context = replace(
        context, second_prompts=context.prompts, start=Start(laboratory.model.folder, laboratory.model.folder)
    )
    folder = laboratory.model.folder
    found = under_second_prompt(context, Evaluations(), folder, folder)["before"]["value"]
    lines = [compared_start(context, laboratory.model.folder, found + less) for less in (0.05, 0.1, -0.1)]
    context.run.close()
    assert lines[0].startswith(f"init: maj@1 {found:.3f} under eval.second_prompt=few_shot, ")
    assert ["differ by more" in line for line in lines] == [False, True, True]
    assert lines[1].endswith("prompt=plain is the better one") and lines[2].endswith("train with prompt=few_shot")


def test_an_interrupted_evaluation_is_continued_by_whoever_comes_next(laboratory):
    with pytest.raises(KeyboardInterrupt):
        laboratory.run("first", dies_after=25)
    second, context, drawn = laboratory.run("second")
    assert drawn == 25
    own, _, _ = laboratory.run("own", shared=False)
    assert second == own
    assert {stage: sealed_rollouts(context, stage, context.splits.measured) for stage in own} == own
    assert not list(Path(laboratory.folder, "cache").rglob("*.arrows"))


def test_other_checkpoints_and_stages_are_the_run_s_own(laboratory):
    context = laboratory.context("own")
    policy, other = laboratory.model.folder, laboratory.folder / "other"
    shutil.copytree(policy, other)
    for stage, checkpoint in ((greedy("test", "final", 3), policy), (greedy("test", "init"), other)):
        evaluation_rollouts(context, stage, checkpoint, context.splits.measured, 1, 0.0)
    context.run.close()
    assert not (laboratory.folder / "cache").exists()


def test_what_was_drawn_of_a_checkpoint_is_not_drawn_again(laboratory):
    context = laboratory.context("run")
    policy = context.run.checkpoint("round-1")
    shutil.copytree(laboratory.model.folder, policy)
    problems = context.splits.measured

    def drawn(evaluations, stage, samples=1, temperature=0.0, asked=problems, **kind):
        engine = context.engine.loaded(policy, context.run, context.display)
        before = engine.answered
        found = evaluations.rollouts(context, stage, policy, asked, samples, temperature, **kind)
        return found, engine.answered - before

    def measured(evaluations):
        stages = [greedy("test", name, number) for name, number in (("round-1", 1), ("last", 2), ("final", 3))]
        return [drawn(evaluations, stage) for stage in stages]

    evaluations = Evaluations()
    (first, asked), *others = measured(evaluations)
    assert asked == len(problems) and [(first, 0)] * 2 == others
    for stage in ("test-round-1-greedy", "test-last-greedy", "test-final-greedy"):
        assert sealed_rollouts(context, stage, problems) == first
    journal = context.run.journal
    assert journal["test-final-greedy"]["same_as"] == "test-round-1-greedy"
    assert [("rollouts" in record, bool(record["tokens"])) for record in journal.values()] == [
        (True, True), (False, False), (False, False)
    ]  # fmt: skip
    # Other samples, temperatures, questions and requests are drawn.
    for stage, settings in (
        ("more", {"samples": 2}), ("hot", {"temperature": 0.7}), ("few", {"asked": problems[:1]}),
        ("bad", {"ask_for_bad": True}),
    ):  # fmt: skip
        assert drawn(evaluations, greedy("test", stage), **settings)[1] > 0
    # The same command finds all of it again, also where a file was lost.
    (context.run.rollouts / "test-final-greedy.parquet").unlink()
    assert measured(Evaluations()) == [(first, 0)] * 3
    context.run.close()
