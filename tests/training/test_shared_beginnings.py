"""A beginning that is computed once changes neither a loss nor a gradient, whatever is shared."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import model_config
from toy_policy import policy
from transformers import AutoModelForCausalLM

from rlreason.config.updates import SupervisedConfig
from rlreason.training import shared_beginnings
from rlreason.training.common import IGNORED
from rlreason.training.shared_beginnings import SharedBeginnings, common_beginning, joined
from rlreason.training.supervised import Example, supervised_update

EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"
tokens = st.lists(st.integers(2, 7), min_size=1, max_size=6)


def row(prompt, completion):
    return {"input_ids": [*prompt, *completion], "labels": [IGNORED] * len(prompt) + list(completion)}


def separately(rows):
    raise AssertionError("not to be padded")


def token_losses(model, batch):
    """The loss of every token that has one, in the order of the sequences."""
    labels = batch.pop("labels")
    logits = model(**batch).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
    return losses[(labels[:, 1:] != IGNORED).flatten()]


@pytest.fixture(scope="module")
def model():
    return policy().eval()


@settings(max_examples=40, deadline=None)
@given(
    beginning=st.lists(st.integers(2, 7), max_size=12), rest=st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5)
)
def test_losses_are_those_of_separate_sequences(model, beginning, rest):
    rows = [row([*beginning, *prompt], completion) for prompt, completion in rest]
    expected = torch.cat([token_losses(model, {name: torch.tensor([one[name]]) for name in one}) for one in rows])
    common = common_beginning(rows)
    assert len(beginning) <= common + 1
    found = token_losses(model, joined(rows, common))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_separate_sequences(model):
    rows = [row([2, 3, 4, 5, 6, 2, 3, number], [number, 4, 5]) for number in (3, 4, 6)]

    def gradient(losses):
        model.zero_grad()
        losses.sum().backward()
        return torch.cat([weights.grad.flatten() for weights in model.parameters()])

    together = gradient(token_losses(model, joined(rows, common_beginning(rows))))
    apart = gradient(torch.cat([token_losses(model, {name: torch.tensor([r[name]]) for name in r}) for r in rows]))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)


def test_the_token_after_the_beginning_is_learned_by_nobody():
    rows = [row([2, 3], [4, 5, 6]), row([2, 3], [4, 5, 7])]
    assert common_beginning(rows) == 1, "not 4, where sequences part; not 2, where the first token is learned"
    assert common_beginning([row([], [4, 5])] * 2) == common_beginning([]) == 0


def test_rows_that_share_little_are_padded_and_fillers_are_left_out():
    long, filler = [2, 3, 4, 5] * 5, {"input_ids": [1, 1], "labels": [IGNORED, IGNORED]}
    shared = SharedBeginnings(separately)
    batch = shared([row([*long, 6], [7]), row([*long, 7], [6]), row([*long, 5], [6]), filler])
    assert batch["input_ids"].shape == (1, 26)
    apart = SharedBeginnings(len)
    assert apart([row([*long, 6], [7])]) == 1, "nothing is saved"
    assert apart([row([2, 3], [4] * 9), row([2, 3], [5] * 9)]) == 2
    assert apart([filler, filler]) == 2


def test_an_update_learns_the_same_with_less_computed(tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    encode = lambda text: tuple(tokenizer(text)["input_ids"])  # noqa: E731
    shots = "Question: Ben has 5 eggs. Ben buys 6 more. How many has he?\nAnswer:\n5+6=11\n#### 11\n\n" * 4
    pairs = [(f"{shots}Question: Tom has {n} apples.\nAnswer:\n", f"{n}+1={n + 1}\n#### {n + 1}") for n in range(10)]
    examples = [Example(encode(prompt), (*encode(text), tokenizer.eos_token_id)) for prompt, text in pairs]
    config = SupervisedConfig(
        learning_rate=1e-3,
        epochs=2,
        batch_size=8,
        micro_batch_size=4,
        warmup_ratio=0.0,
        schedule="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
    )
    model = model_config(name="tiny", path=str(EMBEDDED))
    monkeypatch.setattr("rlreason.models.loading.bfloat16_is_fast", lambda: False)
    found, shapes = {}, []

    def shape(rows, common, inner=shared_beginnings.joined):
        shapes.append(sum(len(one["input_ids"]) for one in rows) / len(inner(rows, common)["input_ids"][0]))
        return inner(rows, common)

    monkeypatch.setattr(shared_beginnings, "joined", shape)
    for name in ("shared", "apart"):
        losses = []
        folder = tmp_path / name
        arguments = (EMBEDDED, examples, config, model, folder / "out", folder / "scratch", 0, math.inf)
        supervised_update(*arguments, progress=lambda *seen, losses=losses: losses.append(seen[2]))
        weights = AutoModelForCausalLM.from_pretrained(folder / "out", dtype=torch.float32).state_dict()
        found[name] = (losses, torch.cat([one.flatten() for one in weights.values()]))
        monkeypatch.setattr(shared_beginnings, "worth_while", lambda common, lengths: False)
    assert len(shapes) >= 4, (
        "of two epochs of 10 sequences and 6 fillers; those with one sequence have nothing to share"
    )
    assert max(shapes) > 3
    assert found["shared"][0] == pytest.approx(found["apart"][0], rel=1e-4)
    before = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).state_dict()
    learned = found["apart"][1] - torch.cat([one.flatten() for one in before.values()])
    assert (found["shared"][1] - found["apart"][1]).norm() < 0.01 * learned.norm()
