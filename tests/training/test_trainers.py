"""What every trainer shares: one GPU a process, resumable checkpoints by what they cost, room for the engine."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import several_processes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from rlreason.training import common
from rlreason.training.common import NOT_SPLIT, Recorder, silent

UPDATES = ("supervised", "outcome", "ppo", "grpo")


def update(name: str, folder: Path, checkpointing: bool = False) -> list[float]:
    return several_processes.update(folder, name, NOT_SPLIT, checkpointing)


class Refused(nn.DataParallel):
    """A model that is to compute on several GPUs of one process."""

    def __init__(self, *_: Any) -> None:
        raise AssertionError("DataParallel")


@pytest.mark.engine
@pytest.mark.parametrize("name", UPDATES)
def test_a_process_that_sees_eight_gpus_trains_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from transformers import TrainingArguments

    set_up = TrainingArguments.__dict__["_setup_devices"].func

    def eight(arguments: Any) -> Any:
        device = set_up(arguments)
        arguments._n_gpu = 8
        return device

    patched = cached_property(eight)
    patched.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", patched)
    monkeypatch.setattr("torch.nn.DataParallel", Refused)
    assert len(update(name, tmp_path)) > 3


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def saves(monkeypatch: pytest.MonkeyPatch, steps: int, step: float, save: float, every: float) -> list[int]:
    """The steps after which a resumable checkpoint is taken, of steps and saves of so many seconds."""
    clock, taken = Clock(), []
    monkeypatch.setattr(common, "time", clock)
    monkeypatch.setattr(common, "sync", lambda path: None)
    monkeypatch.setattr(common, "write_atomically", lambda path, text: None)
    callback = Recorder(every, silent).callback()
    arguments = SimpleNamespace(output_dir="nowhere")
    for number in range(1, steps + 1):
        clock.now += step
        state, control = SimpleNamespace(global_step=number, max_steps=steps + 1), SimpleNamespace(should_save=False)
        callback.on_step_end(arguments, state, control)
        if control.should_save:
            clock.now += save
            callback.on_save(arguments, state, control)
            taken.append(number)
    return taken


def test_quick_saves_come_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(monkeypatch, 100, step=10, save=1, every=120) == [12, 24, 36, 48, 60, 72, 84, 96]


def test_slow_saves_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 seconds each: after the first, one every 2,000."""
    assert saves(monkeypatch, 600, step=10, save=100, every=120) == [12, 212, 412]


def test_0_seconds_save_after_every_step_whatever_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(monkeypatch, 4, step=10, save=100, every=0) == [1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(step=st.floats(0.1, 60), save=st.floats(0, 600), every=st.floats(1, 1800))
def test_after_the_first_saves_take_at_most_a_twentieth_of_the_time(step: float, save: float, every: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        taken = saves(patch, 200, step, save, every)
    if len(taken) > 1:
        trained = step * (taken[-1] - taken[0])
        assert save * (len(taken) - 1) <= 0.05 * trained * (1 + 1e-9)


@pytest.mark.engine
def test_a_trainer_gives_memory_back_before_an_engine_samples_or_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is a stand-in: what would go there stays where it is."""
    events: list[str] = []
    loading = several_processes.loading
    load = loading.load_model
    monkeypatch.setattr(loading, "trains_on_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr(loading, "load_model", lambda folder, dtype, device: load(folder, dtype))

    def note(owner: Any, name: str, event: str) -> None:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: [events.append(event), function(*given)][1])

    config, model = several_processes.ON_POLICY["ppo"]
    monkeypatch.setitem(several_processes.ON_POLICY, "ppo", (replace(config, evaluations=2), model))
    note(loading, "free_memory", "freed")
    note(several_processes.Batches, "draw", "engine")
    note(several_processes.Course, "measure", "engine")
    several_processes.on_policy(tmp_path, "ppo", NOT_SPLIT)
    used = [number for number, event in enumerate(events) if event == "engine" and number > 0]
    assert len(used) > config.batches
    assert all(events[number - 1] == "freed" for number in used)


@pytest.mark.engine
@pytest.mark.parametrize("mixed", [True, pytest.param(False, marks=pytest.mark.faults)])
@pytest.mark.parametrize(
    "name",
    [*UPDATES, "separate", *(pytest.param(name, marks=pytest.mark.faults) for name in ("separate-lora", "grpo-lora"))],
)
def test_activations_that_are_computed_twice_change_nothing_and_no_model_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mixed: bool
) -> None:
    monkeypatch.setattr(several_processes.loading, "bfloat16_is_fast", lambda: mixed)
    passes, forward = [], LlamaDecoderLayer.forward

    def counted(*given: Any, **more: Any) -> Any:
        passes.append(1)
        return forward(*given, **more)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counted)
    before = several_processes.models_alive()
    kept, once = update(name, tmp_path / "kept"), len(passes)
    again = update(name, tmp_path / "again", checkpointing=True)
    assert len(passes) > 2 * once
    assert again == pytest.approx(kept, abs=1e-6)
    assert several_processes.models_alive() == before
