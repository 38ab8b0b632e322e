"""Outcome models, dense and learned rewards, return-conditioned RL: whole runs with the real engine and trainers."""

import json
import shutil

import pandas as pd
import pytest
from tests_support import BATCHES, JUDGE, LABORATORY, UPDATE, composed, journal, rollout_counts
from wandb_file import assert_tracked

from rlreason.models.resolve import EMBEDDED_FOLDER

pytestmark = pytest.mark.engine
QUICK = "engine=transformers"  # which starts in no time, where it does not matter who samples


def result(folder, name="run"):
    return json.loads((folder / f"runs/{name}/result.json").read_text())


@pytest.fixture(scope="module")
def judge(rlreason, tmp_path_factory):
    """A finished run of algo=orm, and its folder as orm.path."""
    folder = tmp_path_factory.mktemp("judge")
    rlreason(folder, *LABORATORY, *JUDGE, "algo=orm", QUICK, "name=run").check()
    return folder / "runs/run"


@pytest.fixture(scope="module")
def model(judge):
    return json.loads((judge / "result.json").read_text())["policy"]


def test_the_outcome_model_is_reported(judge, model):
    report = json.loads((judge / "result.json").read_text())["judging"]
    assert report["auc"]["value"] > 0.6
    assert report["calibration_error"] < 0.5
    assert set(report["baselines"]) == {"length", "mean_logprob"}
    assert len(report["by_fifth"]) == 5
    assert (judge / "reliability.png").stat().st_size > 1000
    metrics = json.loads((judge / "result.json").read_text())["evaluations"][0]["metrics"]
    assert {"maj@1", "maj@3", "rerank@3", "weighted@3"} <= set(metrics)


def test_expert_iteration_with_the_dense_reward(rlreason, tmp_path):
    settings = ["reward=dense", "algo.rounds=1", "algo.threshold=0.1", QUICK, "name=run"]
    rlreason(tmp_path, *LABORATORY, *UPDATE, *settings).check()
    rewards = pd.read_parquet(tmp_path / "runs/run/rollouts/round-1.parquet")
    assert rewards["reward"].between(0, 1 + 1e-6).all()
    answer_alone = 1 / 1.5 - 1e-6
    assert (rewards["reward"][rewards["correct"]] >= answer_alone).all()
    assert ((rewards["reward"] > 0) & (rewards["reward"] < answer_alone)).any(), "wrong solutions with right steps"
    assert "kept_wrong" in (tmp_path / "runs/run/metrics.jsonl").read_text()


def test_expert_iteration_with_a_given_outcome_model(rlreason, tmp_path, model):
    given = ["reward=orm", "reward.at=steps", "orm=local", f"orm.path={model}", "algo.keep=both", "algo.rounds=1"]
    rlreason(tmp_path, *LABORATORY, *UPDATE, *given, "algo.threshold=0.01", "name=run").check()
    assert "rerank@3" in result(tmp_path)["evaluations"][-1]["metrics"]
    assert not any(record["stage"].startswith("train-orm") for record in journal(tmp_path / "runs/run"))


def test_return_conditioned_per_step_with_added_tokens(rlreason, tmp_path, model):
    given = ["algo=rcrl", "algo.good_tag='<|good|>'", "algo.bad_tag='<|bad|>'"]
    rlreason(
        tmp_path, *LABORATORY, *UPDATE, *given, "orm=local", f"orm.path={model}", "algo.threshold=0.2", "name=run"
    ).check()
    found = result(tmp_path)
    # So short a training makes the policy worse: the starting checkpoint is selected, and the last one has the tags.
    stages = [item["stage"] for item in found["evaluations"]]
    assert stages == ["init", "round-1", "asked-for-bad", "last", "final"]
    assert (found["last"], found["policy"]) == ("checkpoints/round-1", str(EMBEDDED_FOLDER / "tiny"))
    assert "maj@1" in found["good_minus_bad"]
    assert found["differences"]["maj@1"]["value"] == 0
    sampled = pd.read_parquet(tmp_path / "runs/run/rollouts/test-last-sampled.parquet")
    assert not sampled["text"].str.contains("good|bad", regex=True).any(), "tags are in no rollout"
    assert (sampled["token_ids"].map(len) == sampled["logprobs"].map(len)).all()
    # The next run learns from these rollouts instead of sampling its own, a tag for each solution.
    again = ["algo=rcrl", "algo.rollouts=runs/run", "algo.labels=outcome", "algo.per=solution", "name=again"]
    rlreason(tmp_path, *LABORATORY, *UPDATE, *again, "algo.deduplicate=none", QUICK, "tracker=wandb").check()
    assert "round-1" not in [record["stage"] for record in journal(tmp_path / "runs/again")]
    assert "good_minus_bad" in result(tmp_path, "again")
    assert_tracked(tmp_path / "runs/again")


