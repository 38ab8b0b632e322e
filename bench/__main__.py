"""`make bench`: what the package costs over the engine and the trainer that it drives.

1. The sampling stage of a run (requests, storing every rollout, grading) over raw `vllm.LLM.generate` on the same
   prompts with the same sampling parameters, with the embedded model and, where the Hub or a copy in its cache can be
   reached, with SmolLM2-135M; `--smollm2 FOLDER` names a copy elsewhere.
2. The same stage over `transformers.generate`.
3. A batch of PPO and of GRPO over a batch of TRL's own GRPOTrainer (bench/on_policy.py).
4. A thousand trivial rewards of the user's own over the shipped sparse one (bench/rewards.py).
5. The share of the default run's time, and of a PPO run's, that is neither engine nor trainer.

Other arguments are Hydra overrides of the default run in 5; `--skip-default-run` leaves it out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import Load
from bench.on_policy import on_policy
from bench.rewards import own_rewards
from rlreason.errors import UserError
from rlreason.quiet import quiet_libraries

REPEATS = 3
ENGINE_AND_TRAINER = ("start", "sample", "train", "sync", "evaluate")


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
    own_rewards(console)
    overrides = options.overrides
    if not options.skip_default_run:
        whole_run(console, "the default run", overrides)
        short = ["algo=ppo", "algo.batches=20", "algo.evaluations=1", "eval=greedy"]
        whole_run(console, "PPO, 20 batches of 256", [*short, *overrides])
    quiet_libraries()
    sampling(console, "embedded tiny model, 300 questions x 8", Load(300, 8))
    on_policy(console, Load(32, 8))
    model = ["model=smollm2-135m-instruct", *([f"model.path={options.smollm2}"] if options.smollm2 else [])]
    try:
        smollm2 = Load(16, 8, *model, "data.max_completion_tokens=116", "data.max_prompt_tokens=512")
    except UserError as error:
        console.print(f"SmolLM2 is left out: {error}")
        return
    sampling(console, "SmolLM2-135M, 16 questions x 8 of at most 116 tokens", smollm2)


if __name__ == "__main__":
    main()
