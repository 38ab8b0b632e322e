"""A finished run scored again from its texts: equal by its own rule, and what another rule changes is named."""

import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hydra import compose, initialize_config_dir
from rich.console import Console
from tests_support import CONF, LABORATORY, UPDATE

from rlreason.answers.equality import grade
from rlreason.answers.extraction import EXTRACTIONS
from rlreason.config.compose import from_plain, plain_values
from rlreason.data.splits import read_data
from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.lab.contents import contents
from rlreason.run.left_out import COPIES, CUT, TOO_LOW, UNREAD
from rlreason.tasks.rescore import plain, rescore
from rlreason.training.common import UpdateReport
from rlreason.types import Rollout

FORMS = (
    "#### {}",
    "#### {}.0",
    r"so \boxed{{{}}}",
    "The answer is {}.",
    "and that makes {}",
    "#### {} or maybe [bold]9[/]",
    "#### \x1b[31m{}",
)
TRAINING = [*LABORATORY, *UPDATE, "algo.rounds=2", "algo.threshold=0", "engine.probe_limit=99", "eval.ood=true"]


class Writer:
    """An engine whose texts follow from question, seed and policy, in many forms, about half of them right."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def load(self, checkpoint):
        self.policy = checkpoint.name

    def score(self, token_ids):
        return (0.0,) * (len(token_ids) - 1)

    def release(self):
        pass

    def close(self):
        pass

    def sample(self, requests, settings):
        for item in requests:
            key = f"{item.problem.id} {item.seed} {item.sample} {self.policy}".encode()
            number = int.from_bytes(hashlib.sha256(key).digest()[:4], "big")
            answer = int(item.problem.answer) + (number // 7 % 3 if number % 2 else 0)
            text = f"{number % 9} + 1 = {number % 9 + 1}\n{FORMS[number % len(FORMS)].format(answer)}"
            ids = tuple(self.tokenizer("1 + 1")["input_ids"])
            ending = "length" if number % 5 == 0 else "stop"
            yield [Rollout(item.problem, item.sample, item.seed, item.prompt_ids, ids, (0.0,) * len(ids), text, ending)]


class Judge:
    """Scores that follow from the text."""

    def step_scores(self, rollouts, progress):
        return [tuple((len(item.text) * (place + 3)) % 7 / 7 for place in range(2)) for item in rollouts]


def copied(start, examples, settings, model, output, *further, **keywords):
    shutil.copytree(start, output)
    return UpdateReport(1, 0.5, 10)


@contextmanager
def without_models():
    from rlreason.models.loading import load_tokenizer
    from rlreason.models.resolve import EMBEDDED_FOLDER

    tokenizer = load_tokenizer(EMBEDDED_FOLDER / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlreason.lab.engine.start_engine", lambda *_: Writer(tokenizer))
        patch.setattr("rlreason.lab.updating.supervised_update", copied)
        patch.setattr("rlreason.lab.setup.with_outcome_models", lambda context: replace(context, reranker=Judge()))
        yield


def made(folder, *overrides):
    from rlreason.tasks.making import do

    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = plain_values(compose("config", overrides=[*overrides, f"runs_dir={folder}"]))
    config = from_plain(values)
    values["contents"] = contents(config)
    with without_models():
        do(config, values, folder / "run", Display(Console(quiet=True)))
    return folder / "run"


SECOND = (
    'eval.second_prompt={name: mine, template: "Question: {{ question }}\\n", examples: 0, drawn: once, chat: false, '
    'system: null, separator: "\\n\\n", answer: marker, extraction: last_number, stop: []}'
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = made(tmp_path_factory.mktemp("trained"), *TRAINING, SECOND)
    shutil.rmtree(run / "checkpoints")  # no weights are needed
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def scored(run, *settings, path=None):
    """What `task=rescore` gives, its report, and what it shows."""
    console = Console(file=StringIO(), width=200)
    overrides = ["task=rescore", f"task.run={path or run}", *settings]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = from_plain(plain_values(compose("config", overrides=overrides)))
    found = rescore(config, overrides, console)
    shown = console.file.getvalue()
    (folder,) = [path for path in run.parent.glob("run-rescored-*") if str(path) in shown]
    return found, json.loads((folder / "rescore.json").read_text()), shown, folder


def questions(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    data = read_data(from_plain({key: value for key, value in config.items() if key != "contents"}).data)
    return {item.id: item for split in data.splits.values() for item in split}


def digests(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def changed(run, stage, change):
    """Change the table of a stage's rollouts."""
    path = run / "rollouts" / f"{stage}.parquet"
    columns = pq.read_table(path).to_pydict()
    change(columns)
    schema = pa.schema([field for field in pq.read_schema(path) if field.name in columns])
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), path)


