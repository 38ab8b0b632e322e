"""Seeds of rollouts."""

from rlreason.lab.sampling import derived_seed


def test_seeds_depend_on_every_part_and_fit_numpy():
    seeds = {derived_seed(0, stage, problem, sample) for stage in "ab" for problem in "xy" for sample in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)