@pytest.mark.parametrize(
    ("algorithm", "settings", "files"),
    [
        ("ei", [*UPDATE, "algo.rounds=2", "algo.patience=2"], ["round-1", "round-2"]),
        ("ppo", BATCHES, ["batch-00001", "batch-00002", "batch-00003"]),
        ("grpo", BATCHES, ["batch-00001", "batch-00002", "batch-00003"]),
    ],
)
def test_return_conditioned_learns_from_the_training_rollouts_of(rlreason, tmp_path, algorithm, settings, files):
    common = [*LABORATORY, QUICK, "eval.k=0"]
    rlreason(tmp_path, *common, f"algo={algorithm}", *settings, "name=first").check()
    counts = rollout_counts(tmp_path / "runs/first")
    again = [*UPDATE, "algo=rcrl", "algo.labels=outcome", "algo.rollouts=runs/first", "name=again"]
    rlreason(tmp_path, *common, *again).check()
    assert f"trained on {sum(counts[name] for name in files)} solutions" in result(tmp_path, "again")["verdict"]
    assert not set(files) & set(rollout_counts(tmp_path / "runs/again"))


def test_labels_from_continuations(rlreason, tmp_path):
    settings = ["algo=orm", "orm=rollout", "orm.continuations=2", "eval.k=2", QUICK, "name=run"]
    rlreason(tmp_path, *LABORATORY, *JUDGE, *settings).check()
    (labels,) = tmp_path.glob("runs/cache/orm-*/rollouts/orm-continuations.parquet")
    shares = pd.read_parquet(labels)["step_scores"].map(lambda values: values[0])
    assert set(shares) <= {0.0, 0.5, 1.0}


def test_supervised_fine_tuning_is_measured_on_the_way(rlreason, tmp_path):
    settings = ["algo=sft", "algo.evaluations=2", "algo.epochs=1", "algo.batch_size=4", "algo.micro_batch_size=4"]
    rlreason(tmp_path, *LABORATORY, *settings, "eval.k_between=2", QUICK, "name=run", "tracker=wandb").check()
    assert_tracked(tmp_path / "runs/run")
    stages = [item["stage"] for item in result(tmp_path)["evaluations"]]
    assert stages == ["init", "round-1", "round-2", "final"]
    lines = [json.loads(line) for line in (tmp_path / "runs/run/metrics.jsonl").read_text().splitlines()]
    assert [line["train/epochs"] for line in lines if "train/epochs" in line] == [0.75, 1.0]


def test_an_evaluation_reranks_with_a_given_model(rlreason, tmp_path, model):
    settings = ["task=evaluate", QUICK, "data.test_size=6", "eval.k=3", "eval.resamples=200", f"eval.orm={model}"]
    rlreason(tmp_path, "tracker=none", *settings, "eval.rerank=product", "name=run").check()
    assert {"rerank@3", "weighted@3"} <= set(result(tmp_path)["evaluations"][0]["metrics"])


def refused(done, *words):
    assert done.code == 2, done.output[-2000:]
    lines = [line for line in done.output.splitlines() if line.startswith("rlreason:")]
    assert len(lines) == 1
    assert "Traceback" not in done.output
    for word in words:
        assert word in lines[0]


def changed_card(model, folder, **values):
    shutil.copytree(model, folder)
    card = json.loads((folder / "outcome_model.json").read_text())
    (folder / "outcome_model.json").write_text(json.dumps({**card, **values}))
    return folder


def test_models_that_must_not_judge_are_refused(rlreason, tmp_path, model):
    from rlreason.data.splits import read_data
    from rlreason.orm.training import question_hash

    evaluate = ["task=evaluate", "tracker=none", "data.test_size=6", "eval.k=2", QUICK]
    other = changed_card(model, tmp_path / "other", tokenizer="0" * 16)
    refused(rlreason(tmp_path, *evaluate, f"eval.orm={other}", "name=a"), "another base and tokeniser")
    problems = read_data(composed("data.test_size=6").data).measured("test")
    seen = changed_card(model, tmp_path / "seen", questions=[question_hash(problem) for problem in problems])
    refused(rlreason(tmp_path, *evaluate, f"eval.orm={seen}", "name=b"), "trained on 6 of the 6")
    refused(rlreason(tmp_path, *evaluate, "eval.orm=nowhere", "name=c"), "holds no outcome reward model", "algo=orm")


