"""Hydra's sweeper of every combination, which plans a study first and counts what failed.

Hydra loads plugins only from this namespace, at every start; so everything else is in `rlreason.sweep`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class StudySweeper(BasicSweeper):  # type: ignore[misc]
    """Runs every combination of the values that are swept over.

    Args:
        settings: What a study sets beside some of its choices, such as {"algo=sft": ["algo.epochs=4"]}.
        keywords: Of Hydra's own sweeper.
    """

    def __init__(self, settings: Mapping[str, Sequence[str]], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.settings = settings

    def setup(self, *, config: Any, **keywords: Any) -> None:
        """Make the launcher."""
        if config.hydra.launcher.get("batch_size") == "auto":
            # Joblib would batch jobs together once some are answered at once, and leave other processes idle.
            config.hydra.launcher.batch_size = "1"
        super().setup(config=config, **keywords)

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination of `arguments` and of the parameters of the configuration."""
        from rlreason.sweep import raise_failures, run_sweep, with_settings

        combinations: Sequence[Sequence[str]] = self.split_arguments(self.parsed(arguments), None)[0]
        outcomes = run_sweep(
            [with_settings(combination, self.settings) for combination in combinations],
            self.composed,
            partial(self.launcher.launch, initial_job_idx=0),
        )
        raise_failures(outcomes)

    def parsed(self, arguments: list[str]) -> list[Any]:
        """The overrides of the command line and the parameters of the configuration, as Hydra reads them."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return list(parser.parse_overrides([*self._parse_config(), *arguments]))

    def composed(self, combination: Sequence[str]) -> Any:
        """The configuration of one job, with Hydra's own section."""
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(combination))


class TuningSweeper(StudySweeper):
    """Searches the settings of every algorithm that is swept over, each for as many trials.

    Args:
        trials: Of every algorithm.
        seeds: Those of every trial.
        fresh_seeds: Those on which the winner and the untuned settings are compared.
        keywords: As for a study.
    """

    def __init__(self, trials: int, seeds: Sequence[int], fresh_seeds: Sequence[int], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.trials, self.seeds, self.fresh_seeds = trials, tuple(seeds), tuple(fresh_seeds)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials, then the winners; write what was found."""
        from rlreason.tuning.search import Search
        from rlreason.tuning.sweep import run_search

        run_search(
            Search(self.trials, self.seeds, self.fresh_seeds),
            self.parsed(arguments),
            self.settings,
            self.composed,
            partial(self.launcher.launch, initial_job_idx=0),
        )
