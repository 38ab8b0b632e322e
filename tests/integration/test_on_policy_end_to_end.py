"""PPO and GRPO from the command line, with the real engine and trainer on the tiny model."""

import json

import pandas as pd
import pytest
from tests_support import BATCHES, JUDGE, LABORATORY, assert_same, journal
from wandb_file import assert_tracked

from rlreason.engines.shared_memory import MEMORY, PREFIX
from rlreason.models.loading import load_tokenizer
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.run.folder import held

pytestmark = pytest.mark.engine

PPO = [*LABORATORY, "algo=ppo", *BATCHES, "checkpoint_seconds=0"]
QUICK = "engine=transformers"  # which starts in no time, where it does not matter who samples
GRPO = [*LABORATORY, "algo=grpo", *BATCHES, "checkpoint_seconds=0"]
WATCHED = [
    "reward",
    "sampler_gap",
    "explained_variance",
    "value_loss",
    "policy_loss",
    "entropy",
    "clip_fraction",
    "approximate_kl_epoch_2",
    "kl",
    "kl_coefficient",
    "advantage_deviation",
    "grad_norm",
    "tokens_per_second",
    "completions/mean_length",
    "completions/clipped_ratio",
]


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(rlreason, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    kl = ["algo.kl_coefficient=0.1", "algo.kl_target=1"]
    rlreason(folder, *PPO, "algo.epochs=2", *kl, "name=run", "tracker=wandb").check()
    return folder / "runs/run"


def test_ppo_is_tracked(whole):
    assert_tracked(whole)


def test_ppo_reports_what_everyone_looks_at(whole):
    result = json.loads((whole / "result.json").read_text())
    assert "all 3 batches are done" in result["verdict"]
    assert [item["stage"] for item in result["evaluations"]] == ["init", "round-1", "final"]
    assert [item["samples_seen"] for item in result["evaluations"]] == [0, 24, 24]
    assert {name: count for name, count in result["rollouts"].items() if name.startswith("batch")} == {
        f"batch-0000{number}": 8 for number in (1, 2, 3)
    }
    assert result["tokens"]["train"] > 0
    batches = {f"batch-0000{number}" for number in (1, 2, 3)}
    assert batches | {"validation-round-1"} <= set(result["probe_gaps"]), "every load of new weights is checked"
    assert all(gap < 0.05 for gap in result["probe_gaps"].values())
    assert set(pd.read_parquet(whole / "rollouts/batch-00002.parquet")["checkpoint"]) == {"batch-00002"}
    by_batch = [line for line in metrics(whole) if line["stage"].startswith("batch-")]
    assert [line["samples_seen"] for line in by_batch] == [8, 16, 24]
    for line in by_batch:
        assert {f"train/{name}" for name in WATCHED} <= set(line)
        assert line["train/sampler_gap"] < 0.05
    assert by_batch[0]["train/kl"] == pytest.approx(0.0, abs=0.2)  # the policy is the reference still
    seconds = result["seconds"]
    assert sum(seconds[kind] for kind in seconds if kind != "total") <= seconds["total"] + 0.01


KILLS = ["before batch-00001", "sampling batch-00002 1", "after batch-00002", "before log-batch-00002"]
KILLS += ["sampling validation-round-1 1", "after log-batch-00003", "before train-online", "after train-online"]
A_FEW = ["sampling batch-00002 1", "before log-batch-00002", "sampling validation-round-1 1", "before train-online"]


@pytest.mark.parametrize(
    ("engine", "kills"), [(QUICK, A_FEW), pytest.param("engine=vllm", KILLS, marks=pytest.mark.faults)]
)
def test_killed_anywhere_ppo_continues_with_every_sample_counted_once(rlreason, tmp_path, whole, engine, kills):
    command = [*PPO, "algo.epochs=2", "algo.kl_coefficient=0.1", "algo.kl_target=1", engine, "name=run"]
    for kill in kills:
        killed = rlreason(tmp_path, *command, kill=kill)
        assert killed.code == -9, f"{kill}: {killed.output[-2000:]}"
    rlreason(tmp_path, *command).check()
    run = tmp_path / "runs/run"
    ours, theirs = ({record["stage"]: record.get("steps") for record in journal(folder)} for folder in (run, whole))
    assert ours == theirs
    assert_same(run, whole)
    assert not (run / "training").exists()
    assert all(held(folder) for folder in MEMORY.glob(f"{PREFIX}*")), "weights of nobody in shared memory"


def test_ppo_with_a_separate_critic_from_the_outcome_model(rlreason, tmp_path):
    extra = ["reward=orm", "algo.critic=separate", "algo.critic_start=orm", "algo.value_warmup=1", QUICK]
    rlreason(tmp_path, *PPO, *JUDGE, *extra, "algo.kl_in=loss", "algo.kl_coefficient=0.1", "name=run").check()
    result = json.loads((tmp_path / "runs/run/result.json").read_text())
    assert "rerank@3" in result["evaluations"][-1]["metrics"]
    judged = 24 * 8 + 8 * 4  # solutions that train the model, and that calibrate it
    assert (result["outcome_model_rollouts"], result["training_rollouts"]) == (judged, judged + 24)
    seen = [item["samples_seen"] for item in result["evaluations"]]
    assert seen[0] == 0 and set(seen[1:]) == {judged + 24}
    assert [line["samples_seen"] for line in metrics(tmp_path / "runs/run") if line["stage"].startswith("batch-")] == [
        judged + 8 * number for number in (1, 2, 3)
    ]


def test_ppo_with_adapters_and_dense_rewards(rlreason, tmp_path):
    extra = ["reward=dense", "model.lora_rank=4", "algo.kl_coefficient=0.1", "algo.truncated=mask"]
    rlreason(tmp_path, *PPO, *extra, "engine.adapters=alone", "name=run").check()
    lines = [line for line in metrics(tmp_path / "runs/run") if line["stage"].startswith("batch-")]
    assert all(line["train/sampler_gap"] < 0.05 for line in lines), "the sampler has the adapters"


def test_solutions_start_from_the_reference_solution_and_its_tokens_are_not_learned(rlreason, tmp_path):
    extra = ["algo.backtracking=true", "algo.replay=prioritized", "algo.batches=2", QUICK]
    rlreason(tmp_path, *PPO, *extra, "name=run").check()
    table = pd.read_parquet(tmp_path / "runs/run/rollouts/batch-00001.parquet")
    tokenizer = load_tokenizer(EMBEDDED_FOLDER / "tiny")
    for row in table.itertuples():
        given = next(index for index, value in enumerate(row.logprobs) if value != 0.0)
        assert tokenizer.decode(row.token_ids[:given]).endswith("\n")
        assert row.text.startswith(tokenizer.decode(row.token_ids[:given]))
        assert tokenizer.decode(row.prompt_token_ids).endswith("Answer:\n")
    assert table["correct"].mean() > 0.5, "only the last line is to be written"


@pytest.mark.parametrize("advantage", ["group", "dr_grpo", "rloo"])
def test_grpo_with_every_advantage(rlreason, tmp_path, advantage):
    engine = "engine=vllm" if advantage == "group" else QUICK
    settings = [f"algo.advantage={advantage}", "algo.kl_coefficient=0.01", engine, "tracker=wandb"]
    rlreason(tmp_path, *GRPO, *settings, "name=run").check()
    assert_tracked(tmp_path / "runs/run")
    result = json.loads((tmp_path / "runs/run/result.json").read_text())
    assert [item["samples_seen"] for item in result["evaluations"]] == [0, 24, 24]
    lines = [line for line in metrics(tmp_path / "runs/run") if line["stage"].startswith("batch-")]
    assert all("train/kl" in line and line["train/sampler_gap"] < 0.05 for line in lines)


def test_a_sampler_that_disagrees_ends_the_run_with_a_verdict(rlreason, tmp_path):
    done = rlreason(tmp_path, *PPO, "algo.gap_limit=1e-9", QUICK, "name=run").check()
    assert "sampler and trainer disagree" in done.output
    result = json.loads((tmp_path / "runs/run/result.json").read_text())
    assert result["verdict"].startswith("ended in batch 1 of 3")
    assert result["evaluations"][-1]["metrics"]["maj@1"] == result["evaluations"][0]["metrics"]["maj@1"]


def test_an_engine_with_other_weights_ends_the_run_in_one_line(rlreason, tmp_path):
    done = rlreason(tmp_path, *PPO, "engine.probe_limit=1e-12", QUICK, "name=run")
    assert done.code == 2
    assert "stale or broken weights in the engine" in done.output
    assert "engine.probe_limit=1e-12" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("algo.minibatch_size=5", "must divide"),
        ("algo.micro_batch_size=3", "must divide"),
        ("algo.kl_coefficient=-0.1", "must be a number of at least 0"),
        ("algo.samples=1", "at least 2"),
        ("algo.critic_start=orm", "algo.critic=separate"),
        ("algo.value_warmup=3", "below algo.batches"),
        ("algo.kl_target=6 algo.kl_coefficient=0", "must start above 0"),
        ("algo.evaluations=9", "at most 7"),
        ("data.max_completion_tokens=2000", "positions"),
    ],
)
def test_impossible_settings_are_one_line(rlreason, tmp_path, change, words):
    done = rlreason(tmp_path, *PPO, *change.split(), "name=run")
    assert done.code == 2
    assert words in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.glob("runs/run/rollouts/*"))
