"""The real trainers on tasks whose best policy is known, and their parts against plain formulas."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests_support import composed
from toy_policy import END, GRPO, PPO, QUESTION, WORDS, ToyBatches, chances, policy, run_settings, saved, trainer

from rlreason.algorithms.grpo import group_advantages, grpo_loss, grpo_method
from rlreason.algorithms.ppo import PPOConfig, PPOMethod, advantages
from rlreason.errors import UserError
from rlreason.models.critic import SharedCritic, new_critic
from rlreason.training.common import NOT_SPLIT
from rlreason.training.forward_pass import Outputs, forward_pass
from rlreason.training.minibatches import arranged, collated, columns, described
from rlreason.training.on_policy_trainer import Diverged, OnPolicyTrainer, refuse_collapse
from rlreason.training.shared_prompts import neighbours
from rlreason.types import Problem, Rollout, StepReward

pytestmark = pytest.mark.engine
A, B, C = WORDS.index("a"), WORDS.index("b"), WORDS.index("c")


@pytest.fixture(autouse=True)
def _single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlreason.models.loading.bfloat16_is_fast", lambda: False)


def ppo_trainer(
    folder: Path, model: Any, config: PPOConfig, tokens: int, reward: Any, batches: Any = None, **keywords: Any
) -> OnPolicyTrainer:
    start = saved(model, folder / "start")
    critic = new_critic(config.critic, model, start, run_settings(folder, tokens).model, None, None, NOT_SPLIT)
    method = PPOMethod(config, critic, copy.deepcopy(model) if config.kl_coefficient > 0 else None)
    drawn = batches or ToyBatches(model, config, tokens, reward)
    return trainer(folder, method, model, config, tokens, drawn, **keywords)


def grpo_trainer(folder: Path, model: Any, config: Any, tokens: int, reward: Any) -> OnPolicyTrainer:
    method = grpo_method(config, saved(model, folder / "start"), model, run_settings(folder, tokens))
    return trainer(folder, method, model, config, tokens, ToyBatches(model, config, tokens, reward))


def bandit(written: list[int]) -> list[float]:
    """Arm a pays 1, arm b pays a half."""
    return [{A: 1.0, B: 0.5}.get(written[0], 0.0)]


def two_steps(written: list[int]) -> list[float]:
    """b pays more at once than a, but only a leads to 1 for a following c."""
    return [{A: 0.25, B: 0.3}.get(written[0], 0.0), 1.0 if written == [A, C] else 0.0]


@pytest.mark.parametrize("changes", [{}, {"critic": "separate"}, {"epochs": 2, "minibatch_size": 16}])
def test_ppo_finds_the_best_arm(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = policy()
    before = chances(model)[A].item()
    ppo_trainer(tmp_path, model, replace(PPO, **changes), 1, bandit).train()
    assert before < 0.3
    assert chances(model)[A].item() > 0.9


@pytest.mark.parametrize(
    "changes",
    [{"advantage": "group"}, {"advantage": "dr_grpo"}, {"advantage": "rloo"}, {"importance_cap": None}],
)
def test_grpo_finds_the_best_arm(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = policy()
    grpo_trainer(tmp_path, model, replace(GRPO, **changes), 1, bandit).train()
    assert chances(model)[A].item() > 0.9


@pytest.mark.parametrize(("gamma", "best"), [(1.0, A), (0.0, B)])
def test_ppo_waits_for_the_larger_reward_unless_the_future_counts_for_nothing(
    tmp_path: Path, gamma: float, best: int
) -> None:
    model = policy(1)
    ppo_trainer(tmp_path, model, replace(PPO, batches=60, gamma=gamma), 2, two_steps).train()
    assert chances(model)[best].item() > 0.9
    if best == A:
        assert chances(model, (A,))[C].item() > 0.9


def test_a_larger_kl_coefficient_stays_closer_to_the_reference(tmp_path: Path) -> None:
    """The reward can be had only by leaving the reference policy."""
    start = chances(policy())
    divergences = []
    for number, coefficient in enumerate((0.05, 0.3, 2.0)):
        model = policy()
        config = replace(PPO, kl_coefficient=coefficient, gae_lambda=1.0)
        ppo_trainer(tmp_path / str(number), model, config, 1, bandit).train()
        after = chances(model)
        divergences.append((after * (after / start).log()).sum().item())
    assert divergences[0] > divergences[1] > divergences[2]
    # The optimum of reward - c KL is p(x) ~ p_reference(x) exp(r(x) / c); at c = 2 it is known and near.
    best = start * torch.tensor([{A: 1.0, B: 0.5}.get(token, 0.0) / 2.0 for token in range(len(WORDS))]).exp()
    assert (after - best / best.sum()).abs().max() < 0.08


def first_batch(trainer: OnPolicyTrainer) -> dict[str, torch.Tensor]:
    return trainer.with_advantages(1, *trainer.batches.draw(1, None))


def test_without_critic_clipping_and_kl_the_first_gradient_is_that_of_reinforce(tmp_path: Path) -> None:
    """lambda = 1 and values of 0: the gradient of one minibatch is sum of return x grad log p over its tokens."""
    model = policy()
    config = replace(PPO, gae_lambda=1.0, whiten=False, micro_batch_size=32)
    trainer = ppo_trainer(tmp_path, model, config, 2, two_steps)
    batch = first_batch(trainer)
    (inputs,) = arranged(batch, 32, 32, 0)
    trainer.compute_loss(model, inputs).backward()
    found = model.lm_head.weight.grad.clone()

    model.zero_grad()
    ids, _, time = columns(batch)
    rewards = torch.tensor([two_steps(row) for row in batch["completion_ids"].tolist()])
    returns = rewards.flip(1).cumsum(1).flip(1)  # what follows each token
    logprobs = model(input_ids=ids).logits[:, :-1].log_softmax(-1)[:, -time:]
    chosen = logprobs.gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)
    (-(returns * chosen).sum() / (32 * 2)).backward()
    assert torch.allclose(found, model.lm_head.weight.grad, atol=1e-6)


def ragged() -> dict[str, torch.Tensor]:
    """Four rows with prompts of 1 to 3 tokens and completions of 1 to 4."""
    torch.manual_seed(0)
    prompts, completions = [3, 1, 2, 2], [1, 4, 2, 3]
    batch = {
        "prompt_ids": torch.full((4, 3), 1),
        "prompt_mask": torch.zeros(4, 3, dtype=torch.long),
        "completion_ids": torch.full((4, 4), 1),
        "completion_mask": torch.zeros(4, 4, dtype=torch.long),
    }
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        batch["prompt_ids"][row, 3 - prompt :] = torch.randint(2, 8, (prompt,))
        batch["prompt_mask"][row, 3 - prompt :] = 1
        batch["completion_ids"][row, :completion] = torch.randint(2, 8, (completion,))
        batch["completion_mask"][row, :completion] = 1
    return {**batch, "mask": batch["completion_mask"]}


def of_equal_prompts() -> dict[str, torch.Tensor]:
    """`ragged` with longer prompts, and more solutions of its first and third prompt, out of order."""
    batch = ragged()
    longer = torch.randint(2, 8, (4, 4))
    batch["prompt_ids"] = torch.cat([batch["prompt_ids"], longer], dim=1)
    batch["prompt_mask"] = torch.cat([batch["prompt_mask"], torch.ones_like(longer)], dim=1)
    order = torch.tensor([0, 1, 2, 0, 3, 2, 0])
    batch = {name: value[order] for name, value in batch.items()}
    batch["completion_ids"] = torch.randint(2, 8, batch["completion_ids"].shape)
    return batch


@pytest.mark.parametrize("make", [ragged, of_equal_prompts])
def test_the_forward_pass_is_that_of_each_row_alone(
    tmp_path: Path, make: Callable[[], dict[str, torch.Tensor]]
) -> None:
    model = policy().eval()
    trainer = ppo_trainer(tmp_path, model, PPO, 1, bandit)
    critic = trainer.method.critic
    torch.nn.init.normal_(critic.head.weight)
    batch = make()
    found = trainer.divided(model, batch, critic)
    for row in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        output = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0), output_hidden_states=True)
        logprobs = output.logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        states = output.hidden_states[-1][0, len(prompt) - 1 :]
        count = len(completion)
        assert torch.allclose(
            found.logprobs[row, :count], logprobs.gather(1, completion.unsqueeze(1)).squeeze(1), atol=1e-5
        )
        assert torch.allclose(found.entropies[row, :count], -(logprobs.exp() * logprobs).sum(1), atol=1e-5)
        values = critic.head(states).squeeze(1)
        assert torch.allclose(found.values[row, : count + 1], values, atol=1e-5)
        assert found.logprobs[row, count:].abs().sum() == 0


def test_equal_prompts_are_computed_once_with_the_gradient_of_separate_rows(tmp_path: Path) -> None:
    model = policy()
    trainer = ppo_trainer(tmp_path, model, PPO, 1, bandit)
    batch = of_equal_prompts()
    ids, mask, time = columns(batch)
    order = neighbours(batch["prompt_ids"] * batch["prompt_mask"], batch["completion_mask"].sum(1))
    weights = torch.randn(len(ids), time)

    def gradient(share: bool) -> tuple[int, torch.Tensor]:
        read = []
        hook = model.model.register_forward_pre_hook(
            lambda module, arguments, keywords: read.append(keywords["input_ids"].numel()), with_kwargs=True
        )
        model.config._attn_implementation = "sdpa" if share else "eager"
        model.zero_grad()
        logprobs = forward_pass(trainer.accelerator, model, ids[order], mask[order], time, 1.0).logprobs
        (logprobs * weights[order]).sum().backward()
        hook.remove()
        return sum(read), torch.cat([item.grad.flatten() for item in model.parameters()])

    few, shared = gradient(True)
    many, separate = gradient(False)
    assert few < 0.8 * many
    assert torch.allclose(shared, separate, atol=1e-5)


def test_rows_of_a_prompt_follow_each_other_in_the_order_that_is_asked_for() -> None:
    prompts = torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]])
    lengths = torch.tensor([2, 9, 4, 1, 1])
    assert prompts[neighbours(prompts, lengths)].tolist() == [[5, 6], [1, 2], [1, 2], [3, 4], [3, 4]]
    order = torch.tensor([2, 3, 4, 1, 0])
    assert prompts[neighbours(prompts, lengths, order)].tolist() == [[1, 2], [1, 2], [5, 6], [3, 4], [3, 4]]
    assert sorted(neighbours(prompts, lengths, order).tolist()) == [0, 1, 2, 3, 4]


def test_minibatches_hold_every_row_once_and_say_how_many_tokens_they_have() -> None:
    batch = {**ragged(), "rows": torch.arange(4), "scalar": torch.tensor(7)}
    parts = arranged(batch, 2, 1, 0)
    assert sorted(torch.cat([part["rows"] for part in parts]).tolist()) == [0, 1, 2, 3]
    for first, second in zip(parts[::2], parts[1::2], strict=True):
        tokens = first["completion_mask"].sum() + second["completion_mask"].sum()
        assert first["minibatch_tokens"] == second["minibatch_tokens"] == tokens
        assert first["completion_mask"].sum() <= second["completion_mask"].sum()
        assert first["scalar"] == 7


@pytest.mark.parametrize("config", [PPO, GRPO, replace(GRPO, advantage="dr_grpo")])
def test_a_loss_does_not_depend_on_how_a_minibatch_is_cut(tmp_path: Path, config: Any) -> None:
    model = policy()
    trainer = (ppo_trainer if config is PPO else grpo_trainer)(tmp_path, model, config, 2, two_steps)
    batch = first_batch(trainer)
    whole = sum(trainer.compute_loss(model, part).item() for part in arranged(batch, 32, 32, 0))
    parts = sum(trainer.compute_loss(model, part).item() for part in arranged(batch, 32, 4, 0))
    assert parts == pytest.approx(whole, abs=1e-6)


def test_the_critic_warms_up_alone(tmp_path: Path) -> None:
    model = policy()
    before = chances(model)
    trainer = ppo_trainer(tmp_path, model, replace(PPO, batches=4, value_warmup=3, evaluations=1), 1, bandit)
    trainer.args.max_steps = 3
    trainer.train()
    assert torch.equal(chances(model), before)
    assert trainer.method.critic.head.bias.item() != 0


def test_a_policy_that_moves_too_far_ends_its_epochs(tmp_path: Path) -> None:
    model = policy()
    config = replace(PPO, batches=2, epochs=4, kl_stop=1e-6)
    trainer = ppo_trainer(tmp_path, model, config, 1, bandit)
    trainer.train()
    # The first step of a batch is on the sampling policy, so its KL is 0; the second sees the first one's move.
    losses = [entry["epochs_ended_early"] for entry in trainer.state.log_history if "epochs_ended_early" in entry]
    assert losses == [1.0, 1.0]


def test_weights_that_are_not_those_of_the_sampler_end_the_run(tmp_path: Path) -> None:
    model = policy()
    stale = ToyBatches(policy(5), PPO, 1, bandit)
    trainer = ppo_trainer(tmp_path, model, PPO, 1, bandit, batches=stale)
    with pytest.raises(Diverged, match="sampler and trainer disagree"):
        trainer.train()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    model = policy()
    trainer = ppo_trainer(tmp_path, model, PPO, 1, lambda written: [float("inf")])
    with pytest.raises(Diverged, match="not finite"):
        trainer.train()


def test_a_collapsed_policy_ends_the_run(tmp_path: Path) -> None:
    model = policy()
    calls = []

    def breaks_down(written: list[int]) -> list[float]:
        calls.append(written)
        return [1.0] if len(calls) <= 12 * 32 else [0.0]

    trainer = ppo_trainer(tmp_path, model, replace(PPO, batches=40), 1, breaks_down)
    with pytest.raises(Diverged, match="collapsed"):
        trainer.train()
    assert trainer.batch_number == 21 + 1  # in batch 21, one of the last ten was still good: 1/10 of the best


def test_returns_that_fall_because_the_starts_move_back_are_no_collapse(tmp_path: Path) -> None:
    model = policy()
    calls = []

    def harder(written: list[int]) -> list[float]:
        calls.append(written)
        return [0.95] if len(calls) <= 12 * 32 else [0.18]

    ppo_trainer(tmp_path, model, replace(PPO, batches=24, backtracking=True), 1, harder).train()


def test_a_slow_start_and_a_dip_are_no_collapse() -> None:
    refuse_collapse([0.0] * 30)
    refuse_collapse([0.01 * step for step in range(40)])
    refuse_collapse([1.0] * 20 + [0.3] * 20)
    refuse_collapse([1.0] * 20 + [0.0] * 7)
    with pytest.raises(Diverged, match="collapsed"):
        refuse_collapse([1.0] * 20 + [0.0] * 9)


def test_policy_critic_and_coefficient_are_resumed(tmp_path: Path) -> None:
    """Two batches, a checkpoint and two more are what four in one go are."""
    from rlreason.training.common import Recorder

    config = replace(PPO, batches=4, kl_coefficient=0.1, kl_target=0.01)

    class Interrupted(ToyBatches):
        def draw(self, number: int, policy: Path | None) -> Any:
            if number > 2:
                raise KeyboardInterrupt
            return super().draw(number, policy)

    def run(folder: Path, batches: type[ToyBatches], resume: str | None) -> OnPolicyTrainer:
        recorder = Recorder(0.0, lambda step, steps, loss: None)
        model = policy()
        drawn = batches(model, config, 1, bandit)
        trainer = ppo_trainer(folder, model, config, 1, bandit, drawn, callbacks=[recorder.callback()])
        with contextlib.suppress(KeyboardInterrupt):
            trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run(tmp_path / "whole", ToyBatches, None)
    run(tmp_path / "parts", Interrupted, None)
    folder = tmp_path / "parts" / "scratch" / "checkpoint-2"
    assert json.loads((folder / "ppo.json").read_text())["kl_coefficient"] != 0.1
    parts = run(tmp_path / "parts", ToyBatches, str(folder))
    assert torch.allclose(chances(parts.model), chances(whole.model), atol=1e-6)
    assert torch.allclose(parts.method.critic.head.weight, whole.method.critic.head.weight, atol=1e-6)
    assert parts.method.kl_coefficient == pytest.approx(whole.method.kl_coefficient)


def estimated(
    truncated: str, rewards: list[float], value: float, finish: str, answer: str | None, gae_lambda: float = 0.95
) -> dict[str, list[float]]:
    """Advantages and returns of one completion's tokens where the critic gives every state the same value."""
    time = len(rewards)
    paid = tuple(StepReward(at, at + 1, reward) for at, reward in enumerate(rewards) if reward)
    drawn = Rollout(Problem("p", "q", "7"), 0, 0, (1,), tuple(range(time)), (), "", finish, (), answer, False, paid)
    zeros, ones = torch.zeros(1, time), torch.ones(1, time)
    batch = {"mask": ones, "completion_mask": ones.long(), "old_logprobs": zeros, "sampler_logprobs": zeros}
    config = replace(PPO, truncated=truncated, whiten=False, gae_lambda=gae_lambda)
    found, _ = advantages([drawn], batch, torch.full((1, time + 1), value), None, 0.0, config)
    return {name: found[name][0].tolist() for name in ("advantages", "returns")}