def test_by_its_own_rule_a_run_is_equal_to_the_last_bit_and_stays_as_it_is(run):
    before = digests(run)
    found, report, shown, folder = scored(run)
    result = json.loads((run / "result.json").read_text())
    assert (report["unlike"], found.flips) == ([], [])
    assert "every metric equal to the run's to the last bit" in shown
    assert [item["metrics"] for item in report["evaluations"]] == [item["metrics"] for item in result["evaluations"]]
    for key in ("differences", "gain", "out_of_distribution", "second_prompt"):
        assert report[key] == result[key]
    names = {"maj@1", "maj@1 lenient", "maj@3", "pass@3", "rerank@3", "weighted@3"}
    assert names <= report["evaluations"][-1]["metrics"].keys()
    assert {path.name for path in (folder / "evaluations").iterdir()} == {
        path.name for path in (run / "evaluations").iterdir()
    }
    for path in (run / "evaluations").iterdir():
        assert pd.read_parquet(path).equals(pd.read_parquet(folder / "evaluations" / path.name))
    assert {"round-1", "validation-init", "second-prompt-init-greedy"} <= {item["stage"] for item in report["flips"]}
    assert digests(run) == before


def test_a_run_can_be_named_from_inside_its_folder(run, monkeypatch):
    monkeypatch.chdir(run)
    scored(run, path=".")
    monkeypatch.chdir(run / "rollouts")
    scored(run, path="..")
    assert len(list(run.parent.glob("run-rescored-*"))) == 1


def test_a_verdict_that_was_stored_otherwise_is_found(run):
    def turn(columns):
        columns["correct"][0] = not columns["correct"][0]

    changed(run, "round-1", turn)
    found, report, shown, _ = scored(run)
    (flip,) = found.flips
    assert (flip.stage, flip.why) == ("round-1", "graded otherwise by this version")
    assert report["unlike"] == []  # of a training rollout, nothing is reported
    assert "1 verdicts" in shown and "what the run reports is equal" in shown


@pytest.mark.parametrize("extraction", ["boxed", "last_number", "first_marker"])
def test_another_extraction_is_what_grading_by_it_gives(run, extraction):
    _, report, shown, folder = scored(run, f"task.extraction={extraction}")
    known = questions(run)
    table = pd.read_parquet(run / "rollouts" / "test-init-greedy.parquet")
    golds = [known[name].answer for name in table["problem_id"]]
    right = grade(list(table["text"]), golds, EXTRACTIONS[extraction].answer)
    assert report["evaluations"][0]["metrics"]["maj@1"]["value"] == pytest.approx(sum(right) / len(right))
    flips = pd.read_parquet(folder / "flips.parquet")
    here = flips[(flips["stage"] == "test-init-greedy") & (flips["right_then"] != flips["right_now"])]
    assert len(here) == sum(now != then for now, then in zip(right, table["correct"], strict=True))
    assert set(flips["why"]) <= {
        f"{kind}{more}"
        for kind in ("another answer", "no answer is found", "an answer is found")
        for more in ("", ", it can be valued", ", it cannot be valued")
    }
    if extraction == "boxed":
        assert report["unlike"] and "right to wrong" in shown
        # Whatever the run's second prompt was read by, this rule is for all texts.
        assert any(flips["stage"] == "second-prompt-init-greedy")


