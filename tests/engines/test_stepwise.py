"""Generation with tags before each step, against a scripted engine that records what it was asked."""

from fake_engine import question

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.stepwise import sample_stepwise
from rlreason.types import Rollout

NEWLINE, TAG, END = 10, 99, 0


def decode(ids):
    return "".join(chr(token) for token in ids if token != END)


class Script:
    """Writes a given text, one request at a time, by counting what of it stands in the prompt already."""

    def __init__(self, texts):
        self.texts = texts
        self.requests = []

    def sample(self, requests, settings):
        for request in requests:
            self.requests.append(request)
            written = [token for token in request.prompt_ids[1:] if token != TAG]
            rest = [*map(ord, self.texts[request.problem.id]), END][len(written) :]
            out, reason = [], "length"
            for token in rest[: request.max_tokens]:
                out.append(token)
                if token in settings.stop_token_ids or token == END:
                    reason = "stop"
                    break
            ids = tuple(out)
            yield [
                Rollout(
                    request.problem,
                    request.sample,
                    request.seed,
                    request.prompt_ids,
                    ids,
                    (-0.5,) * len(ids),
                    decode(ids),
                    reason,
                )
            ]


def sampled(texts, max_tokens=50, stop=(), inserted=(TAG,), line_ends=(NEWLINE,)):
    engine = Script(texts)
    requests = [SampleRequest(question(name), 0, 7, (1,)) for name in texts]
    settings = SamplingSettings(1.0, max_tokens, stop)
    ended = lambda text: text.rstrip("\n").rpartition("\n")[2].startswith("####")  # noqa: E731
    stream = sample_stepwise(engine, requests, settings, inserted, line_ends, decode, ended)
    return {item.problem.id: item for batch in stream for item in batch}, engine


def test_the_tag_is_inserted_before_every_step_and_is_in_no_rollout():
    found, engine = sampled({"a": "1+2=3\n#### 3", "b": "#### 4\nno more"})
    assert found["a"].text == "1+2=3\n#### 3"
    assert TAG not in found["a"].completion_ids
    assert len(found["a"].sampler_logprobs) == len(found["a"].completion_ids)
    assert found["a"].prompt_ids == (1,)
    prompts = [request.prompt_ids for request in engine.requests if request.problem.id == "a"]
    assert prompts == [(1, TAG), (1, TAG, *map(ord, "1+2=3\n"), TAG)]
    assert found["b"].text.startswith("#### 4"), "nothing is asked for after the final answer"
    assert len([request for request in engine.requests if request.problem.id == "b"]) == 1
    assert {item.finish_reason for item in found.values()} == {"stop"}


def test_steps_have_random_numbers_of_their_own():
    _, engine = sampled({"a": "1\n2\n3\n#### 3"})
    assert len({request.seed for request in engine.requests}) == 4


def test_the_limit_counts_written_tokens():
    found, _ = sampled({"a": "12\n34\n56\n78\n#### 3"}, max_tokens=8)
    assert len(found["a"].completion_ids) <= 8
    assert found["a"].finish_reason == "length"


def test_one_tag_for_the_solution():
    found, engine = sampled({"a": "1+2=3\n#### 3"}, line_ends=())
    assert found["a"].text == "1+2=3\n#### 3"
    assert len(engine.requests) == 1
