"""Imports point one way between files, nothing private crosses a file, heavy libraries wait until they are needed."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path.relative_to(ROOT) for folder in ("rlreason", "bench") for path in (ROOT / folder).rglob("*.py"))
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "vllm",
    "datasets",
    "wandb",
    "sklearn",
    "scipy",
    "matplotlib",
    "sympy",
    "math_verify",
    "reasoning_gym",
}
NETWORKS = {  # made of tensors from top to bottom; themselves imported only where one is needed
    "rlreason/models/scalar_head.py",
    "rlreason/models/critic.py",
    "rlreason/training/critic_update.py",
    "rlreason/training/forward_pass.py",
    "rlreason/training/minibatches.py",
    "rlreason/training/on_policy_trainer.py",
    "rlreason/training/shared_prompts.py",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(node: ast.AST) -> list[tuple[str, str | None]]:
    """(module, name or None) of every import below a node."""
    found: list[tuple[str, str | None]] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            found += [(alias.name, None) for alias in inner.names]
        elif isinstance(inner, ast.ImportFrom):
            found += [(inner.module or "", alias.name) for alias in inner.names]
    return found


def needed(path: Path) -> set[Path]:
    """The files of ours that a file imports, wherever in it, for types alone included."""
    found = set()
    for module, name in imports(tree(path)):
        target = MODULES.get(f"{module}.{name}") or MODULES.get(module)
        if target not in (None, path):
            found.add(target)
    return found


def circle() -> list[Path]:
    """The files that can be reached from themselves."""
    graph = {path: needed(path) for path in FILES}

    def reached(start: Path) -> set[Path]:
        seen: set[Path] = set()
        todo = list(graph[start])
        while todo:
            path = todo.pop()
            if path not in seen:
                seen.add(path)
                todo += graph[path]
        return seen

    return [path for path in FILES if path in reached(path)]


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circle() == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_private_is_taken_from_another_file(path: Path) -> None:
    assert [name for module, name in imports(tree(path)) if module.startswith("rlreason") and str(name)[0] == "_"] == []


FLOORS = [  # from the ground up; a folder of a floor knows nothing of those above it
    {"rlreason/errors.py", "rlreason/types.py"},
    {"rlreason/answers", "rlreason/run", "rlreason/data", "rlreason/engines", "rlreason/models"},
    {"rlreason/training", "rlreason/orm", "rlreason/rewards", "rlreason/evaluation"},
    {"rlreason/lab", "rlreason/orm/training.py"},
    {"rlreason/tasks"},
    {"rlreason/jobs.py", "rlreason/sweep.py"},
    {"rlreason/cli.py"},
]


def floor(path: Path) -> int | None:
    matching = [
        (len(place), number) for number, places in enumerate(FLOORS) for place in places if path.is_relative_to(place)
    ]
    return max(matching)[1] if matching else None


@pytest.mark.parametrize("path", [path for path in FILES if floor(path) is not None], ids=str)
def test_a_floor_knows_nothing_of_those_above_it(path: Path) -> None:
    assert [str(other) for other in needed(path) if (floor(other) or 0) > (floor(path) or 0)] == []


def test_algorithms_touch_no_files_and_no_trackers() -> None:
    for path in FILES:
        if path.is_relative_to("rlreason/algorithms"):
            assert not [other for other in needed(path) if other.is_relative_to("rlreason/run")], path


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "rlreason"], ids=str)
def test_heavy_libraries_are_not_imported_at_the_top(path: Path) -> None:
    if str(path) in NETWORKS:
        return
    top = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not {module.split(".")[0] for node in top for module, _ in imports(node)} & HEAVY
