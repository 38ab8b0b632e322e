"""Advantages and losses of the user's own, and what GRPO passes through, against TRL's own loss."""

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from toy_policy import GRPO, PPO
from trl import GRPOTrainer

from rlreason.algorithms.grpo import GRPOMethod, group_advantages, grpo_loss
from rlreason.algorithms.own import LOSS_ARGUMENTS, check_advantage, check_loss
from rlreason.algorithms.ppo import ppo_loss
from rlreason.errors import UserError
from rlreason.training.forward_pass import Outputs
from rlreason.types import Problem, Rollout

OWN = """
import torch

def rloo(returns):
    n = returns.shape[1]
    return returns - (returns.sum(1, keepdim=True) - returns) / (n - 1)

def normalised(returns):
    return (returns - returns.mean(1, keepdim=True)) / returns.std(1, keepdim=True)

def summed(returns):
    return returns.sum(1)

def listed(returns):
    return returns.tolist()

def rewards(rewards):
    return rewards

def raises(returns):
    raise ValueError("no")

def surrogate(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    ratio = (logprobs - old_logprobs).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)

def with_kl(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    difference = reference_logprobs - logprobs
    return surrogate(logprobs, old_logprobs, None, advantages, mask) + difference.exp() - difference - 1

def detached(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return -logprobs.detach() * advantages

def elsewhere(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return torch.zeros_like(logprobs).requires_grad_()

def flat(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return 0.0 * logprobs

def mean(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return -(logprobs * advantages * mask).sum()

def rooted(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return (logprobs - old_logprobs).sqrt()

def steep(logprobs, old_logprobs, reference_logprobs, advantages, mask):
    return (logprobs - logprobs.detach()).abs().sqrt()

def short(logprobs, advantages):
    return -logprobs * advantages
"""


ONE_BATCH = {"minibatch_size": 2, "micro_batch_size": 2}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "my_losses.py"
    path.write_text(OWN, encoding="utf-8")
    return lambda name: f"{path}:{name}"


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    old, reference, new = (-torch.rand(2, 5, generator=generator) for _ in range(3))
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1.0, 1, 1, 1, 1]])
    advantages = torch.tensor([[1.0], [-2.0]])
    return new, {
        "mask": mask,
        "completion_mask": mask,
        "old_logprobs": old,
        "reference_logprobs": reference,
        "advantages": advantages,
        "tokens_per_minibatch": torch.tensor(10.0),
        "minibatch_tokens": torch.tensor(10.0),
        "old_values": torch.zeros(2, 5),
        "returns": torch.zeros(2, 5),
    }


def trl_loss(new, batch, config):
    """What TRL computes with the same settings; of it only the loss, without its forward pass."""
    high = config.clip if config.clip_high is None else config.clip_high
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, new, None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=config.ratio,
        beta=config.kl_coefficient,
        args=SimpleNamespace(use_bias_correction_kl=True, delta=None, steps_per_generation=1),
        loss_type="dapo",
        epsilon_low=config.clip,
        epsilon_high=high,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    inputs = {
        "prompt_ids": torch.zeros(2, 1),
        "prompt_mask": torch.ones(2, 1),
        "completion_ids": torch.zeros(2, 5),
        "completion_mask": batch["mask"],
        "advantages": batch["advantages"],
        "old_per_token_logps": batch["old_logprobs"],
        "ref_per_token_logps": batch["reference_logprobs"],
        "num_items_in_batch": batch["tokens_per_minibatch"],
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss, {name: values[0] for name, values in trainer._metrics["train"].items()}


@pytest.mark.parametrize("clip_high", [None, 0.4])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.3])
def test_the_loss_of_grpo_and_its_gradient_are_trls(batch, clip_high, ratio, kl_coefficient):
    new, tensors = batch
    config = replace(GRPO, clip_high=clip_high, ratio=ratio, kl_coefficient=kl_coefficient, **ONE_BATCH)
    ours, theirs = new.clone().requires_grad_(), new.clone().requires_grad_()
    loss, metrics = grpo_loss(Outputs(ours, new, None), tensors, 6, config)
    expected, logged = trl_loss(theirs, tensors, config)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(*(torch.autograd.grad(value, x)[0] for value, x in ((loss, ours), (expected, theirs))))
    assert metrics["clip_ratio/high_max"] == pytest.approx(logged["clip_ratio/high_max"])
    assert metrics["clip_ratio/low_min"] == pytest.approx(logged["clip_ratio/low_min"])


