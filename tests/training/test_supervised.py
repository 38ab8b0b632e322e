"""The supervised update against the definition of its loss, computed token by token."""

import dataclasses
import math
from pathlib import Path

import pytest
from tests_support import model_config

from rlreason.config.updates import SupervisedConfig
from rlreason.errors import UserError
from rlreason.training.supervised import Example, supervised_update

pytestmark = pytest.mark.engine
EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"
MODEL = model_config(name="tiny", path=str(EMBEDDED))
CONFIG = SupervisedConfig(
    learning_rate=1e-3,
    epochs=1,
    batch_size=4,
    micro_batch_size=2,
    warmup_ratio=0.0,
    schedule="constant",
    weight_decay=0.0,
    max_grad_norm=1.0,
)


@pytest.fixture(scope="module")
def examples():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    pairs = [
        ("Question: Tom has 3 apples. Tom buys 4 more. How many apples does Tom have now?\nAnswer:\n", "3+4=7\n#### 7"),
        ("Question: Ana has 9 pens. Ana sells 2 pens. How many pens does Ana have now?\nAnswer:\n", "#### 7"),
        ("Question: Ben has 5 eggs.\nAnswer:\n", "5*2=10\n10-1=9\n9+9=18\n#### 18"),
        ("Question: Mia has 8 nuts.\nAnswer:\n", "8/2=4\n#### 4"),
    ]
    encode = lambda text: tuple(tokenizer(text)["input_ids"])  # noqa: E731
    return [Example(encode(prompt), (*encode(text), tokenizer.eos_token_id)) for prompt, text in pairs]


def reference_loss(examples, prompts_too=False):
    """Mean over all completion tokens of the batch of -log p, from float64 log-softmax, one sequence at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    total, count = 0.0, 0
    for example in examples:
        ids = [*example.prompt_ids, *example.completion_ids]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        for position in range(1, len(ids)):
            if prompts_too or position >= len(example.prompt_ids):
                total -= logits[position - 1].log_softmax(-1)[ids[position]].item()
                count += 1
    return total / count


def update(examples, folder, config=CONFIG):
    losses = []
    report = supervised_update(
        EMBEDDED,
        examples,
        config,
        MODEL,
        folder / "out",
        folder / "scratch",
        0,
        math.inf,
        progress=lambda *seen: losses.append(seen),
    )
    return report, losses


def test_the_loss_counts_completion_tokens_only_over_micro_batches(examples, tmp_path):
    report, losses = update(examples, tmp_path)
    assert report.steps == 1
    assert report.tokens == sum(len(item.prompt_ids) + len(item.completion_ids) for item in examples)
    (step, steps, loss) = losses[0]
    assert (step, steps) == (1, 1)
    assert loss == pytest.approx(reference_loss(examples), rel=0.02)  # bfloat16 where the hardware has it
    assert abs(loss - reference_loss(examples, prompts_too=True)) > 0.1


def test_an_update_that_breaks_down_ends_in_one_line_and_stores_nothing(examples, tmp_path):
    with pytest.raises(UserError, match=r"^training broke down: the .* of optimizer step . of 8 is"):
        update(examples, tmp_path, dataclasses.replace(CONFIG, learning_rate=1e30, epochs=8))
    assert not (tmp_path / "out").exists()


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", [1, 3, 4])
def test_an_update_that_was_broken_off_in_any_epoch_goes_on_to_the_same_weights(examples, tmp_path, step):
    import torch
    from transformers import AutoModelForCausalLM

    config = dataclasses.replace(CONFIG, epochs=2, batch_size=2)
    many = [
        dataclasses.replace(one, completion_ids=(*one.completion_ids[:3], *one.completion_ids[cut:]))
        for one in examples
        for cut in (3, 4)
    ][:6]

    def learned(folder, until=None):
        def stop(now, steps, loss):
            if now == until:
                raise Killed

        arguments = (EMBEDDED, many, config, MODEL, folder / "out", folder / "scratch", 0, 0.0)
        supervised_update(*arguments, progress=stop)
        model = AutoModelForCausalLM.from_pretrained(folder / "out", dtype=torch.float32)
        return torch.cat([weights.flatten() for weights in model.state_dict().values()])

    undisturbed = learned(tmp_path / "whole")
    with pytest.raises(Killed):
        learned(tmp_path / "again", until=step + 1)  # progress is told before the checkpoint of its step is written
    assert (tmp_path / "again/scratch" / f"checkpoint-{step}").is_dir()
    assert torch.equal(learned(tmp_path / "again"), undisturbed)


def test_training_on_few_solutions_makes_them_likely_and_saves_a_loadable_checkpoint(examples, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report, losses = update(examples, tmp_path, dataclasses.replace(CONFIG, epochs=40))
    assert losses[-1][2] < 0.3 * losses[0][2]
    assert report.loss < losses[0][2]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert not list((tmp_path / "out").glob("*.bin"))
