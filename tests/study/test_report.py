"""The report says what the results say, escapes what models write, and works on a study that is not finished."""

import json
import re
import shlex
from html.parser import HTMLParser

import pandas as pd
import pytest
from study.made import EVIL, make_run, plain_config

from rlreason.answers.spelling import visible_text
from rlreason.study.arms import comparisons
from rlreason.study.commands import command, hydra_value
from rlreason.study.folders import read_study
from rlreason.study.measures import SAMPLES_TO_COMMON, SAMPLES_TO_FINAL
from rlreason.study.plan import Command, add_to_plan
from rlreason.study.published import PUBLISHED, published_beside
from rlreason.study.report import fence, markdown_text, write_report
from rlreason.study.tables import number

NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")


class Tables(HTMLParser):
    """The tables of a page: their caption and, for every row, its cells as text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self.tags: list[str] = []
        self._within: str | None = None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "table":
            self.tables.append(["", []])
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
            self._within = "cell"
        elif tag == "small" and self._within == "cell":
            self.tables[-1][1][-1][-1] += "\n"
        elif tag == "caption":
            self._within = "caption"

    def handle_endtag(self, tag):
        if tag in ("td", "th", "caption"):
            self._within = None

    def handle_data(self, data):
        if self._within == "cell":
            self.tables[-1][1][-1][-1] += data
        elif self._within == "caption":
            self.tables[-1][0] += data


def parsed(html):
    page = Tables()
    page.feed(html)
    return page


@pytest.fixture
def without_figures(monkeypatch):
    """For what is not about figures: drawing them takes most of the time of a report."""
    monkeypatch.setattr("rlreason.study.report.draw_all", lambda *_: [])


@pytest.fixture(scope="module")
def html(reported):
    return (reported / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(reported):
    return pd.read_csv(reported / "results.csv", keep_default_na=True)


def test_everything_is_written(reported, html):
    names = {path.name for path in reported.iterdir() if path.is_file()}
    assert {"report.html", "report.md", "results.csv"} <= names
    assert len(list((reported / "figures").glob("*.png"))) == len(list((reported / "figures").glob("*.svg"))) == 11
    assert html.count("data:image/svg+xml;base64,") == 11
    for figure in re.findall(r"!\[.*?\]\((.*?)\)", (reported / "report.md").read_text()):
        assert (reported / figure).exists()


def test_results_tables_show_results_csv(html, results):
    labels = {"EI": "ei", "PPO": "ppo", "GRPO": "grpo", "RCRL": "rcrl", "SFT": "sft"}
    inits = {"From the pretrained model": "scratch", "From the SFT model": "sft"}
    shown = 0
    for model, rows in parsed(html).tables:
        if model not in ("tiny", "small"):
            continue
        metrics, init = rows[0][1:], None
        for name, *cells in rows[1:]:
            if not cells:
                init = inits[name]
                continue
            chosen = results[(results["model"] == model) & (results["init"] == init)]
            if name == "at the start":
                chosen = chosen[chosen["stage"] == "init"]
            else:
                algo, *reward = name.partition(",")[0].split()
                chosen = chosen[(chosen["stage"] == "final") & (chosen["algo"] == labels[algo])]
                chosen = chosen[chosen["reward"] == (reward[0].lower() if reward else "sparse")]
            for metric, cell in zip(metrics, cells, strict=True):
                row = chosen[chosen["metric"] == metric].iloc[0]
                value, _, detail = cell.partition("\n")
                assert value.strip() == f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"
                assert ("best" in detail) == row["best"]
                if not pd.isna(row["p_value"]):
                    assert f"{row['below_best']:.3f}" in detail
                    assert f"{row['p_value']:.3f}" in detail or "p < 0.001" in detail
                shown += 1
    assert shown == 4 * (8 + 3)


def test_every_number_of_every_table_is_in_results_csv(html, results):
    known = {"0.05", "0.001", "95", "1", "4", "0", "000"}
    for column in ("value", "low", "high", "below_best", "p_value", "samples_drawn", "seconds", "tokens", "seeds"):
        for value in results[column].dropna():
            known |= {
                number(value),
                number(-value),
                f"{value:,.0f}",
                f"{value:.3g}",
                f"{value / 1e3:.3g}",
                f"{value / 1e6:.3g}",
            }
    captions = (
        "tiny",
        "small",
        "Cost per run",
        "Diversity",
        "What was gained",
        "The gain under",
        "pass@k",
        "Questions solved",
    )
    checked = 0
    for caption, rows in parsed(html).tables:
        if caption.startswith(captions):
            for row in rows[1:]:
                for cell in row[1:]:
                    for found in NUMBER.findall(cell.replace("\N{MINUS SIGN}", "")):
                        assert found in known, (caption, row, found)
                        checked += 1
    assert checked > 200


def test_markdown_and_page_show_the_same_tables(reported, html):
    text = (reported / "report.md").read_text(encoding="utf-8")
    rows = [re.sub(r"\\(.)", r"\1", line) for line in text.splitlines() if line.startswith("|")]
    for caption, page_rows in parsed(html).tables:
        if caption.startswith(("tiny", "small", "Cost per run", "Diversity", "What was", "pass@k", "Questions solved")):
            for name, *cells in page_rows[1:]:
                if cells:
                    values = [cell.partition("\n")[0].strip() for cell in cells]
                    assert any(all(item in row for item in (name, *values)) for row in rows), (name, values)


def test_what_models_write_is_shown_as_text(reported, html):
    assert "script" not in parsed(html).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7*7 }}" in html
    text = (reported / "report.md").read_text(encoding="utf-8")
    for written in (html, text):
        assert not set(written) & set("\x1b\u202e\0") and "\\x1b[2J\\u202e\\x00" in written
    inside = False
    for line in text.splitlines():  # in Markdown it stands between fences longer than its own back-quotes
        if re.fullmatch(r"````+(text)?", line):
            inside = not inside
        assert "<script>" not in line or inside
    assert not inside


def test_steps_stand_beside_their_rewards(html):
    steps = [rows for caption, rows in parsed(html).tables if rows and rows[0] and rows[0][0].startswith("1+1=2")]
    assert len(steps) == 2  # at the start and at the end
    for rows in steps:
        assert rows == [["1+1=2", "+0.25"], [visible_text(EVIL), ""], ["#### 2", "+1.00"]]


def test_nothing_is_fetched_from_elsewhere(html):
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert "url(" not in html and "@import" not in html
    assert "@media (prefers-color-scheme: dark)" in html


def test_what_is_missing_is_said(html):
    assert "1 run missing" in html
    assert "ppo-small-scratch-sparse-seed0" in html
    assert "1 run of the study is not finished yet." in html


def test_terms_are_explained(html):
    for term in ("maj@1", "maj@K", "rerank@K", "pass@K", "scratch, sft", "[low, high]"):
        assert f"<dt>{term}</dt>" in html


def test_versions_commit_and_hardware_are_named(html):
    for word in ("0123456789abcdef", "torch 2.13.0", "1 x Test GPU", "16.0 GiB"):
        assert word in html


def test_the_same_study_gives_the_same_report(tmp_path, compose, without_figures):
    make_run(tmp_path / "study", accuracies=(0.2, 0.5))
    texts = []
    for _ in range(2):
        write_report(read_study(tmp_path / "study"), compose)
        texts.append([(tmp_path / "study" / name).read_text() for name in ("report.html", "report.md", "results.csv")])
    assert texts[0] == texts[1]


def test_commands_make_the_same_configuration(comparison, compose):
    for arm in comparison.arms:
        words = shlex.split(command(arm, "made", compose))
        assert words[:3] == ["rlreason", "-m", "study=made"]
        assert words[-1] == "seed=0,1"
        again = compose(tuple(words[3:-1]))
        mine = arm.runs[0].result["config"]
        assert {**again, "name": None, "seed": 0} == {**mine, "name": None, "seed": 0}


@pytest.mark.parametrize(
    "value", ["a b", "it's", "x,y", "", "\\'", "a=b", "50%", "null", "true", "[1]", 3, 0.5, None, True, ["a b", 1]]
)
def test_values_survive_the_command_line(value, compose):
    field = "prompt.stop" if isinstance(value, list) else "name"
    again = compose((f"{field}={hydra_value(value)}",))
    assert (again["prompt"]["stop"] if field == "prompt.stop" else again["name"]) == value


def test_the_command_of_the_plan_comes_first(tmp_path, compose, without_figures):
    make_run(tmp_path / "study", accuracies=(0.2, 0.5))
    typed = "rlreason -m experiment=paper-tiny 'data.path=a b'"
    add_to_plan(tmp_path / "study", [], Command(typed, "2026-01-31T12:00:00+00:00"))
    write_report(read_study(tmp_path / "study"), compose)
    assert "rlreason -m experiment=paper-tiny &#39;data.path=a b&#39;" in (tmp_path / "study/report.html").read_text()


def test_several_tables_and_a_single_run_of_each(tmp_path, compose, without_figures):
    for name, settings in (("", ("eval.k=0", "eval.k_between=0")), ("gsm", ("data=gsm8k",))):
        keywords = {"name": name} if name else {"ood": False}
        run = make_run(tmp_path / "study", accuracies=(0.2, 0.5), settings=settings, **keywords)
        result = json.loads((run / "result.json").read_text())
        result["left_out"] = [{"what": "completions <cut>", "count": 3, "of": 100, "last": None}]
        (run / "result.json").write_text(json.dumps(result))
    report = write_report(read_study(tmp_path / "study"), compose)
    assert len(report.comparisons) == 2
    html = (tmp_path / "study/report.html").read_text()
    for title in ("GSM8K, test questions, prompt=plain, K = 4", "word problems, test questions, prompt=plain"):
        assert f">{title}</h2>" in html
    assert "2 separate tables" in html
    assert "in all runs together, completions &lt;cut&gt;: 6 of 200" in html
    assert len(set(re.findall(r'id="([^"]+)"', html))) == len(re.findall(r'id="([^"]+)"', html))


def test_figures_of_an_earlier_report_go(tmp_path, compose, without_figures):
    make_run(tmp_path / "study", accuracies=(0.2, 0.5))
    (tmp_path / "study/figures").mkdir()
    (tmp_path / "study/figures/old.png").write_bytes(b"")
    write_report(read_study(tmp_path / "study"), compose)
    assert not (tmp_path / "study/figures/old.png").exists()


def test_runs_that_judge_have_a_table_of_their_own(tmp_path, compose, without_figures):
    run = make_run(tmp_path / "study", accuracies=(0.2, 0.5), name="orm", settings=("algo=orm",))
    result = json.loads((run / "result.json").read_text())
    interval = {"value": 0.912, "low": 0.9, "high": 0.93, "problems": 24}
    result["judging"] = {"auc": interval, "accuracy": interval, "calibration_error": 0.034}
    (run / "result.json").write_text(json.dumps(result))
    report = write_report(read_study(tmp_path / "study"), compose)
    assert report.comparisons == ()
    (table,) = [
        rows for caption, rows in parsed((tmp_path / "study/report.html").read_text()).tables if "Outcome" in caption
    ]
    assert table[1] == ["orm", "0.912 [0.900, 0.930]", "0.912 [0.900, 0.930]", "0.034"]


def test_published_numbers_stand_beside_the_same_model_alone(tmp_path, comparison):
    assert published_beside(comparison) == []
    make_run(tmp_path, model="llama7b", accuracies=(0.2, 0.5), settings=("data=gsm8k",))
    (found,), _ = comparisons(read_study(tmp_path).runs)
    beside = published_beside(found)
    assert {(name, item.metric) for name, item in beside} == {("llama7b", "maj@1"), ("llama7b", "maj@100")}
    assert len(beside) == 4
    make_run(tmp_path / "svamp", model="llama7b", accuracies=(0.2, 0.5), settings=("data=svamp",))
    (other,), _ = comparisons(read_study(tmp_path / "svamp").runs)
    assert published_beside(other) == []
    assert len(PUBLISHED) == 11


def test_sample_complexity_is_in_the_table(results):
    for metric in (SAMPLES_TO_FINAL, SAMPLES_TO_COMMON):
        rows = results[results["metric"] == metric]
        assert len(rows) == 5  # not of RCRL and EI with one update
        assert ((rows["low"] < rows["high"]) & (rows["value"] == rows["high"])).all()


def test_text_in_markdown():
    assert markdown_text("a|b <i> *c* _d_\n[e]") == "a\\|b \\<i\\> \\*c\\* \\_d\\_ \\[e\\]"
    assert fence("no quotes") == "```"
    assert fence("```` four") == "`````"


def test_the_configuration_of_made_runs_is_the_real_one():
    assert plain_config("algo=ei")["algo"]["name"] == "ei"