def test_a_wider_upper_side_of_the_clip_changes_what_is_kept(batch):
    new, tensors = batch
    raised = (tensors["old_logprobs"] + 0.3).requires_grad_()  # a ratio of 1.35 with an advantage of 1
    for config, kept in ((GRPO, False), (replace(GRPO, clip_high=0.4), True)):
        config = replace(config, **ONE_BATCH)
        loss, _ = grpo_loss(Outputs(raised, new, None), tensors, 6, config)
        (gradient,) = torch.autograd.grad(loss, raised)
        assert bool(gradient[0, 0] != 0) == kept


def rollout(finish_reason, reward_free=()):
    return Rollout(Problem("a", "?", "1"), 0, 0, (1,), (2, 3), (-0.5, -0.5), "", finish_reason, rewards=reward_free)


@pytest.mark.parametrize(("truncated", "tokens"), [("learn", 8.0), ("mask", 5.0)])
def test_cut_completions_can_be_left_out_of_the_loss_of_grpo(batch, truncated, tokens):
    _, tensors = batch
    config = replace(GRPO, truncated=truncated, samples=2, questions=1, **ONE_BATCH)
    method = GRPOMethod(replace(config, importance_cap=None), 6, None)
    found, _ = method.advantages(1, [rollout("length"), rollout("stop")], tensors, None, None)
    assert found["mask"].sum() == found["tokens_per_minibatch"] == tokens
    assert (found["mask"][1] == tensors["mask"][1]).all()


def test_an_own_advantage_stands_in_for_the_shipped_ones(own):
    returns = torch.tensor([[0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    assert torch.allclose(group_advantages(returns, own("rloo")), group_advantages(returns, "rloo"))


def test_an_own_loss_that_is_the_shipped_one_gives_the_same(own, batch):
    new, tensors = batch
    grpo = replace(GRPO, **ONE_BATCH)
    now = Outputs(new, new, torch.zeros(2, 6))
    shipped, _ = grpo_loss(now, tensors, 6, grpo)
    assert grpo_loss(now, tensors, 6, replace(grpo, loss=own("surrogate")))[0] == shipped
    ppo = replace(PPO, kl_in="loss", kl_coefficient=1.0)
    shipped, _ = ppo_loss(now, tensors, 1.0, False, ppo)
    assert ppo_loss(now, tensors, 1.0, False, replace(ppo, loss=own("with_kl")))[0] == pytest.approx(shipped.item())


def test_what_can_be_used_is_not_refused(own):
    check_advantage(own("rloo"))
    check_loss(own("surrogate"), with_reference=False)
    check_loss(own("with_kl"), with_reference=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("normalised", "gives an advantage that is no finite number, for the returns [1.0, 1.0, 1.0, 1.0]"),
        ("summed", "must give a tensor of numbers of shape (3, 4); it gives (3,) of torch.float32"),
        ("listed", "must give a tensor of numbers of shape (3, 4); it gives list"),
        ("rewards", "must take (returns): missing a required argument: 'rewards'"),
        ("raises", "raised ValueError: no in line"),
    ],
)
def test_an_advantage_that_cannot_be_used_is_refused_before_the_run(own, name, words):
    with pytest.raises(UserError) as caught:
        check_advantage(own(name))
    assert f"algo.advantage={own(name)} {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("detached", "gives a loss without a gradient"),
        ("elsewhere", "gives a loss whose gradient with respect to logprobs is 0"),
        ("flat", "gives a loss whose gradient with respect to logprobs is 0"),
        ("mean", "must give a tensor of numbers of shape (4, 6); it gives () of torch.float32"),
        ("rooted", "gives a loss that is no finite number on a small batch"),
        ("steep", "gives a loss whose gradient is no finite number"),
        ("with_kl", "raised TypeError"),
        ("short", f"must take ({', '.join(LOSS_ARGUMENTS)})"),
    ],
)
def test_a_loss_that_cannot_be_used_is_refused_before_the_run(own, name, words):
    with pytest.raises(UserError) as caught:
        check_loss(own(name), with_reference=False)
    assert f"algo.loss={own(name)} {words}" in str(caught.value)
