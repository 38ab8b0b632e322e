"""Texts as tokens: what stands behind a prompt, what a tokeniser loses, which tokens end a text, and padding."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import model_config
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlreason.engines.engine import without_stop_text
from rlreason.errors import UserError
from rlreason.models.loading import load_tokenizer
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.models.tokens import (
    check_embedded,
    check_spelling,
    continuation,
    encoded_prompts,
    end_ids,
    model_kind,
    turn_end,
)

REAL = Path(os.environ.get("RLREASON_TEST_TOKENIZERS", Path(__file__).parents[3] / "tokenizers"))
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|turn|>{% endfor %}"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
PROMPTS = ("Question: Who?\nAnswer:\n", "Answer:", "Answer: ", "x = 1", "<|user|>Q<|turn|><|assistant|>", "Q\n\n", "")
TEXTS = ("Then 5\n#### 5", "\nThen", " Then", "25 x", "\n\n25", "1")


def wrapped(fast: Tokenizer, *tokens: str, **names: Any) -> PreTrainedTokenizerFast:
    fast.add_special_tokens([AddedToken(token, special=True) for token in ("<|turn|>", "</s>", *tokens)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, **names)


def byte_level(*merges: str, **names: Any) -> PreTrainedTokenizerFast:
    """Bytes as tokens, and pairs that are written as one, such as those of two line ends or of space and letter."""
    pairs = [(first, second) for first, second in merges]
    vocabulary = {token: number for number, token in enumerate([*BYTES, *("".join(pair) for pair in pairs)])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    return wrapped(fast, **names)


def spaced(**names: Any) -> PreTrainedTokenizerFast:
    """A tokeniser that puts a space before every text that is encoded alone, and marks spaces, as Llama 2's does."""
    letters = sorted({*"".join(PROMPTS + TEXTS), *"abcdefghijklmnopqrstuvwxyz0123456789▁"} - {" "})
    vocabulary = {token: number for number, token in enumerate(["<s>", "<unk>", *letters, "▁T", "▁2"])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "T"), ("▁", "2")], unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    fast.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(fast, bos_token="<s>", eos_token="</s>", **names)


TOKENIZERS = {"bytes": byte_level(), "merges": byte_level("ĊĊ", "ĠT", ":Ċ", "12", "Ġ1"), "spaces": spaced()}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", PROMPTS)
def test_a_text_behind_a_prompt_is_written_as_in_the_joined_text(name, before, text):
    tokenizer = TOKENIZERS[name]
    prompt, joined = encoded_prompts(tokenizer, [before, before + text], special=False)
    behind = list(continuation(tokenizer, before, text))
    if before and joined[: len(prompt)] == prompt:
        assert behind == joined[len(prompt) :]
    if before:
        assert tokenizer.decode(prompt + behind) == tokenizer.decode(prompt) + text


@given(before=st.text("Q :\nT1 ", min_size=1, max_size=12), text=st.text("\n T12a", min_size=1, max_size=12))
def test_no_border_changes_what_is_written(before, text):
    tokenizer = TOKENIZERS["merges"]
    (prompt,) = encoded_prompts(tokenizer, [before], special=False)
    assert tokenizer.decode(prompt + list(continuation(tokenizer, before, text))) == before + text


def test_alone_such_a_tokenizer_would_put_a_space_before_the_solution():
    tokenizer = TOKENIZERS["spaces"]
    alone = tokenizer("25 x", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(alone)[0] == "▁2"
    assert tokenizer.convert_ids_to_tokens(continuation(tokenizer, PROMPTS[0], "25 x")) == ["2", "5", "▁", "x"]


def test_a_prompt_does_not_end_with_the_token_that_a_tokenizer_ends_texts_with():
    tokenizer = byte_level(eos_token="</s>")
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|turn|> $A </s>", special_tokens=[("<|turn|>", end - 1), ("</s>", end)]
    )
    assert tokenizer("ab")["input_ids"][-1] == end
    bare = tokenizer("ab", add_special_tokens=False)["input_ids"]
    assert encoded_prompts(tokenizer, ["ab", ""], special=True) == [[end - 1, *bare], [end - 1]]
    assert encoded_prompts(tokenizer, ["ab"], special=False) == [bare]
    assert encoded_prompts(tokenizer, [], special=True) == []


