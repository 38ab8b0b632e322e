"""`make bench`: our speed as ratios, each beside a named peer in the same run, by turns.

Every row is printed as soon as it has been measured: the median of the turns and their spread, and what was promised. A
row that keeps no promise, or cannot be measured, ends with exit code 1. The short form takes a few minutes on two
cores; `--long` adds a real model and the whole default run.
"""

import argparse
import statistics
import sys
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.row import Asked, Row, Turns
from bench.rows import ROWS
from rlreason.errors import UserError
from rlreason.quiet import quiet_libraries

HEADINGS = ("row", "ours", "beside", "times as fast", "turns", "promised", "speeds", "seconds")


def cells(row: Row, turns: Turns, seconds: float) -> list[str]:
    """One line of the table."""
    ratios = turns.ratios()
    ours, peer = statistics.median(turns.ours), statistics.median(turns.peer)
    speeds = f"{ours:,.4g} and {peer:,.4g} {turns.unit}" + (f"; {turns.says}" if turns.says else "")
    figures = [f"{turns.ratio():.2f}", f"{ratios[0]:.2f} to {ratios[-1]:.2f}", f"{row.promised:g}"]
    return [row.name, row.ours, row.peer, *figures, speeds, f"{seconds:.0f}"]


def main() -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[0])
    names = [row.name for row in ROWS]
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(names)}; none: all of the short form")
    parser.add_argument("--long", action="store_true", help="all rows")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each side")
    parser.add_argument("--smollm2", type=Path, metavar="FOLDER", help="SmolLM2-135M-Instruct, where no Hub is reached")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    for name in options.rows:
        if name not in names:
            parser.error(f"{name!r} is no row; choose from: {', '.join(names)}")
    asked = Asked(options.repeats, (), options.smollm2)
    quiet_libraries()
    done, broken = [], []
    for row in ROWS:
        if row.name not in (options.rows or [one.name for one in ROWS if one.short or options.long]):
            continue
        began = time.perf_counter()
        console.print(f"{row.name}: {row.ours} beside {row.peer} ...", highlight=False)
        try:
            turns = row.measure(asked)
        except UserError as error:
            console.print(f"{row.name} is left out: {error}", markup=False)
            continue
        except Exception:
            traceback.print_exc()
            broken.append(row.name)
            continue
        done.append(cells(row, turns, time.perf_counter() - began))
        if turns.ratio() < row.promised:
            broken.append(row.name)
        console.print("  " + "; ".join(done[-1][3:]), highlight=False, markup=False)
    table = Table(title="times as fast as the peer", title_justify="left")
    shown = [number for number, heading in enumerate(HEADINGS) if heading != "speeds"]  # printed before
    for number in shown:
        table.add_column(HEADINGS[number], overflow="fold")
    for line in done:
        table.add_row(*(line[number] for number in shown))
    console.print(table)
    if options.markdown is not None:
        lines = [HEADINGS, ["---"] * len(HEADINGS), *done]
        options.markdown.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")
    if broken:
        console.print(f"below what was promised, or not measured: {', '.join(broken)}", style="bold red")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
