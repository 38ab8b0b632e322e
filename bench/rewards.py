"""A trivial reward of the user's own over the shipped sparse one, on the same thousand rollouts."""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rlreason.rewards.base import Reward
from rlreason.rewards.custom import CustomRewardConfig, no_reward, with_own
from rlreason.rewards.sparse import sparse_reward
from rlreason.types import Problem, Rollout, Step

ROLLOUTS = 1000
REPEATS = 21
FUNCTIONS = """
def one(problem, completion):
    return float(completion.correct)

def in_batch(problems, completions, batch=True):
    return [float(completion.correct) for completion in completions]

async def awaited(problem, completion):
    return float(completion.correct)
"""


def milliseconds(reward: Reward, rollouts: list[Rollout]) -> float:
    """Median time of a thousand."""
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        reward(rollouts)
        taken.append(time.perf_counter() - begun)
    return 1000 * statistics.median(taken)


def own_rewards(console: Console) -> None:
    """Print the table."""
    problem = Problem("p", "How many?", "7")
    steps = (Step(0, 5, "3+4=7", "reasoning"), Step(5, 9, "#### 7", "answer"))
    ids, text = tuple(range(9)), "3+4=7\n#### 7"
    rollouts = [
        Rollout(problem, number, 0, (1,), ids, (0.0,) * 9, text, "stop", steps, "7", number % 2 == 0)
        for number in range(ROLLOUTS)
    ]
    table = Table(title="rewards of a thousand rollouts", title_justify="left")
    for heading in ("what", "ms", "over the sparse reward"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    sparse = milliseconds(sparse_reward, rollouts)
    table.add_row("reward=sparse", f"{sparse:.2f}", "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "functions.py"
        path.write_text(FUNCTIONS, encoding="utf-8")
        for name in ("one", "in_batch", "awaited"):
            settings = CustomRewardConfig(
                name="custom",
                threshold=1.0,
                function=f"{path}:{name}",
                function_weight=1.0,
                function_seconds=60.0,
            )
            own = milliseconds(with_own(partial(no_reward, settings=settings), settings), rollouts)
            table.add_row(f"an own function, {name.replace('_', ' ')}", f"{own:.2f}", f"{own / sparse:.1f}")
    console.print(table)
