"""Own questions in a run: read once, what was guessed is said, the same command again reads nothing."""

import json

import pandas as pd

OWN = ["task=evaluate", "tracker=none", "engine=transformers", "eval.k=0", "eval.resamples=100", "name=own"]


def test_questions_of_a_csv_are_measured_and_what_was_guessed_is_said_once(rlreason, tmp_path):
    rows = [{"Problem": f"Tom has {n} books. He buys 2. How many?", "result": n + 2.0} for n in range(3, 33)]
    pd.DataFrame([*rows, rows[0]]).to_csv(tmp_path / "mine = (1).csv", index=False)
    path = f"data.path='{tmp_path}/mine = (1).csv'"
    rlreason(tmp_path, *OWN, "data=files", path, "data.shares=[0.5,0.25,0.25]").check()
    run = tmp_path / "runs/own"
    events = (run / "events.log").read_text()
    assert events.count("guessed from the names of the columns: data.question=Problem, data.answer=result\n") == 1
    assert events.count("train: rows left out, for their questions stand there already: 1\n") == 1
    assert events.count("validation and test questions are shares of those for training") == 1
    evaluated = pd.read_parquet(run / "evaluations").problem_id
    assert 1 < len(evaluated) < 16
    assert json.loads((run / "result.json").read_text())["evaluations"][0]["metrics"]["maj@1"]["problems"] == len(
        evaluated
    )


def test_data_that_cannot_be_used_leave_nothing_behind(rlreason, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"question": "One?", "answer": 1}\n{"question": "Two?", "answer": ["2"]}\n')
    for settings, words in [
        (["data=files", f"data.path={tmp_path}/bad.jsonl"], f"{tmp_path}/bad.jsonl:2: the column 'answer' is neither"),
        (["data.max_prompt_tokens=5"], "data.max_prompt_tokens=5: the prompts of all 400 test questions are longer"),
    ]:
        done = rlreason(tmp_path, *OWN, *settings)
        assert done.code == 2, done.output
        (line,) = done.output.strip().splitlines()
        assert words in line
        assert not (tmp_path / "runs/own/rollouts").exists()