def test_rollouts_that_cannot_be_learned_from_are_refused(rlreason, tmp_path):
    from rlreason.data.splits import read_data
    from rlreason.run import store
    from rlreason.types import Problem, Rollout

    def stored(name, problem_id, text):
        item = Rollout(Problem(problem_id, "q", "1"), 0, 0, (1,), (5, 6), (-1.0, -1.0), text, "stop")
        store.seal(tmp_path, name, [item], round_number=1, checkpoint="init", temperature=1.0)
        return f"algo.rollouts={tmp_path}/{name}.parquet"

    learn = [*LABORATORY, *UPDATE, "algo=rcrl", "algo.labels=outcome", QUICK, "eval.k=0"]
    known = read_data(composed(*LABORATORY).data).training().train[0].id
    for name, problem_id, text, words in [
        ("silent", known, "", "no rollout has text"),
        ("foreign", "gsm8k-train-1", "1+1=2", "not of this run's training questions"),
    ]:
        refused(rlreason(tmp_path, *learn, stored(name, problem_id, text), f"name={name}"), words)
    refused(rlreason(tmp_path, *learn, "algo.rollouts=nowhere", "name=none"), "no rollouts there")


def test_solutions_that_are_all_wrong_are_refused(rlreason, tmp_path):
    settings = ["algo=orm", "orm.samples=1", "data.train_size=4", "data.max_completion_tokens=2", QUICK, "name=run"]
    refused(rlreason(tmp_path, *LABORATORY, *JUDGE, *settings), "are wrong", "orm.samples")


KILLS = ["sampling orm-training 1", "after orm-training", "judging 3", "before train-orm", "after train-orm"]
KILLS += ["after orm-validation", "before calibrated", "before orm", "after orm", "after round-1"]
KILLS += ["before scores-round-1", "after scores-round-1", "training 3", "after train-round-1"]
KILLS += ["after test-asked-for-bad-greedy", "sampling test-final-sampled 1", "before result"]
A_FEW = ["sampling orm-training 1", "judging 3", "after train-orm", "before calibrated", "after orm"]
A_FEW += ["before scores-round-1", "training 3", "after test-asked-for-bad-greedy"]


@pytest.mark.parametrize(
    ("engine", "kills"), [(QUICK, A_FEW), pytest.param("engine=vllm", KILLS, marks=pytest.mark.faults)]
)
def test_killed_anywhere_the_outcome_model_and_what_needs_it_continue(rlreason, tmp_path, judge, engine, kills):
    """The nested run of the model, its scores, and the tagged update: each is done once, whatever was killed."""
    command = [*LABORATORY, *JUDGE, *UPDATE, "algo=rcrl", "algo.threshold=0.2", "checkpoint_seconds=0", "name=run"]
    command.append(engine)
    for kill in kills:
        killed = rlreason(tmp_path, *command, kill=kill)
        assert killed.code == -9, f"{kill}: {killed.output[-2000:]}"
    rlreason(tmp_path, *command).check()
    stages = [record["stage"] for record in journal(tmp_path / "runs/run")]
    assert len(stages) == len(set(stages))
    (cache,) = tmp_path.glob("runs/cache/orm-*")
    inner = [record["stage"] for record in journal(cache)]
    assert inner == ["orm-training", "train-orm", "orm-validation", "calibrated"]
    for path in [*(cache / "rollouts").glob("*.parquet"), *(tmp_path / "runs/run/rollouts").glob("[rtv]*.parquet")]:
        assert not pd.read_parquet(path).duplicated(["problem_id", "sample"]).any()
    # The same recipe elsewhere gave the same model, killed or not.
    ours = json.loads((cache / "checkpoints/round-1/outcome_model.json").read_text())
    (whole,) = judge.parent.glob("cache/orm-*")
    theirs = json.loads((whole / "checkpoints/round-1/outcome_model.json").read_text())
    assert ours["questions"] == theirs["questions"]
