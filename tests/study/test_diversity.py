"""Diversity of rollouts whose solutions are known."""

import pytest
from study.made import make_run, rollout, write_stage

from rlreason.study.arms import Arm
from rlreason.study.diversity import edit_distance, edit_distances, over_training
from rlreason.study.folders import read_study
from rlreason.study.readings import readings


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path / "study", accuracies=(0.2, 0.5, 0.6), name="run")
    return tmp_path / "study/run"


def read(folder):
    return read_study(folder.parent).runs[0]


def write_known(folder):
    """Two questions; q1 is solved in one way, then again and in a second way; q2 once, in the second round."""
    write_stage(
        folder,
        "round-1",
        [
            rollout("q1", 0, "1+2=3\n#### 3", True),
            rollout("q1", 1, "1 + 2 = 3\n#### 3", True),  # the same operations, spelt differently
            rollout("q2", 0, "9+9=18\n#### 18", False),
            rollout("q2", 1, "1+2=3\n#### 3", False),
        ],
    )
    write_stage(
        folder,
        "round-2",
        [
            rollout("q1", 0, "1+2=3\n#### 3", True),
            rollout("q1", 1, "2+1=3\n#### 3", True),
            rollout("q2", 0, "1+2=3\n#### 3", True),  # new for this question
            rollout("q2", 1, "9+9=18\n#### 18", False),
        ],
    )


def test_different_right_solutions_are_counted_once_for_every_question(folder):
    write_known(folder)
    first, second = over_training(read(folder))
    assert (first.samples, first.right, first.distinct, first.repeated) == (4, 0.5, 0.5, 0.0)
    assert (second.samples, second.right, second.distinct) == (8, 0.75, 1.5)
    assert second.repeated == pytest.approx(1 / 3)


def test_many_batches_become_twelve_points(tmp_path):
    make_run(tmp_path, "ppo", accuracies=(0.5, 0.5), files=30)
    points = over_training(read_study(tmp_path).runs[0])
    assert 8 <= len(points) <= 12
    assert points[-1].samples == 30 * 60
    assert [point.distinct for point in points] == sorted(point.distinct for point in points)


def test_edit_distance_of_known_pairs(folder):
    texts = ("abcd", "abcd", "abcd", "abXY")
    pairs = [rollout(f"q{number // 2}", number % 2, text, False) for number, text in enumerate(texts)]
    write_stage(folder, "test-final-sampled", [*pairs, rollout("q0", 2, "zzzz", False), rollout("q9", 0, "a", False)])
    assert edit_distance(read(folder), "final") == pytest.approx((0 + 0.5) / 2)
    assert edit_distance(read(folder), "round-7") is None


def test_an_arm_has_a_distance_only_if_all_its_seeds_have(folder):
    make_run(folder.parent, accuracies=(0.2, 0.5), name="other", seed=1)
    arm = Arm("ei", "sparse", "scratch", "tiny", "", read_study(folder.parent).runs)
    assert all(0 < distance < 1 for distance in edit_distances(arm, "final"))
    assert len(edit_distances(arm, "final")) == len(arm.runs)
    (folder / "rollouts/test-final-sampled.parquet").unlink()
    assert edit_distances(arm, "final") == ()


def test_a_corrupt_file_of_rollouts_is_named_and_costs_only_what_needs_it(folder):
    (folder / "rollouts/round-1.parquet").write_bytes(b"PAR1 and nothing else")
    arm = Arm("ei", "sparse", "scratch", "tiny", "", read_study(folder.parent).runs)
    found, (trouble,) = readings([arm])
    assert "round-1.parquet cannot be read" in trouble
    assert found[arm].found == ()
    assert found[arm].edit_distance is not None
    assert found[arm].calibration is not None
