"""Imports point one way, files stay small, and heavy libraries wait until they are needed."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rlreason"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    {"types", "errors"},
    {"config", "arithmetic", "distributed", "shares"},
    {"compose"},
    {
        "steps",
        "grading",
        "grading_worker",
        "grading_numbers",
        "identity",
        "run",
        "peaks",
        "store",
        "trackers",
        "data",
        "rewards",
        "engines",
        "models",
    },
    {"planning"},
    {"evaluation"},
    {"study"},
    {"algorithms"},
    {"tasks"},
    {"help"},
    {"placement", "processes", "jobs"},
    {"sweep"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
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
ALGORITHM_EXCEPTIONS = {
    "supervised",
    "training",
    "critic_update",
    "curriculum",
    "divided_trainer",
    "minibatches",
    "on_policy",
    "on_policy_trainer",
    "outcome_update",
    "ppo_math",
    "shared_prompts",
}
NETWORKS = {  # made of tensors from top to bottom; themselves imported only where one is needed
    "models/scalar_head.py",
    "models/critic.py",
    "algorithms/critic_update.py",
    "algorithms/ppo_math.py",
    "algorithms/divided_trainer.py",
    "algorithms/minibatches.py",
    "algorithms/on_policy_trainer.py",
    "algorithms/shared_prompts.py",
    "algorithms/ppo.py",
    "algorithms/grpo.py",
}


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = part(path)
    for name in imports(ast.parse(path.read_text())):
        pieces = name.split(".")
        if pieces[0] == "rlreason" and len(pieces) > 1 and pieces[1] in RANK and pieces[1] != own:
            assert RANK[pieces[1]] <= RANK[own], f"{own} imports {name}"
            assert {own, pieces[1]} != {"rewards", "engines"}, f"{own} imports {name}"


def test_every_part_has_a_layer() -> None:
    assert {part(path) for path in FILES} - {"__init__"} <= set(RANK)


def test_algorithms_do_not_import_each_other() -> None:
    folder = PACKAGE / "algorithms"
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"} - ALGORITHM_EXCEPTIONS
    for name in names:
        for imported in imports(ast.parse((folder / f"{name}.py").read_text())):
            assert imported.split(".")[-1] not in names - {name}, f"{name} imports {imported}"


def test_algorithms_touch_no_files_and_no_trackers() -> None:
    for path in (PACKAGE / "algorithms").glob("*.py"):
        for imported in imports(ast.parse(path.read_text())):
            assert imported.split(".")[1:2] not in (["run"], ["store"], ["trackers"], ["cli"]), path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_not_imported_at_the_top(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in NETWORKS:
        return
    top = ast.Module([node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.If)], [])
    outside = [
        name
        for node in top.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imports(ast.Module([node], []))
    ]
    assert not {name.split(".")[0] for name in outside} & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300, "a second purpose?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 70, f"{node.name} is long"
