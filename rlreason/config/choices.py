"""The choice of a group that a setting names, as Hydra composes it."""

from __future__ import annotations

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
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group)
    if name not in names:
        raise UserError(f"{name} is no choice of {group}; choose from: {', '.join(names)}")
    section = OmegaConf.to_container(compose(overrides=[f"+{group}={name}"])[group], resolve=True)
    return {str(key): value for key, value in section.items()} if isinstance(section, dict) else {}
