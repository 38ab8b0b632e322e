"""Example rollouts: which are chosen, and which step earned what."""

from study.made import make_run, rollout, tokens, write_stage

from rlreason.study.examples import Line, decoder, examples, split_rewards
from rlreason.study.folders import read_study

TEXT = "1+1=2\n2+2=4\n#### 4"
STEPS = [{"start": 0, "end": 6, "value": 0.25}, {"start": 12, "end": 18, "value": 1.0}]


def run(folder, **keywords):
    make_run(folder, **keywords)
    return read_study(folder).runs[0]


def test_rewards_stand_at_the_steps_whose_tokens_earned_them(tmp_path):
    decode = decoder(run(tmp_path, accuracies=(0.2, 0.5)))
    lines = split_rewards(TEXT, tokens(TEXT), STEPS, decode)
    assert lines == (Line("1+1=2", 0.25), Line("2+2=4", None), Line("#### 4", 1.0))
    assert split_rewards(TEXT, tokens(TEXT), [], decode) == tuple(Line(text, None) for text in TEXT.split("\n"))
    whole = [{"start": 0, "end": 18, "value": 0.5}]
    assert [line.reward for line in split_rewards(TEXT, tokens(TEXT), whole, decode)] == [None, None, 0.5]


def test_without_a_tokeniser_only_what_is_certain_is_said():
    three = [{"start": 0, "end": 1, "value": value} for value in (0.1, 0.2, 0.3)]
    assert [line.reward for line in split_rewards(TEXT, (), three, None)] == [0.1, 0.2, 0.3]
    assert [line.reward for line in split_rewards(TEXT, (), three[:1], None)] == [None, None, 0.1]
    assert [line.reward for line in split_rewards(TEXT, (), three[:2], None)] == [None, None, None]
    assert split_rewards("", (), [], None) == ()


def test_right_and_wrong_ones_of_the_same_questions(tmp_path):
    folder = make_run(tmp_path, accuracies=(0.2, 0.5, 0.6))
    for stage in ("round-1", "round-2"):
        pairs = [(number, sample, (number + sample) % 2 == 0) for number in range(5) for sample in range(4)]
        write_stage(folder, stage, [rollout(f"q{number}", sample, TEXT, right) for number, sample, right in pairs])
    first, last = examples(read_study(tmp_path).runs[0])
    assert [item.correct for item in first] == [item.correct for item in last] == [True, False] * 3
    assert [item.question for item in last[::2]] == [f"Question: q{number}?\nAnswer:" for number in range(3)]
    assert [item.question for item in first] == [item.question for item in last]
    assert (last[0].answer, last[0].reward) == ("4", 1.0)


def test_a_single_stage_was_sampled_from_the_start(tmp_path):
    first, last = examples(run(tmp_path, accuracies=(0.2, 0.5)))
    assert first and last == []
    assert examples(run(tmp_path / "sft", algo="sft", accuracies=(0.2, 0.5))) == ([], [])


def test_a_run_without_checkpoints_names_its_questions(tmp_path):
    one = run(tmp_path, accuracies=(0.2, 0.5))
    (one.folder / "checkpoints/round-1/tokenizer.json").unlink()
    assert examples(one)[0][0].question.startswith("question q")


def test_a_very_long_completion_is_cut(tmp_path):
    folder = make_run(tmp_path, accuracies=(0.2, 0.5))
    write_stage(folder, "round-1", [rollout("q1", 0, "no end " * 1000, False)])
    (item,) = examples(read_study(tmp_path).runs[0])[0]
    assert len(item.lines[0].text) < 1600
    assert item.lines[0].text.endswith(" ...")