def lossy(normalizer: Any) -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


@pytest.mark.parametrize(
    ("normalizer", "words"),
    [
        (normalizers.Replace(" ", ""), "turns 'Mia has 17 coins , and Ben has' into 'Miahas17coins,andBenhas2.5time'"),
        (normalizers.Lowercase(), "turns 'Mia has"),
        (normalizers.Replace("½", "1/2"), "turns 'a half is ½.' into 'a half is 1/2.'"),
        (normalizers.Replace("  ", " "), "turns ' has 2.5 times  as many"),
    ],
)
def test_a_tokenizer_that_does_not_give_texts_back_is_refused(normalizer, words):
    with pytest.raises(UserError, match=r"^model.path=M: the tokeniser ") as caught:
        check_spelling(lossy(normalizer), ["a half is ½."], "M")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_composed_form_of_a_character_is_the_same_character():
    check_spelling(lossy(normalizers.NFC()), ["e\u0301 = é"], "M")
    check_spelling(load_tokenizer(EMBEDDED_FOLDER / "tiny"), ["½ 😀"], "M")


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny model, whose settings a test can change."""
    return shutil.copytree(EMBEDDED_FOLDER / "tiny", tmp_path / "copy")


def change(file: Path, **values: Any) -> None:
    """Set values of a JSON file; None: take the value out."""
    there = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in there.items() if value is not None}))


def ends_of(folder: Path, generation: Any, config: Any, tokenizer: str | None, **names: Any) -> list[int]:
    change(folder / "generation_config.json", eos_token_id=generation)
    change(folder / "config.json", eos_token_id=config)
    change(folder / "tokenizer_config.json", eos_token=tokenizer, **names)
    return list(end_ids(folder, load_tokenizer(folder)))


def test_every_named_end_token_ends_a_text(folder):
    own = json.loads((folder / "config.json").read_text())["eos_token_id"]
    name = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
    assert ends_of(folder, own, own, name) == [own]
    assert ends_of(folder, [7, own], 9, name) == [own, 7]
    assert ends_of(folder, None, 9, name) == [own, 9]
    assert ends_of(folder, 10**6, None, name) == [own]
    assert ends_of(folder, 7, None, None) == [7]
    assert ends_of(folder, None, [8], None) == [8]


def test_a_model_without_an_end_token_is_refused(folder):
    with pytest.raises(UserError, match=r"has no end-of-text token, .*put eos_token_id into generation_config.json$"):
        ends_of(folder, None, None, None)
    (folder / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"has no end-of-text token"):
        load_tokenizer(folder)


def test_the_chat_template_closes_an_answer(folder):
    tokenizer = byte_level(eos_token="</s>")
    turn = tokenizer.convert_tokens_to_ids("<|turn|>")
    assert turn_end(tokenizer) is None
    for template, found in (
        (TURNS, turn),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% for m in messages %}[{{ m.content }} ]</s>{% endfor %}", tokenizer.eos_token_id),
        ("{{ raise_exception('no') }}", None),
    ):
        tokenizer.chat_template = template
        assert turn_end(tokenizer) == found
    tokenizer.chat_template = TURNS
    change(folder / "generation_config.json", eos_token_id=3)
    assert end_ids(folder, tokenizer) == (tokenizer.eos_token_id, 3, turn)
    assert end_ids(folder, tokenizer, chat=True) == (turn, tokenizer.eos_token_id, 3)


@pytest.mark.parametrize("padding", [None, "[PAD]"])
def test_padding_that_is_absent_or_has_no_embedding_is_an_end_token(folder, padding):
    change(folder / "tokenizer_config.json", pad_token=padding)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_prompts_with_a_token_that_has_no_embedding_are_refused(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<new>"])
    check_embedded(folder, range(len(tokenizer) - 1), tokenizer, "M")
    check_embedded(folder, (), tokenizer, "M")
    with pytest.raises(UserError, match=r"prompts have the token '<new>' \(\d+\), and the model has only"):
        check_embedded(folder, range(len(tokenizer)), tokenizer, "M")


def test_the_kind_of_a_model_is_told_by_its_chat_template_unless_it_is_given():
    tokenizer = byte_level()
    assert model_kind(model_config(path="x"), tokenizer) == "base"
    tokenizer.chat_template = TURNS
    assert model_kind(model_config(path="x"), tokenizer) == "instruct"
    assert model_kind(model_config(path="x", kind="base"), tokenizer) == "base"


def cut_as_by_an_engine(tokenizer, behind):
    """Tokens of a completion that ends with a stop text, and its text up to that, behind a prompt."""
    ids = (*tokenizer("Then 5", add_special_tokens=False)["input_ids"], *continuation(tokenizer, "5", "\nQuestion:"))
    (prompt,) = encoded_prompts(tokenizer, [behind], special=False)
    text = tokenizer.decode(prompt + list(ids)).removeprefix(tokenizer.decode(prompt))
    return ids, text.partition("\nQuestion:")[0]


@pytest.mark.parametrize("name", [*TOKENIZERS, "llama2", "qwen3"])
@pytest.mark.parametrize("before", ["Answer:", "Q\n\n"])
def test_a_stop_text_leaves_the_tokens_of_the_solution_alone(name, before):
    if name not in TOKENIZERS and not REAL.is_dir():
        pytest.skip("real tokenisers: RLREASON_TEST_TOKENIZERS=FOLDER")
    tokenizer = TOKENIZERS[name] if name in TOKENIZERS else load_tokenizer(REAL / name)
    ids, text = cut_as_by_an_engine(tokenizer, before)
    assert text.strip() == "Then 5"
    assert text.startswith(" ") == (name in ("spaces", "llama2"))  # their first token holds a space
    left = without_stop_text(ids, text, tokenizer)
    assert 0 < len(left) < len(ids)
    assert tokenizer.decode(list(left)) == "Then 5"
    assert tokenizer.decode(list(left[:-1])) != "Then 5"


@pytest.mark.skipif(not REAL.is_dir(), reason="real tokenisers: RLREASON_TEST_TOKENIZERS=FOLDER")
@pytest.mark.parametrize(
    ("name", "end"),
    [("llama2", "</s>"), ("llama3_1", "<|eot_id|>"), ("gemma3", "<end_of_turn>"), ("qwen3", "<|im_end|>")],
)
def test_real_tokenizers(name, end):
    tokenizer = load_tokenizer(REAL / name)
    check_spelling(tokenizer, TEXTS, name)
    assert tokenizer.convert_ids_to_tokens(end_ids(REAL / name, tokenizer, chat=True)) == [end]
    for before in PROMPTS[:-1]:
        for text in TEXTS:
            (prompt,) = encoded_prompts(tokenizer, [before], special=False)
            behind = list(continuation(tokenizer, before, text))
            assert tokenizer.decode(prompt + behind) == tokenizer.decode(prompt) + text


@pytest.mark.skipif(not REAL.is_dir(), reason="real tokenisers: RLREASON_TEST_TOKENIZERS=FOLDER")
def test_the_real_tokenizer_that_loses_its_spaces_is_refused():
    with pytest.raises(UserError, match="turns 'Mia has 17 coins , and Ben has' into 'Miahas17coins"):
        check_spelling(load_tokenizer(REAL / "deepseek_v3"), (), "D")
