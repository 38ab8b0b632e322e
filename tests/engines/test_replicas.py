"""Replicas: each sample arrives once whatever dies, mistakes reach the user, and no process is left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest
from fake_engine import BatchEngine, FakeEngine, drawn, question
from tests_support import composed

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.places import Place
from rlreason.engines.replica_process import ReplicaProcess, stop
from rlreason.engines.replica_worker import Call, Done, Drawn, Finished, More, Sample
from rlreason.engines.replicas import Replicas
from rlreason.engines.start import start_engine
from rlreason.errors import UserError

SETTINGS = SamplingSettings(1.0, 8)
REQUESTS = [SampleRequest(question(str(number // 4)), number % 4, number, (1, 2)) for number in range(120)]
FIRST, SECOND = Path("first"), Path("second")


@pytest.fixture
def started(tmp_path):
    """Makes engines of fake ones, and ends them."""
    made = []

    def start(count=2, kind=FakeEngine, max_sequences=8, **settings):
        lines = []
        builds = [partial(kind, str(number), tmp_path, **settings) for number in range(count)]
        places = [Place((), None, 0.5)] * count
        made.append(Replicas(builds, places, max_sequences, lines.append))
        made[-1].lines = lines
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def log(folder, name):
    return (folder / f"{name}.txt").read_text().splitlines()


def asked(folder, name):
    return [line for line in log(folder, name) if line.startswith("ask")]


def sampled(engine, requests=REQUESTS):
    return [rollout for rollouts in engine.sample(requests, SETTINGS) for rollout in rollouts]


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def in_order(rollouts):
    return sorted(rollouts, key=lambda rollout: (int(rollout.problem.id), rollout.sample))


def expected(checkpoint=FIRST, requests=REQUESTS):
    return [drawn(request, str(checkpoint)) for request in requests]


def test_all_replicas_work_and_every_sample_arrives_once(started, tmp_path):
    engine = started(3)
    engine.load(FIRST)
    assert in_order(sampled(engine)) == expected()
    assert sum(len(asked(tmp_path, name)) for name in "012") == len(REQUESTS)
    # Room for 8 and a quarter more is three questions of four: all are given so much before anything comes back.
    assert all(len(asked(tmp_path, name)) >= 12 for name in "012")
    assert sampled(engine, []) == []
    engine.release()
    engine.load(SECOND)
    assert in_order(sampled(engine)) == expected(SECOND)
    assert log(tmp_path, "1").count("release") == log(tmp_path, "1").count("load second") == 1
    assert engine.lines == []


@pytest.mark.parametrize("count", [1, 2])
def test_an_engine_that_cannot_give_its_memory_back_is_ended_and_the_next_load_starts_another(started, count):
    """As vLLM cannot where another program takes memory of its GPU at that moment."""
    engine = started(count)
    engine.load(Path("sleepless-in-0"))
    lost = engine.processes[0]
    engine.release()
    assert "failed (AssertionError: Memory usage increased after sleeping.)" in engine.lines[0]
    assert not psutil.pid_exists(lost) and len(engine.processes) == count - 1
    engine.load(SECOND)
    assert in_order(sampled(engine)) == expected(SECOND)


def test_requests_that_look_alike_are_drawn_each(started):
    engine = started()
    engine.load(FIRST)
    twice = [SampleRequest(question("0"), 0, 5, (1,))] * 6
    assert sampled(engine, twice) == [drawn(twice[0], "first")] * 6


PATIENCE = "rlreason.engines.replicas.PATIENCE"  # short only once the processes have started, which takes a while


def test_the_work_of_a_replica_that_hangs_goes_to_the_others(started, monkeypatch):
    engine = started(2)
    engine.load(FIRST)
    hung = engine.processes[1]
    monkeypatch.setattr(PATIENCE, 5.0)
    names = ("first", "endless-for-1")  # in this order they go to replicas 0 and 1
    asked = [SampleRequest(question(name), number, number, (1,)) for name in names for number in range(4)]
    assert Counter(sampled(engine, [*asked, *REQUESTS])) == Counter(expected(requests=[*asked, *REQUESTS]))
    assert "engine replica 2 of 2 has said nothing for 0 minutes and was ended; its" in engine.lines[0]
    assert not psutil.pid_exists(hung)


def test_a_replica_that_hangs_while_it_loads_is_given_up(started, monkeypatch):
    engine = started(2)
    engine.load(FIRST)
    monkeypatch.setattr(PATIENCE, 5.0)
    engine.load(Path("endless-for-0"))
    assert "engine replica 1 of 2 has said nothing" in engine.lines[0] and list(engine.processes) == [1]


def test_a_replica_that_samples_for_long_says_that_it_is_at_work(tmp_path):
    """It has said nothing since the machine was started, which is longer than a heartbeat."""
    process = ReplicaProcess(partial(FakeEngine, "0", tmp_path, batch=1), Place((), None, 0.5))
    try:
        for message in (Call(1, "load", (FIRST,)), Sample(2, SETTINGS), More(REQUESTS[:5])):
            process.send(message)
        assert process.receive() == Done(1, None)
        said = [process.receive() for _ in range(6)]
    finally:
        stop([process])
    assert said[0] == Finished(2, [])
    rollouts = [drawn(request, "first") for request in REQUESTS[:5]]
    assert said[1:] == [
        Finished(2, [Drawn(one.sample, one.completion_ids, one.sampler_logprobs, one.text, "stop")]) for one in rollouts
    ], "not after every step"


@pytest.mark.parametrize("doomed", [0, 1])
def test_the_work_of_a_killed_replica_goes_to_the_other(started, tmp_path, doomed):
    engine = started(seconds=0.005)
    engine.load(FIRST)
    victim = engine.processes[doomed]
    rollouts = []
    for finished in engine.sample(REQUESTS, SETTINGS):
        rollouts += finished
        if len(rollouts) == 24:
            os.kill(victim, signal.SIGKILL)
    assert in_order(rollouts) == expected()
    (line,) = engine.lines
    assert f"engine replica {doomed + 1} of 2 was killed by SIGKILL; its" in line and "unfinished samples go" in line
    assert list(engine.processes) == [1 - doomed]
    engine.load(SECOND)
    assert len(engine.processes) == 2 and victim not in engine.processes.values(), "started again"
    assert log(tmp_path, str(doomed))[-1] == "load second"
    assert in_order(sampled(engine)) == expected(SECOND)


def test_a_replica_that_was_killed_while_idle_is_replaced_by_load(started):
    engine = started()
    engine.load(FIRST)
    kill(engine.processes[0])
    engine.load(FIRST)
    assert len(engine.processes) == 2 and len(engine.lines) == 1
    kill(engine.processes[0])
    assert in_order(sampled(engine)) == expected()
    assert len(engine.lines) == 2


def test_a_replica_that_fails_is_lost_with_its_reason(started):
    engine = started(3)
    engine.load(FIRST)
    requests = [*REQUESTS, *(SampleRequest(question(name), 0, 3, (1,)) for name in ("broken-for-0", "deadly-for-1"))]
    rollouts = sampled(engine, requests)
    assert Counter(rollouts) == Counter(expected(requests=requests))
    if "broken-for-0" in "".join(engine.lines):
        assert "failed (ZeroDivisionError: in a kernel)" in "".join(engine.lines)


@pytest.mark.parametrize("count", [1, 2])
def test_when_all_are_killed_they_are_started_again_for_what_is_left(started, count):
    engine = started(count, seconds=0.005)
    engine.load(FIRST)
    stream = engine.sample(REQUESTS, SETTINGS)
    rollouts = next(stream)
    first = list(engine.processes.values())
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    for finished in stream:
        rollouts += finished
    assert in_order(rollouts) == expected()
    assert len(engine.processes) == count and not set(first) & set(engine.processes.values())
    who = "the engine" if count == 1 else r"engine replica \d of 2"
    left = r" was killed by SIGKILL; it is started again for the \d+ samples that are left"
    assert len(engine.lines) == count and re.fullmatch(who + left, engine.lines[-1])
    assert in_order(sampled(engine)) == expected()


def test_a_prompt_that_kills_every_engine_ends_the_sampling_once_nothing_else_is_left(started):
    engine = started(1)
    engine.load(FIRST)
    requests = [*REQUESTS, SampleRequest(question("deadly-for-0"), 0, 3, (1,))]
    rollouts = []

    def sample():
        for finished in engine.sample(requests, SETTINGS):
            rollouts.extend(finished)

    with pytest.raises(UserError, match=r"^no engine is left: the engine was killed by SIGKILL; if memory is short"):
        sample()
    assert Counter(rollouts) <= Counter(expected())
    assert len(engine.lines) >= 2 and engine.lines[-1] == "the engine was killed by SIGKILL"


def test_a_vocabulary_that_grows_gets_processes_of_its_own(tmp_path):
    engine = Replicas(
        [partial(FakeEngine, "0", tmp_path)], [Place((), None, 0.5)], 8, fixed=lambda folder: len(folder.name)
    )
    try:
        engine.load(FIRST)
        before = engine.processes
        engine.load(Path("other"))
        assert engine.processes == before
        engine.load(Path("larger"))
        assert engine.processes != before
        engine.release()
        engine.load(Path("LARGER"))
        assert in_order(sampled(engine)) == expected("LARGER")
    finally:
        engine.close()
    assert [line.split()[0] for line in log(tmp_path, "0")[:6]] == ["pid", "load", "load", "pid", "load", "release"]


def test_a_rollout_that_comes_from_another_process_shares_its_prompt_and_its_problem(started):
    engine = started()
    engine.load(FIRST)
    asked = {(request.problem.id, request.sample): request for request in REQUESTS}
    for rollout in sampled(engine):
        request = asked[rollout.problem.id, rollout.sample]
        assert rollout.prompt_ids is request.prompt_ids and rollout.problem is request.problem


def test_the_reason_is_said_where_an_engine_cannot_load(started):
    engine = started()
    engine.load(FIRST)
    with pytest.raises(RuntimeError, match=r"(?s)KeyError: 'lm_head'.*Traceback"):
        engine.load(Path("broken-for-all"))
    engine.load(FIRST)
    assert in_order(sampled(engine)) == expected()


def test_replicas_with_other_weights_than_each_other_are_found(started):
    engine = started()
    engine.load(FIRST)
    assert engine.score((3, 5, 8)) == (-5.0, -8.0)
    engine.load(Path("stale-in-1"))
    with pytest.raises(UserError, match=r"stale or broken weights .* differ by 1\.000 nats"):
        engine.score((3, 5, 8))


@pytest.mark.parametrize("name", ["broken-for-0", "deadly-for-0"])
def test_the_others_go_on_when_one_cannot_load(started, name):
    engine = started()
    engine.load(Path(name))
    assert list(engine.processes) == [1]
    assert in_order(sampled(engine)) == expected(name)
    assert len(engine.lines) == 1 and "the others go on without it" in engine.lines[0]


def test_a_mistake_that_a_replica_finds_is_the_users_one_line(started):
    engine = started()
    with pytest.raises(UserError, match=r"^there is too little memory; lower engine.max_sequences$"):
        engine.load(Path("refused-by-1"))
    engine.load(FIRST)
    names = ["refused-by-0", "refused-by-1"] * 8
    with pytest.raises(UserError, match=r"^that prompt is too long$"):
        sampled(engine, [SampleRequest(question(name), number, 1, (1,)) for number, name in enumerate(names)])
    assert in_order(sampled(engine)) == expected(), "the engine is as good as before"


def test_a_sampling_that_is_broken_off_leaves_nothing_behind(started, tmp_path):
    engine = started(seconds=0.005)
    engine.load(FIRST)
    stream = engine.sample(REQUESTS, SETTINGS)
    next(stream)
    stream.close()
    assert in_order(sampled(engine)) == expected()
    stream = engine.sample(REQUESTS, SETTINGS)
    next(stream)
    engine.load(SECOND)
    with pytest.raises(RuntimeError, match="something else"):
        list(stream)
    assert in_order(sampled(engine)) == expected(SECOND)
    assert any(line.startswith("dropped") and line != "dropped 0" for line in log(tmp_path, "0"))


def test_an_engine_without_a_running_batch_gets_all_requests_at_once(started, tmp_path):
    engine = started(1, BatchEngine, max_sequences=None)
    engine.load(FIRST)
    assert in_order(sampled(engine)) == expected()
    assert "batch 120" in log(tmp_path, "0")


def test_a_replica_keeps_to_its_place_and_to_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    core = min(os.sched_getaffinity(0))
    engine = Replicas([partial(FakeEngine, "0", tmp_path)], [Place((core,), None, 0.5)])
    engine.load(FIRST)
    (seen,) = engine.call("seen")
    assert seen["cores"] == [core] and seen["session"]
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert not {"WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & set(seen["environment"])
    pid = engine.processes[0]
    engine.close()
    assert not psutil.pid_exists(pid)


def test_an_engine_apart_where_it_must_not_live_in_the_training_process(monkeypatch):
    config = composed("engine=transformers")
    assert type(start_engine(config.engine, config.model, 100, 0)).__name__ == "TransformersEngine"
    with monkeypatch.context() as gpu:
        gpu.setattr("torch.cuda.is_available", lambda: True)
        gpu.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert isinstance(start_engine(config.engine, config.model, 100, 0), Replicas)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert isinstance(start_engine(config.engine, config.model, 100, 0), Replicas)
    two = composed("engine=transformers", "engine.replicas=2")
    with pytest.raises(UserError, match="one random state"):
        start_engine(two.engine, two.model, 100, 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ray" else object())
    ray = composed("engine=vllm", "engine.executor=ray")
    with pytest.raises(UserError, match="Ray is not installed"):
        start_engine(ray.engine, ray.model, 100, 0)


PARENT = """
import os, sys, threading, time
from functools import partial
from pathlib import Path
from fake_engine import FakeEngine, question
from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.places import Place
from rlreason.engines.replicas import Replicas

builds = [partial(FakeEngine, str(number), sys.argv[1], seconds=0.05) for number in range(2)]
engine = Replicas(builds, [Place((), None, 0.5)] * 2, 8)
if sys.argv[2] == "thread":  # whose end must not be taken for that of the process
    loading = threading.Thread(target=engine.load, args=(Path("first"),))
    loading.start()
    loading.join()
else:
    engine.load(Path("first"))
stream = engine.sample([SampleRequest(question(str(n)), 0, n, (1,)) for n in range(1000)], SamplingSettings(1.0, 8))
next(stream)
print(*engine.processes.values(), flush=True)
if sys.argv[2] == "error":
    raise SystemExit(3)
for rollouts in stream:
    pass
"""


@pytest.mark.parametrize("how", ["killed", "thread", "error"])
def test_no_process_outlives_the_one_that_started_it(tmp_path, how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), how],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    if how != "error":
        parent.kill()
    assert parent.wait(timeout=20) == (3 if how == "error" else -signal.SIGKILL)
    _, left = psutil.wait_procs(children, timeout=15)
    assert not left