@pytest.mark.parametrize("form", ["ids.jsonl", "questions.jsonl", "ids.csv"])
def test_other_gold_answers_change_the_verdicts_on_their_questions_alone(run, tmp_path, form):
    known = questions(run)
    asked = set(pd.read_parquet(run / "rollouts" / "test-init-greedy.parquet")["problem_id"])
    asked |= set(pd.read_parquet(run / "rollouts" / "ood-init-greedy.parquet")["problem_id"])
    moved = sorted(asked)[::3]
    answers = {name: str(int(known[name].answer) + (name in moved)) for name in sorted(asked)}
    rows = pd.DataFrame({"problem_id": list(answers), "answer": list(answers.values())})
    if form.startswith("questions"):
        rows["problem_id"] = [f"  {known[name].question.upper()}" for name in answers]
        rows = rows.rename(columns={"problem_id": "problem"})
    path = tmp_path / form
    rows.to_csv(path, index=False) if form.endswith("csv") else rows.to_json(path, orient="records", lines=True)
    found, _, shown, _ = scored(run, f"task.gold={path}")
    assert found.flips and {item.problem_id for item in found.flips} <= set(moved)
    assert {item.why for item in found.flips} == {"another gold answer"}
    assert all(int(item.gold_now) == int(item.gold_then) + 1 for item in found.flips)
    assert "questions that are not reported and keep the answer of wordproblems: 32" in shown


def gold_rows(run):
    ids = {
        name
        for split in ("test", "ood")
        for name in pd.read_parquet(run / "rollouts" / f"{split}-init-greedy.parquet")["problem_id"]
    }
    known = questions(run)
    return [{"id": name, "question": known[name].question, "answer": known[name].answer} for name in sorted(ids)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "has no answer to 1 of the 20 questions"),
        (lambda rows: [{"id": f"x{row['id']}", "answer": "1"} for row in rows], "and 20 rows of other questions"),
        (lambda rows: [*rows, {**rows[0], "answer": "12345"}], "is '12345' here and"),
        (lambda rows: [{**rows[0], "question": "Another?"}, *rows[1:]], "its question is another than that of the run"),
        (lambda rows: [{"id": row["id"], "colour": "red"} for row in rows], "no column has a name that is known"),
        (lambda rows: [{**row, "answer": ""} for row in rows], "'answer'"),
        (lambda rows: None, "no such file"),
    ],
)
def test_a_gold_file_of_something_else_is_one_line(run, tmp_path, change, message):
    rows, path = change(gold_rows(run)), tmp_path / "gold.jsonl"
    if rows is not None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(run, message, f"task.gold={path}")


def test_rows_of_other_questions_beside_those_of_the_run_are_told(run, tmp_path):
    path = tmp_path / "gold.json"
    path.write_text(json.dumps([*gold_rows(run), {"id": "other", "question": "1 + 1?", "answer": 2}]))
    found, _, shown, _ = scored(run, f"task.gold={path}")
    assert found.flips == []
    assert "that are no question of the run: 1" in shown


def test_another_vote_changes_votes_alone(run):
    found, report, _, _ = scored(run, "task.vote=text")
    stored = json.loads((run / "result.json").read_text())
    names = {
        metric
        for then, now in zip(stored["evaluations"], report["evaluations"], strict=True)
        for metric in now["metrics"]
        if then["metrics"][metric] != now["metrics"][metric]
    }
    assert found.flips == []
    assert names and names <= {"maj@3", "weighted@3", "distinct_answers"}


def test_another_rank_changes_choices_by_score_alone(run):
    _, report, _, _ = scored(run, "task.rerank=minimum")
    stored = json.loads((run / "result.json").read_text())["evaluations"][-1]["metrics"]
    now = report["evaluations"][-1]["metrics"]
    assert {metric for metric in now if stored[metric] != now[metric]} <= {"rerank@3", "weighted@3"}
    assert "metrics of final" in report["unlike"] or "metrics of init" in report["unlike"]


