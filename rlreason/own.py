"""What the user has written and names by a setting: rewards, advantages, losses, metrics, rows.

`FILE.py:NAME` names it by its file, `PACKAGE.MODULE:NAME` and `PACKAGE.MODULE.NAME` by what Python finds. A file is
imported once in a process, and the text that was imported is what a run keeps, whatever becomes of the file later.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rlreason.errors import UserError

FORMS = "FILE.py:NAME or PACKAGE.MODULE:NAME"
_IS_OWN = re.compile(r"\S.*:\w+")


@dataclass(frozen=True)
class Own:
    """What a setting of the user's own names.

    Args:
        key: The setting, such as "reward.function".
        path: Its value.
        value: What it names, usually a function.
        file: The file that it stands in; None where it has none.
        source: The text of that file as it was imported; "" where there is none.
    """

    key: str
    path: str
    value: Any
    file: Path | None
    source: str

    @property
    def name(self) -> str:
        """What it is called within its file."""
        return re.split(r"[:.]", self.path)[-1]

    @property
    def digest(self) -> str:
        """Of its source: 16 hexadecimal digits."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def names_own(value: object) -> bool:
    """Whether a value of a setting names something of the user's own rather than a choice of the package."""
    return isinstance(value, str) and _IS_OWN.fullmatch(value) is not None


def imported(key: str, path: str) -> Own:
    """What a setting names.

    Args:
        key: The setting, for messages.
        path: FILE.py:NAME, PACKAGE.MODULE:NAME or PACKAGE.MODULE.NAME.

    Raises:
        UserError: There is nothing of that name, or its file cannot be imported.
    """
    return _imported(key, path, Path.cwd())


def check_call(key: str, path: str, words: str, *positional: None, **named: None) -> None:
    """Refuse what cannot be called as it will be.

    Args:
        key: The setting, for messages.
        path: Its value.
        words: The arguments as the message shows them.
        positional: As many as it will be given.
        named: Those that it will be given by name.

    Raises:
        UserError: It cannot be imported, is no function, or takes other arguments.
    """
    function = imported(key, path).value
    if not callable(function):
        raise UserError(f"{key}={path} is no function; it must take {words}")
    try:
        inspect.signature(function).bind(*positional, **named)
    except (TypeError, ValueError) as error:  # the latter where a function shows no signature
        raise UserError(f"{key}={path} must take {words}: {error}") from error


@cache
def _imported(key: str, path: str, folder: Path) -> Own:
    """What a setting names for a process that works in `folder`; kept, since losses are asked for it at every step."""
    where, separator, name = path.rpartition(":")
    if not separator:
        where, _, name = path.rpartition(".")
    is_file = where.endswith(".py")
    module = _at(key, path, (folder / where).resolve()) if is_file else _found(key, path, where)
    if not hasattr(module, name):
        public = [item for item in vars(module) if not item.startswith("_")]
        near = difflib.get_close_matches(name, public, n=1)
        own = [item for item in public if getattr(vars(module)[item], "__module__", None) == module.__name__]
        hint = f"did you mean {near[0]}?" if near else f"it defines {', '.join(own) or 'nothing'}"
        raise UserError(f"{key}={path} cannot be imported ({where} has no attribute {name!r}); {hint}")
    found = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    file = None if found is None else Path(found)
    source = vars(module).get("__rlreason_source__")
    if source is None:
        source = "" if file is None else file.read_text(encoding="utf-8")
    return Own(key, path, getattr(module, name), file, source)


def raised(error: BaseException) -> str:
    """An exception of the user's code in a few words, with the line that it came from."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f" in line {last.tb_lineno} of {Path(last.tb_frame.f_code.co_filename).name}" if last is not None else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


def _found(key: str, path: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise UserError(
            f"{key}={path} cannot be imported ({error}); put its folder on PYTHONPATH, name its file "
            "(FILE.py:NAME), or fix the path"
        ) from error


def _at(key: str, path: str, file: Path) -> ModuleType:
    if not file.is_file():
        raise UserError(f"{key}={path}: there is no file {file.name} in {file.parent}; give {FORMS}")
    try:
        return _loaded(file)
    except (Exception, SystemExit) as error:  # as above
        raise UserError(f"{key}={path}: {file.name} cannot be imported ({raised(error)}); fix it") from error


@cache
def _loaded(file: Path) -> ModuleType:
    """The module of a file, by a name that no other file has; what stands beside it can be imported by it."""
    source = file.read_text(encoding="utf-8")
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["__rlreason_source__"] = source
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module  # where pickle and dataclasses look for what the file defines
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a file may change twice within its time stamp
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return module
