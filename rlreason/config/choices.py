"""The choice of a group that a setting names, as Hydra composes it."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from rlreason.errors import UserError


def chosen(group: str, name: str) -> dict[str, Any]:
    """The section that a choice of a group is, from the folders of the command at work.

    Args:
        group: Such as "prompt".
        name: Of the choice, such as "few_shot".

    Raises:
        UserError: There is none of that name; the message begins with it.
    """
    from hydra.core.global_hydra import GlobalHydra

    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group)
    if name not in names:
        raise UserError(f"{name} is no choice of {group}; choose from: {', '.join(names)}")
    folders = tuple(str(item.path) for item in loader.get_search_path().get_path())
    return copy.deepcopy(_section(folders, group, name))


@lru_cache
def _section(folders: tuple[str, ...], group: str, name: str) -> dict[str, Any]:
    """Composed once for all jobs of a sweep, which have the same folders."""
    from hydra import compose
    from omegaconf import OmegaConf

    section = OmegaConf.to_container(compose(overrides=[f"+{group}={name}"])[group], resolve=True)
    return {str(key): value for key, value in section.items()} if isinstance(section, dict) else {}
