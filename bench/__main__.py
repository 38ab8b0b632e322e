"""`make bench`: what the package costs over the engine and the trainer that it drives.

1. The sampling stage of a run (requests, storing every rollout, grading) over raw `vllm.LLM.generate` on the same
   prompts with the same sampling parameters, with the embedded model and, where the Hub or a copy in its cache can be
   reached, with SmolLM2-135M; `--smollm2 FOLDER` names a copy elsewhere.
2. The same stage over `transformers.generate`.
3. A batch of PPO and of GRPO over a batch of TRL's own GRPOTrainer (bench/on_policy.py).
4. The share of the default run's time, and of a PPO run's, that is neither engine nor trainer.

Other arguments are Hydra overrides of the default run in 4; `--skip-default-run` leaves it out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rlreason.lab.common import fit_prompts, quiet_libraries
from rlreason.lab.generation import Generation, SharedEngine
from rlreason.lab.stages import RunStages

from bench.on_policy import on_policy
from rlreason.cli import config_folder
from rlreason.config.compose import from_composed
from rlreason.config.experiment import ExperimentConfig
from rlreason.data.splits import training_data
from rlreason.display import Display
from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.start import start_engine
from rlreason.errors import UserError
from rlreason.models.resolve import resolve
from rlreason.run.folder import Run
from rlreason.run.trackers import NoTracker

REPEATS = 3
ENGINE_AND_TRAINER = ("start", "sample", "train", "sync", "evaluate")


def compose(*overrides: str) -> ExperimentConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return from_composed(hydra_compose("config", overrides=["tracker=none", *overrides]))


class Load:
    """One model, some of its training questions, and K samples of each."""

    def __init__(self, questions: int, samples: int, *overrides: str) -> None:
        from rlreason.models.loading import load_tokenizer

        self.config = compose(*overrides)
        self.samples = samples
        self.model = resolve(self.config.model)
        self.tokenizer = load_tokenizer(self.model.folder)
        training = training_data(self.config.data).train
        self.problems = training[:questions]
        self.display = Display(Console(quiet=True))
        self.prompts, _ = fit_prompts(self.config, self.tokenizer, training, self.problems, self.display)
        limits = self.config.data.max_prompt_tokens + self.config.data.max_completion_tokens
        self.engine: Any = start_engine(self.config.engine, self.config.model, limits, 0)
        self.engine.load(self.model.folder)

    def stage(self, folder: Path) -> float:
        """Completion tokens per second of a run's sampling stage, storing and grading included."""
        run = Run(folder, {})
        engine = SharedEngine(self.config, self.engine)
        stages = RunStages(
            Generation(self.config, run, self.display, self.tokenizer, self.prompts, engine), NoTracker()
        )
        began = time.perf_counter()
        scored = stages.sample(1, self.model.folder, self.problems, self.samples, 1.0)
        seconds = time.perf_counter() - began
        run.close()
        return sum(len(item.completion_ids) for item in scored) / seconds

    def scored(self, folder: Path) -> list[Any]:
        """The rollouts of such a stage."""
        run = Run(folder, {})
        engine = SharedEngine(self.config, self.engine)
        generation = Generation(self.config, run, self.display, self.tokenizer, self.prompts, engine)
        scored = RunStages(generation, NoTracker()).sample(1, self.model.folder, self.problems, self.samples, 1.0)
        run.close()
        return scored

    def raw_vllm(self) -> float:
        """Completion tokens per second of `LLM.generate` with n=K."""
        from vllm import SamplingParams

        llm = self.engine.llm
        llm.reset_prefix_cache()
        parameters = SamplingParams(
            n=self.samples,
            temperature=1.0,
            max_tokens=self.config.data.max_completion_tokens,
            stop=list(self.config.prompt.stop),
            logprobs=0,
        )
        prompts = [{"prompt_token_ids": list(self.prompts[problem.id].token_ids)} for problem in self.problems]
        began = time.perf_counter()
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - began
        return sum(len(item.token_ids) for output in outputs for item in output.outputs) / seconds

    def transformers_generate(self) -> float:
        """Completion tokens per second of our transformers engine, `model.generate` in batches."""
        from rlreason.engines.transformers import TransformersEngine

        engine = TransformersEngine(self.config.engine, self.config.model)
        engine.load(self.model.folder)
        return self.engine_speed(engine, self.problems)

    def engine_speed(self, engine: Any, problems: list[Any]) -> float:
        """Completion tokens per second of one of our engines, K samples of each problem."""
        requests = [
            SampleRequest(problem.id, sample, sample, self.prompts[problem.id].token_ids)
            for problem in problems
            if problem.id in self.prompts
            for sample in range(self.samples)
        ]
        settings = SamplingSettings(1.0, self.config.data.max_completion_tokens, tuple(self.config.prompt.stop))
        began = time.perf_counter()
        tokens = sum(len(item.completion_ids) for batch in engine.sample(requests, settings) for item in batch)
        return tokens / (time.perf_counter() - began)