def test_a_smaller_k_votes_among_the_first_samples(run):
    _, report, _, _ = scored(run, "task.k=2")
    assert {"maj@2", "rerank@2", "pass@2"} <= report["evaluations"][0]["metrics"].keys()
    assert "maj@3" not in report["evaluations"][0]["metrics"]
    refused(run, "task.k=4 is more than the 3 samples a question", "task.k=4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "result.json").unlink(), "has not finished; give its own command again first"),
        (lambda run: shutil.rmtree(run), "there is no run in"),
        (lambda run: (run / "rollouts/test-init-greedy.parquet").unlink(), "has no text of test-init-greedy"),
        (lambda run: shutil.rmtree(run / "rollouts"), "has no text of test-init-greedy"),
        (lambda run: (run / "rollouts/test-final-sampled.parquet").write_bytes(b""), "cannot be scored"),
        (lambda run: (run / "rollouts/round-1.parquet").unlink(), "cannot be scored"),
        (lambda run: changed(run, "round-2", lambda columns: columns.pop("text")), "cannot be scored"),
        (lambda run: changed(run, "round-2", blank("")), "round-2 has no text"),
        (lambda run: changed(run, "round-2", blank(None)), "round-2 has no text"),
        (lambda run: (run / "rollouts/scores-test-final-sampled.parquet").unlink(), "cannot be scored"),
        (lambda run: with_config(run, lambda config: config["algo"].update(colour=3)), "made by another version"),
        (lambda run: with_config(run, lambda config: config.pop("prompt")), "made by another version"),
        (lambda run: with_config(run, lambda config: config["data"].update(seed=7)), "are not there any more"),
    ],
)
def test_what_cannot_be_scored_is_one_line(run, change, message):
    change(run)
    refused(run, message)


def blank(text):
    return lambda columns: columns.update(text=[text] * len(columns["text"]))


def with_config(run, change):
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def refused(run, message, *settings):
    with pytest.raises(UserError) as refusal:
        scored(run, *settings)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(run.parent.glob("run-rescored-*/rescore.json")) or settings == ("task.k=4",)


@pytest.mark.parametrize("setting", ["prompt=boxed", "eval.k=2", "data=gsm8k", "seed=1"])
def test_settings_of_a_run_are_not_silently_without_effect(run, setting):
    refused(run, "from the run; leave it out", setting)


def test_an_evaluation_of_own_data_is_scored_by_answers_that_were_corrected_in_place(tmp_path):
    data = tmp_path / "own" / "test.jsonl"
    data.parent.mkdir()
    rows = [{"question": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["task=evaluate", "data=files", f"data.path={data}", "data.shares=[0,0,1]", "eval.k=3", "tracker=none"]
    run = made(tmp_path, *settings, "eval.resamples=200", "engine.probe_limit=99", "data.test_size=null")
    _, report, _, _ = scored(run)
    assert report["unlike"] == []
    data.write_text("".join(json.dumps({**row, "answer": "-1"}) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"has changed since .*task.gold="):
        scored(run)
    found, report, shown, _ = scored(run, f"task.gold={data}")
    assert report["evaluations"][-1]["metrics"]["maj@1"]["value"] == 0.0
    assert {item.gold_then for item in found.flips} == {None}
    assert "unknown" in shown


def test_what_a_run_says_of_what_it_left_out_is_what_its_files_hold(run):
    told = {row["what"]: row for row in json.loads((run / "result.json").read_text())["left_out"]}
    names = [item.name for item in (run / "rollouts").iterdir() if not item.name.startswith("scores-")]
    records = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    again = {record["stage"] for record in records if "same_as" in record}
    tables = [pd.read_parquet(run / "rollouts" / name) for name in names if name.removesuffix(".parquet") not in again]
    drawn = pd.concat(tables)
    for what, count in ((CUT, (drawn["finish_reason"] == "length").sum()), (UNREAD, drawn["unread"].sum())):
        assert count > 0
        assert (told[what]["count"], told[what]["of"]) == (count, len(drawn))
    rounds = drawn[drawn["stage"].str.startswith("round-")]
    assert told[COPIES]["of"] == len(rounds) == 2 * 72
    assert told[COPIES]["count"] > 0
    assert TOO_LOW not in told  # with a threshold of 0 everything passes


def test_what_a_model_wrote_is_shown_as_text(run):
    _, _, shown, _ = scored(run, "task.extraction=boxed", "task.examples=100")
    assert "\x1b" not in shown
    assert (
        plain("1\x1b[31m\u202e2\n3" + "x" * 100)
        == f"1\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}2 3{'x' * 27}..."
    )
