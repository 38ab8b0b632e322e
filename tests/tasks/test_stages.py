"""What a stage turns rollouts into."""

from pathlib import Path

import pytest

from rlreason.tasks.stages import RunStages, derived_seed
from rlreason.types import Rollout, ScoredRollout

EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(EMBEDDED)


def example_text(tokenizer, text, ended):
    stages = RunStages(None, None, None, None, tokenizer, {}, (), (), ())
    ids = tuple(tokenizer(text)["input_ids"]) + ((tokenizer.eos_token_id,) if ended else ())
    rollout = Rollout("p", 0, 0, (1, 2), ids, (-1.0,) * len(ids), text, "stop")
    example = stages.example(ScoredRollout(rollout, "7", True, ()))
    assert example.prompt_ids == (1, 2)
    assert example.completion_ids.count(tokenizer.eos_token_id) == 1
    assert example.completion_ids[-1] == tokenizer.eos_token_id
    return tokenizer.decode(example.completion_ids, skip_special_tokens=True)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("3+4=7\n#### 7", "3+4=7\n#### 7"),
        ("3+4=7\n#### 7\nQuestion: and more\n#### 9", "3+4=7\n#### 7"),
        ("3+4=7\n#### 7 \n\n", "3+4=7\n#### 7"),
        ("é ✓ 3+4=7\n#### 7\nè", "é ✓ 3+4=7\n#### 7"),
        ("the answer is 7", "the answer is 7"),
        ("", ""),
    ],
)
def test_a_training_sequence_ends_after_its_answer(tokenizer, text, kept, ended):
    assert example_text(tokenizer, text, ended).rstrip() == kept


def test_seeds_depend_on_every_part_and_fit_numpy():
    seeds = {derived_seed(0, stage, problem, sample) for stage in "ab" for problem in "xy" for sample in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)
