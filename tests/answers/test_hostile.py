"""Whatever a model writes is read in time and memory that its length bounds, and is right only if it is."""

import tracemalloc

import pytest
from answers.hostile import ANSWERS, HEADINGS, REPEATED, STATED, WRAPPED, corpus
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rlreason.answers import worker
from rlreason.answers.arithmetic import equations, exact_value, operations
from rlreason.answers.equality import grade, verdicts, votes
from rlreason.answers.extraction import EXTRACTIONS, last_number
from rlreason.answers.numbers import MAX_ANSWER_CHARACTERS, answer_number
from rlreason.answers.solutions import solution_key
from rlreason.answers.spelling import plain_text, visible_text

EXPRESSION = r"x^{97}+\frac{8}{9}"

pieces = st.one_of(
    st.sampled_from(ANSWERS),
    st.sampled_from(HEADINGS),
    st.sampled_from(sorted(REPEATED.values())),
    st.text(max_size=12),
    st.sampled_from([str(number) for number in (0, 1, 5, 6, 12, 56, 1.5, -3)]),
    st.sampled_from(["\n", " ", "=", "+", "/", "%", " dozen", " hundred", "$", "x = ", " or ", ", ", ".", "\\boxed{"]),
)
texts = st.lists(st.one_of(pieces, st.builds(lambda how, what: how(what), st.sampled_from(STATED), pieces))).map(
    "".join
)


@pytest.fixture
def handed_on(monkeypatch):
    """What is handed on to math-verify, which is not asked."""
    asked: list[str] = []
    monkeypatch.setattr(worker, "are_equivalent", lambda answer, gold: asked.append(answer))
    monkeypatch.setattr(worker, "value_name", asked.append)
    return asked


def read(text):
    """Everything that the program does with the text of a solution."""
    operations(text)
    assert isinstance(solution_key(text), str)
    last_number(text)
    answers = []
    for extraction in EXTRACTIONS.values():
        line = extraction.line(text)
        assert line is None or 0 <= line <= text.count("\n")
        answer = extraction.answer(text)
        assert answer is None or answer == plain_text(answer)
        verdicts([text, text], ["97", EXPRESSION], extraction.answer)
        answers.append(answer)
    present = [answer for answer in answers if answer is not None]
    votes([*answers, *present, *(f"{answer}1" for answer in present)], [False] * (len(answers) + 2 * len(present)))
    assert not set(visible_text(text)) & set("\x00\x1b\x07\x9b\u202e\ud800")


@pytest.mark.parametrize("characters", [500, pytest.param(50_000, marks=pytest.mark.faults)])
def test_long_texts_are_read_and_nothing_long_is_handed_on(handed_on, characters):
    for text in corpus(characters).values():
        read(text)
    assert max(map(len, handed_on), default=0) <= MAX_ANSWER_CHARACTERS


@pytest.mark.faults
@pytest.mark.parametrize("name", [*REPEATED, *WRAPPED])
def test_a_text_of_a_million_characters_is_read(handed_on, name):
    """A step of quadratic time would take hours."""
    read(corpus(1_000_000)[name])
    assert max(map(len, handed_on), default=0) <= MAX_ANSWER_CHARACTERS


def test_answers_that_would_take_without_end_are_not_handed_on(caplog):
    hopeless = (
        "6^{6^{6^{6^6}}}",
        "6^(6^(6^6))",
        "5^{123456}",
        "10000000!+1",
        "((100!)!)!+1",
        "x^{20!}",
        "(" * 140 + "1",
    )
    assert all(map(worker.is_too_large, hopeless))
    assert [item.is_unread for item in verdicts([f"#### {text}" for text in hopeless], [EXPRESSION] * 7)] == [True] * 7
    names = votes([*hopeless, *hopeless], [False] * 14)
    assert names[:7] == names[7:] and len(set(names)) == 7
    usual = ("x^2+x^3+x^4+x^5", "2^{2005}", "2^{2^{10}}", "x^{2^n}", "10!", "n!^2", r"\sqrt{2^{3}}", "[0,1)", "e^{x^2}")
    assert not any(map(worker.is_too_large, usual))
    assert not caplog.records


def test_long_texts_are_not_kept(handed_on):
    def work(number):
        answer = f"{number}" + "x" * 200_000
        verdicts([f"#### {answer}"], ["97"])
        votes([answer, f"{answer} = 5", "5"], [False] * 3)
        exact_value(answer)
        equations(answer)

    work(0)
    tracemalloc.start()
    for number in range(1, 30):
        work(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 400_000


def fuzz(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def no_number_of_the_gold_is_right(text, gold):
    """Golds have the digits 7, 8 and 9 only; texts that have none of them state other numbers."""
    assume(not set("789") & set(plain_text(text)))
    read(text)
    for extraction in EXTRACTIONS.values():
        assert grade([text], [gold], extraction.answer) == [False]


golds = st.text("789", min_size=3, max_size=5)


@fuzz(150)
@given(texts, golds)
def test_no_text_is_right_that_does_not_have_the_number(text, gold):
    with pytest.MonkeyPatch.context() as patch:  # the subprocess has its turn below
        patch.setattr(worker, "are_equivalent", lambda answer, gold: False)
        patch.setattr(worker, "value_name", lambda answer: None)
        no_number_of_the_gold_is_right(text, gold)


@pytest.mark.faults
@fuzz(4_000)
@given(texts, golds)
def test_no_text_of_many_is_right_that_does_not_have_the_number(text, gold):
    no_number_of_the_gold_is_right(text, gold)


@pytest.mark.faults
@fuzz(500)
@given(st.sampled_from(STATED), pieces, st.sampled_from([EXPRESSION, "(7, 9)", r"\frac{97}{89}", "[7, 9)", "x = 97"]))
def test_no_expression_is_right_without_the_numbers_of_the_gold(how, answer, gold):
    assume(not set("789") & set(plain_text(answer)))
    assert grade([how(answer)], [gold]) == [False]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("gold", ["97", "5", "-5", EXPRESSION])
def test_an_answer_is_right_where_it_is_the_gold_answer_only(answer, gold, handed_on):
    is_five = answer in ("= 5", "\\boxed{\\boxed{5}")
    number = answer_number(answer)
    value = "5" if is_five else str(number.value) if number is not None and not number.is_percent else None
    assert grade([f"#### {answer}"], [gold]) == [value == gold]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("\u27965", -5),
        ("\u22125", -5),
        ("5\u066a", 5),
        ("5\u20625", None),
        ("5\u20645", None),
        ("5\u20635", None),
        ("1\u27955", None),
        ("36\u27976", None),
        ("5\u00b2", None),
        ("5\u20305", None),
    ],
)
def test_signs_that_are_seen_or_not_are_read_as_what_they_mean(answer, value):
    found = answer_number(answer)
    assert (None if found is None else found.value) == value


@given(st.text())
@settings(deadline=None)
def test_what_is_shown_steers_no_terminal(text):
    shown = visible_text(text)
    assert shown.encode("utf-8").decode("utf-8") == shown == visible_text(shown)
    assert all(character.isprintable() or not character.isascii() or character in "\n\t" for character in shown)
