"""One batch of PPO and of GRPO over one of TRL's own GRPOTrainer, on the same prompts, completions and sizes.

The share of our own code is that of the training loop's time inside Python functions of this package, by the profiler,
which counts what they call (torch, TRL) apart. Each trainer runs in a process of its own, so that its peak memory is
its own; rollouts are drawn once, by the engine, and given to all of them. `python -m bench.on_policy TRAINER ROLLOUTS`
is one such process.
"""

import cProfile
import json
import pickle
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlreason
from bench.row import Asked, Turns
from rlreason import types
from rlreason.types import Rollout

BATCHES = 8
WARM_UP = 2
PACKAGE = str(Path(rlreason.__file__).parent)
COMMON = [
    "algo.questions=32",
    "algo.samples=8",
    f"algo.batches={BATCHES}",
    "algo.evaluations=1",
    "algo.kl_coefficient=0",
    "algo.gap_limit=1e9",  # the rollouts are not of the policy that is being trained
]


@dataclass(frozen=True)
class Stored:
    """The same rollouts for every batch."""

    asked: list[types.Asked]
    rollouts: list[Rollout]

    def policy_folder(self, number: int) -> AbstractContextManager[None]:
        """No engine needs the policy."""
        return nullcontext()

    def draw(self, number: int, policy: Path | None) -> tuple[list[types.Asked], list[Rollout]]:
        """The rollouts."""
        return self.asked, self.rollouts


def not_saved(model: Any, folder: Path) -> None:
    """For a trainer without an engine."""
    raise AssertionError(f"{folder} was to hold the policy")


def for_trl(rollouts: list[Rollout]) -> dict[str, list[Any]]:
    """Rollouts as TRL takes them."""
    return {
        "prompt_ids": [list(item.prompt_ids) for item in rollouts],
        "completion_ids": [list(item.completion_ids) for item in rollouts],
        "logprobs": [list(item.sampler_logprobs) for item in rollouts],
        "env_mask": [[1] * len(item.completion_ids) for item in rollouts],
        "total_reward": [item.total_reward for item in rollouts],
    }


def total_return(total_reward: list[float], **_: Any) -> list[float]:
    """TRL's reward function: the returns that come with the rollouts."""
    return total_reward


def one_trainer(name: str, rollouts: Path, profiled: bool) -> dict[str, float]:
    """Median seconds per batch and peak memory in MiB of one trainer in this process; or its share of own code."""
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    from bench.load import compose
    from rlreason.algorithms.grpo import grpo_method
    from rlreason.algorithms.ppo import ppo_method
    from rlreason.models.loading import load_for_training, load_tokenizer
    from rlreason.models.resolve import resolve
    from rlreason.quiet import quiet_libraries
    from rlreason.training.common import OnlineSettings
    from rlreason.training.on_policy_trainer import OnPolicyTrainer, trainer_config

    quiet_libraries()
    algorithm = "ppo" if name.startswith("ppo") else "grpo"
    critic = ["algo.critic=separate"] if name == "ppo-separate" else []
    config = compose(f"algo={algorithm}", *COMMON, *critic)
    stored = Stored(*pickle.loads(rollouts.read_bytes()))  # written by this program a moment ago
    steps = config.algo.batch_size // config.algo.minibatch_size
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % steps == 0:
                ends.append(time.perf_counter())

    folder = resolve(config.model).folder
    with tempfile.TemporaryDirectory() as scratch:
        settings = OnlineSettings(Path(scratch), config.model, config.data.max_completion_tokens, 1e9)
        model = load_for_training(folder, config.model, config.sharding)
        tokenizer = load_tokenizer(folder)
        if name == "trl":
            from datasets import Dataset

            trainer: Any = GRPOTrainer(
                model=model,
                reward_funcs=total_return,
                args=trainer_config(config.algo, settings, 0),
                train_dataset=Dataset.from_dict({"prompt": [""] * config.algo.questions}),
                processing_class=tokenizer,
                callbacks=[Clock()],
                rollout_func=lambda prompts, trainer: for_trl(stored.rollouts),
            )
        else:
            if algorithm == "grpo":
                method: Any = grpo_method(config.algo, folder, model, settings)
            else:
                method = ppo_method(config.algo, folder, None, model, settings)
            trainer = OnPolicyTrainer(config.algo, method, stored, not_saved, model, tokenizer, settings, 0, [Clock()])
        if profiled:
            profile = cProfile.Profile()
            profile.runcall(trainer.train)
            return {"own": own_share(profile)}
        trainer.train()
    seconds = [after - before for before, after in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]
    return {
        "seconds": statistics.median(seconds),
        "mib": peak_memory(),
    }


def peak_memory() -> float:
    """The most memory that this process has held, in MiB.

    Not `ru_maxrss` where it can be avoided: that begins at what the process held that started this one.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def own_share(profile: cProfile.Profile) -> float:
    """Time inside functions of this package over all time, without what they call."""
    times = [(file, inside) for (file, _, _), (_, _, inside, _, _) in pstats.Stats(profile).stats.items()]  # type: ignore[attr-defined]
    own = sum(inside for file, inside in times if file.startswith(PACKAGE))
    return own / sum(inside for _, inside in times)


def batches(name: str, asked: Asked) -> Turns:
    """Batches a second of one of our trainers, and of TRL's, by turns; each in a process of its own."""
    from bench.load import Load

    load = Load(32, 8)
    with tempfile.TemporaryDirectory() as folder:
        drawn = load.rollouts(Path(folder) / "run")
        path = Path(folder) / "rollouts"
        path.write_bytes(pickle.dumps(([types.Asked(problem) for problem in load.problems], drawn)))
        load.engine.close()
        found: dict[str, list[dict[str, float]]] = {name: [], "trl": []}
        for _ in range(asked.repeats):
            for trainer in found:
                found[trainer].append(answer([sys.executable, "-m", "bench.on_policy", trainer, str(path)]))
        own = answer([sys.executable, "-m", "bench.on_policy", name, str(path), "profiled"])["own"]
    speeds = {trainer: [1 / run["seconds"] for run in runs] for trainer, runs in found.items()}
    mib = {trainer: statistics.median(run["mib"] for run in runs) for trainer, runs in found.items()}
    says = f"memory {mib[name] / mib['trl']:.2f} of TRL's; {own:.1%} of the time in our own code"
    return Turns(speeds[name], speeds["trl"], "batches/s", says)


def answer(command: list[str]) -> dict[str, float]:
    """What one process prints last."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(one_trainer(sys.argv[1], Path(sys.argv[2]), "profiled" in sys.argv)))
