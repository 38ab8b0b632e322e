"""Scores of outcome reward models joined with outcomes."""

import pytest
from study.made import make_run, rollout, write_stage

from rlreason.run.store import write_scores
from rlreason.study.arms import Arm
from rlreason.study.calibration import calibration, scores_and_outcomes
from rlreason.study.folders import read_study


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "study", accuracies=(0.2, 0.5), name="run")


def arm(folder):
    return Arm("ei", "sparse", "scratch", "tiny", "", read_study(folder.parent).runs)


def write(folder, scores):
    outcomes = (True, True, False, False)
    sampled = [rollout(f"q{number // 2}", number % 2, "1+1=2\n#### 2", right) for number, right in enumerate(outcomes)]
    write_stage(folder, "test-final-sampled", sampled)
    path = folder / "rollouts/scores-test-final-sampled.parquet"
    # In another order than the rollouts: they are joined by question and sample, not by row.
    write_scores(path, list(reversed(sampled)), list(reversed(scores)))


def test_the_last_step_scores_a_solution(run):
    write(run, [(0.1, 0.9), (0.35,), (0.9, 0.3), ()])
    scores, right = scores_and_outcomes(read_study(run.parent).runs[0], "final")
    assert sorted(zip(scores, right, strict=True)) == [(0.0, False), (0.3, False), (0.35, True), (0.9, True)]
    found = calibration(arm(run))
    assert (found.auc, found.solutions, found.seeds) == (1.0, 4, 1)
    # Bins 0.0, 0.3 (two solutions of mean 0.325, half right) and 0.9.
    assert found.curve == ((0.0, 0.0, 1), (pytest.approx(0.325), 0.5, 2), (pytest.approx(0.9), 1.0, 1))
    assert found.error == pytest.approx((0 + 2 * 0.175 + 0.1) / 4)


def test_ties_count_half(run):
    write(run, [(0.5,), (0.5,), (0.5,), (0.1,)])
    assert calibration(arm(run)).auc == pytest.approx(0.75)


def test_no_scores_no_calibration(run):
    (run / "rollouts/scores-test-final-sampled.parquet").unlink()
    assert calibration(arm(run)) is None


def test_scores_of_other_samples_are_refused(run):
    write(run, [(0.5,)] * 4)
    write_stage(run, "test-final-sampled", [rollout("other", 0, "x", False)])
    with pytest.raises(ValueError, match="scores other samples"):
        calibration(arm(run))