NOTHING = [0.0] * 6


@pytest.mark.parametrize(
    ("truncated", "rewards", "finish", "answer", "last"),
    [
        ("zero", [*NOTHING[1:], 1.0], "stop", "7", 0.4),
        ("zero", NOTHING, "stop", "8", -0.6),
        ("zero", NOTHING, "length", None, -0.6),
        ("bootstrap", NOTHING, "length", None, 0.0),
        ("bootstrap", NOTHING, "stop", None, -0.6),
        ("bootstrap", NOTHING, "length", "8", -0.6),
    ],
)
def test_a_cut_completion_is_worth_what_a_wrong_one_is(
    truncated: str, rewards: list[float], finish: str, answer: str | None, last: float
) -> None:
    assert estimated(truncated, rewards, 0.6, finish, answer)["advantages"][-1] == pytest.approx(last)


@pytest.mark.parametrize("truncated", ["zero", "bootstrap"])
def test_rambling_from_a_right_answer_into_the_limit_is_worth_no_more_than_ending(truncated: str) -> None:
    rewards = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    returns = estimated(truncated, rewards, 0.5, "length", "7", gae_lambda=1.0)["returns"]
    assert returns == pytest.approx([1.0] * 4 + [0.0] * 4)
    assert returns == pytest.approx(estimated(truncated, rewards, 0.5, "stop", "7", gae_lambda=1.0)["returns"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["reward=orm", "algo.truncated=bootstrap"], "counts a cut completion twice"),
        (["algo.critic=separate", "algo.critic_start=orm"], "use algo.kl_in=loss or algo.kl_coefficient=0"),
        (
            ["algo.critic=separate", "algo.critic_start=orm", "algo.kl_in=loss", "reward=dense"],
            "reward=dense still pays",
        ),
        (
            ["algo.critic=separate", "algo.critic_start=orm", "algo.kl_in=loss", "reward=orm", "reward.at=steps"],
            "at=end",
        ),
    ],
)
def test_rewards_that_count_twice_or_that_the_critic_cannot_hold_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        composed("algo=ppo", *overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reward", [["reward=sparse"], ["reward=orm"]])
def test_probabilities_go_with_a_critic_that_starts_as_the_outcome_model(reward: list[str]) -> None:
    changes = ["algo.critic=separate", "algo.critic_start=orm", "algo.kl_coefficient=0"]
    assert composed("algo=ppo", *reward, *changes).algo.truncated == "zero", "as shipped"


def test_values_of_a_shared_critic_start_at_zero() -> None:
    assert SharedCritic(4)(torch.randn(2, 3, 4), *[torch.zeros(1)] * 2).abs().sum() == 0
    assert END != QUESTION


def rollout(problem: str, written: tuple[int, ...], finish_reason: str = "stop") -> Rollout:
    logprobs = tuple(-0.5 for _ in written)
    return Rollout(Problem(problem, "?", "1"), 0, 0, (QUESTION,) * len(problem), written, logprobs, "", finish_reason)


def test_rollouts_become_tensors_whose_mask_has_what_the_policy_wrote() -> None:
    """Given tokens belong to the completion and are not learned from; an empty completion is an end-of-text alone."""
    rollouts = [rollout("a", (A, B, C)), rollout("bb", (A, B), "length"), rollout("a", ())]
    batch = collated(rollouts, {"a": 1, "bb": 0}, END, 1)
    assert batch["prompt_ids"].tolist() == [[1, QUESTION], [QUESTION, QUESTION], [1, QUESTION]]
    assert batch["prompt_mask"].tolist() == [[0, 1], [1, 1], [0, 1]]
    assert batch["completion_ids"].tolist() == [[A, B, C], [A, B, 1], [END, 1, 1]]
    assert batch["completion_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert batch["mask"].tolist() == [[0, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert batch["sampler_logprobs"][0].tolist() == [-0.5, -0.5, -0.5]
    assert batch["sampler_logprobs"][2, 0].isnan()


def test_what_is_logged_of_a_batch_tells_lengths_and_returns() -> None:
    rollouts = [rollout("a", (A, B, C)), rollout("a", (A, B), "length")]
    found = described(rollouts, collated(rollouts, {"a": 0}, END, 1), 2)
    assert found["completions/mean_length"] == 2.5
    assert found["completions/clipped_ratio"] == 0.5
    assert found["completions/mean_terminated_length"] == found["completions/max_terminated_length"] == 3
    assert found["reward"] == 0 and found["frac_reward_zero_std"] == 1


def test_group_advantages_by_hand() -> None:
    returns = torch.tensor([[0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    deviation = math.sqrt(4 * 0.25 / 3)
    assert group_advantages(returns, "dr_grpo").tolist() == [[-0.5, 0.5, 0.5, -0.5], [0.0] * 4]
    assert group_advantages(returns, "group")[0].tolist() == pytest.approx(
        [sign * 0.5 / (deviation + 1e-4) for sign in (-1, 1, 1, -1)]
    )
    # Against the mean of the three others: 0 - 2/3, 1 - 1/3.
    assert group_advantages(returns, "rloo")[0].tolist() == pytest.approx([-2 / 3, 2 / 3, 2 / 3, -2 / 3])


@pytest.mark.parametrize("advantage", ["group", "dr_grpo"])
def test_the_loss_of_grpo_is_the_clipped_surrogate_with_the_kl_of_the_policy_of_now(advantage: str) -> None:
    torch.manual_seed(0)
    config = replace(GRPO, advantage=advantage, kl_coefficient=0.3, minibatch_size=4, micro_batch_size=2)
    now, old, reference = (-torch.rand(2, 5) for _ in range(3))
    advantages = torch.tensor([[1.0], [-2.0]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    batch = {"mask": mask, "old_logprobs": old, "reference_logprobs": reference, "advantages": advantages}
    loss, metrics = grpo_loss(Outputs(now, now, None), {**batch, "tokens_per_minibatch": torch.tensor(10.0)}, 6, config)
    total = clipped = kl_sum = 0.0
    for row, column in mask.nonzero().tolist():
        ratio = math.exp(now[row, column] - old[row, column])
        gain = advantages[row, 0].item()
        difference = (reference - now)[row, column].item()
        kl = (math.exp(difference) - difference - 1) * ratio
        total += -min(ratio * gain, min(max(ratio, 0.8), 1.2) * gain) + 0.3 * kl
        clipped += (ratio > 1.2 and gain > 0) or (ratio < 0.8 and gain < 0)
        kl_sum += kl
    expected = total / 10 if advantage == "group" else total / (4 * 6)  # of 4 rows with 6 tokens at the most
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert metrics["kl"] == pytest.approx(kl_sum / 8, rel=1e-5)
    assert metrics["clip_ratio/region_mean"] == pytest.approx(clipped / 8)