def sampling(console: Console, title: str, load: Load) -> None:
    with tempfile.TemporaryDirectory() as folder:
        load.raw_vllm()  # warms the engine up
        stage, raw = [], []
        for repeat in range(REPEATS):
            load.engine.llm.reset_prefix_cache()
            stage.append(load.stage(Path(folder) / str(repeat)))
            raw.append(load.raw_vllm())
    plain = load.transformers_generate()
    ours = statistics.median(stage)
    table = Table(title=title, title_justify="left")
    for heading in ("what", "tokens/s", "the stage over it"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    table.add_row("sampling stage of a run", f"{ours:,.0f}", "")
    table.add_row("vllm.LLM.generate", f"{statistics.median(raw):,.0f}", f"{ours / statistics.median(raw):.3f}")
    table.add_row("transformers.generate", f"{plain:,.0f}", f"{ours / plain:.2f}")
    console.print(table)


def finished(overrides: list[str]) -> dict[str, Any]:
    """The `result.json` of a whole run, made in a temporary folder by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        program = "from rlreason.cli import main; main()"
        own = ["tracker=none", "name=run", f"runs_dir={folder}"]
        subprocess.run([sys.executable, "-c", program, *own, *overrides], check=True, stdout=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads((Path(folder) / "run/result.json").read_text())
    return result


def whole_run(console: Console, title: str, overrides: list[str]) -> None:
    result = finished(overrides)
    seconds = result["seconds"]
    rest = seconds["total"] - sum(seconds[kind] for kind in ENGINE_AND_TRAINER)
    table = Table(title=title, title_justify="left")
    for heading in ("part", "seconds", "share"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for kind in (*ENGINE_AND_TRAINER, "total"):
        table.add_row(kind, f"{seconds[kind]:.1f}", f"{seconds[kind] / seconds['total']:.1%}")
    table.add_row("neither engine nor trainer", f"{rest:.1f}", f"{rest / seconds['total']:.1%}")
    console.print(table)


def main() -> None:
    console = Console()
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--skip-default-run", action="store_true")
    parser.add_argument("--smollm2", metavar="FOLDER")
    parser.add_argument("overrides", nargs="*", help="of the default run")
    options = parser.parse_intermixed_args()
    overrides = options.overrides
    if not options.skip_default_run:
        whole_run(console, "the default run", overrides)
        short = ["algo=ppo", "algo.batches=20", "algo.evaluations=1", "eval=greedy"]
        whole_run(console, "PPO, 20 batches of 256", [*short, *overrides])
    quiet_libraries()
    sampling(console, "embedded tiny model, 300 questions x 8", Load(300, 8))
    on_policy(console, Load(32, 8))
    model = ["model=smollm2-135m", *([f"model.path={options.smollm2}"] if options.smollm2 else [])]
    try:
        smollm2 = Load(16, 8, *model, "data.max_completion_tokens=116", "data.max_prompt_tokens=512")
    except UserError as error:
        console.print(f"SmolLM2 is left out: {error}")
        return
    sampling(console, "SmolLM2-135M, 16 questions x 8 of at most 116 tokens", smollm2)


if __name__ == "__main__":
    main()
