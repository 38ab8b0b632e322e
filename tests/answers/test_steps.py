"""Steps and tokens, against a slow reference that decodes every prefix."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers.steps import StepSplitter, through_answer
from rlreason.lab.updating import example
from rlreason.types import Problem, Rollout

EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"


def tiny():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(EMBEDDED)


def byte_level(*more):
    """A byte-level BPE with a token for two line ends and one for the end of a line with the start of the next.

    And with those that come of `more` pairs of pieces.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    newline = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("\n")[0][0]
    pieces = [newline * 2, newline + "3", "7" + newline, *(first + second for first, second in more)]
    merges = [(newline, newline), (newline, "3"), ("7", newline), *more]
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, *pieces, "<|end|>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


TOKENIZERS = {"tiny": tiny(), "byte-level": byte_level()}


def split(name, text, ended=True):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * ended
    return tokenizer, ids, StepSplitter(tokenizer).split(ids, text)


def reference_line_of_each_token(tokenizer, ids):
    """The number of line ends before each token, from decoding every prefix: quadratic, and free of assumptions."""
    counts = [tokenizer.decode(ids[:end], skip_special_tokens=True).count("\n") for end in range(len(ids) + 1)]
    return counts[:-1]


TEXT = st.lists(
    st.sampled_from(["3+4=7", "é ✓ 漢字 🙂", "", " ", "so 12", "3", "7", "#### 7", "####", "a\t b", "\n"]), max_size=7
).map("\n".join)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(TOKENIZERS)), TEXT, st.booleans())
def test_spans_partition_the_completion_and_follow_its_lines(name, text, ended):
    tokenizer, ids, steps = split(name, text, ended)
    assert [index for step in steps for index in range(step.start, step.end)] == list(range(len(ids)))
    assert all(step.end > step.start for step in steps)
    lines = reference_line_of_each_token(tokenizer, ids)
    for step, following in pairwise(steps):
        assert lines[following.start] > lines[step.end - 1], "a step begins after a line end"
    # Every line that has words is found, in order, in the texts of the steps.
    words = [line.strip() for line in text.split("\n") if line.strip()]
    assert [line for step in steps for line in step.text.split("\n") if line] == words


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_lines_become_steps(name):
    tokenizer, ids, steps = split(name, "2+3=5\n\n5*2=10\n#### 10\nmore")
    assert [step.text for step in steps] == ["2+3=5", "5*2=10", "#### 10", "more"]
    assert [step.kind for step in steps] == ["reasoning", "reasoning", "answer", "after"]
    assert [tokenizer.decode(ids[step.start : step.end], skip_special_tokens=True) for step in steps] == [
        "2+3=5\n\n",
        "5*2=10\n",
        "#### 10\n",
        "more",
    ]
    assert len(through_answer(steps)) == 3


def test_a_token_with_a_line_end_and_the_next_line_belongs_to_the_first():
    tokenizer, ids, steps = split("byte-level", "ab\n3+4")
    merged = tokenizer.convert_tokens_to_ids("Ċ3")
    assert ids[steps[0].end - 1] == merged
    assert [step.text for step in steps] == ["ab", "3+4"]


def test_a_completion_that_is_cut_inside_a_character_has_a_last_step():
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer("3+4=7\n漢")["input_ids"][:-1]
    steps = StepSplitter(tokenizer).split(ids, tokenizer.decode(ids, skip_special_tokens=True))
    assert steps[0].text == "3+4=7"
    assert steps[-1].end == len(ids)


@pytest.mark.parametrize("text", ["", "\n", "\n\n"])
def test_a_completion_without_words(text):
    _, ids, steps = split("tiny", text)
    assert [(step.start, step.end) for step in steps] == [(0, len(ids))]
    assert StepSplitter(TOKENIZERS["tiny"]).split((), "") == ()


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_line_ends_of_the_vocabulary(name):
    tokenizer = TOKENIZERS[name]
    found = set(StepSplitter(tokenizer).line_end_ids())
    assert found == {token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])}
    assert found


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("3+4=7\n#### 7", "3+4=7\n#### 7"),
        ("3+4=7\n#### 7\nQuestion: and more\n#### 9", "3+4=7\n#### 7"),
        ("3+4=8\n#### 8 \n\n", "3+4=8\n#### 8"),
        ("é ✓ 3+4=8\n#### 8\nthen 3", "é ✓ 3+4=8\n#### 8"),
    ],
)
def test_the_end_of_the_answer(name, text, kept, ended):
    tokenizer, ids, _ = split(name, text, ended)
    end = StepSplitter(tokenizer).end_of_answer(ids, text)
    assert tokenizer.decode(ids[:end], skip_special_tokens=True).rstrip("\n") == kept


def test_a_token_that_holds_a_line_end_and_the_marker_leaves_the_end_of_the_answer_where_it_is():
    tokenizer = byte_level(("#", "#"), ("##", "##"), ("\u010a", "####"))  # as byte-level BPE spells a line end
    text = "1+7=8\n#### 8\nmore"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "\n####" in map(tokenizer.decode, ids)
    assert tokenizer.decode(ids[: StepSplitter(tokenizer).end_of_answer(ids, text)]) == "1+7=8\n#### 8"


@pytest.mark.parametrize(
    ("text", "closed"),
    [("1+2=3\n3-", False), ("1+2=3\n#### 1", False), ("1+2=3\n#### 3\n", True), ("#### 3\n\nmore", True), ("", False)],
)
def test_a_text_that_was_cut_is_not_closed_unless_its_answer_stood_there(text, closed):
    tokenizer, ids, _ = split("tiny", text, ended=False)
    context = SimpleNamespace(splitter=StepSplitter(tokenizer), ends=(tokenizer.eos_token_id,))
    for finish, ends in (("length", closed), ("stop", True)):
        drawn = Rollout(Problem("p", "q", "3"), 0, 0, (1,), tuple(ids), (), text, finish)
        assert (example(context, drawn).completion_ids[-1:] == (tokenizer.eos_token_id,)) is ends


def test_a_text_that_ended_with_another_of_the_end_tokens_is_not_closed_again():
    tokenizer, ids, _ = split("tiny", "1+2=", ended=False)
    context = SimpleNamespace(splitter=StepSplitter(tokenizer), ends=(tokenizer.eos_token_id, tokenizer.pad_token_id))
    for end in context.ends:
        drawn = Rollout(Problem("p", "q", "3"), 0, 0, (1,), (*ids, end), (), "1+2=", "stop")
        assert example(context, drawn).completion_ids == (*ids, end)


def test_without_an_answer_everything_stays():
    tokenizer, ids, _ = split("tiny", "the answer is 7")
    assert StepSplitter(tokenizer).end_of_answer(ids, "the answer is 7") == len(ids)
