"""Every request is drawn once, in whatever order replicas finish their work and die."""

import hypothesis.strategies as st
from hypothesis import given

from rlreason.engines.spreading import CHUNKS, Spread

SEQUENCES = st.tuples(st.lists(st.integers(0, 8), max_size=60), st.integers(1, 4), st.integers(1, 12))


@given(SEQUENCES, st.data())
def test_each_request_arrives_once_whatever_finishes_or_dies_when(sequence, data):
    questions, replicas, room = sequence
    spread = Spread([str(question) for question in questions], replicas, room, {})
    living = set(range(replicas))
    arrived = []
    while spread.left:
        spread.hand_out(living)
        assert all(number in living for number, held in spread.held.items() if held)
        held = [number for numbers in spread.held.values() for number in numbers]
        assert len(held) == len(set(held)) and not set(held) & set(arrived)
        assert held, "with work left, somebody has something to do"
        replica = data.draw(st.sampled_from(sorted(number for number in living if spread.held[number])))
        if len(living) > 1 and data.draw(st.integers(0, 4)) == 0:
            living.remove(replica)
            spread.lost(replica)
            if data.draw(st.booleans()):
                assert spread.arrived(replica, held) == [], "what a lost replica says later counts for nothing"
            continue
        finished = data.draw(st.lists(st.sampled_from(sorted(spread.held[replica])), min_size=1, unique=True))
        arrived += spread.arrived(replica, finished)
        assert spread.arrived(replica, finished) == [], "said twice, counted once"
    assert sorted(arrived) == list(range(len(questions)))


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 20))
def test_the_first_hand_out_is_even_and_leaves_room(count, replicas, room):
    spread = Spread([str(number // 8) for number in range(count)], replicas, room, {})
    spread.hand_out(range(replicas))
    sizes = [len(spread.held[number]) for number in range(replicas)]
    most = -(-count // (CHUNKS * replicas))
    assert max(sizes) - min(sizes) <= most
    assert max(sizes) < room + min(most, 8)


def test_samples_of_a_question_stay_together_and_with_the_replica_that_knows_it():
    homes = {}
    questions = [str(number % 10) for number in range(40)]
    spread = Spread(questions, 2, 100, homes)
    first = spread.hand_out([0, 1])
    of_question = {questions[number]: replica for replica, numbers in first.items() for number in numbers}
    for replica, numbers in first.items():
        assert all(of_question[questions[number]] == replica for number in numbers)
    assert homes == of_question
    again = Spread(questions[::-1], 2, 100, homes).hand_out([0, 1])
    for replica, numbers in again.items():
        assert all(of_question[questions[::-1][number]] == replica for number in numbers)


def test_one_question_is_cut_so_that_all_replicas_work_on_it():
    given_out = Spread(["only"] * 96, 2, 1000, {}).hand_out([0, 1])
    assert [len(numbers) for numbers in given_out.values()] == [48, 48]


def test_work_that_a_lost_replica_held_comes_before_other_work():
    spread = Spread([str(number) for number in range(12)], 2, 2, {})
    first = spread.hand_out([0, 1])
    assert spread.lost(0) == 2
    spread.arrived(1, first[1])
    assert spread.hand_out([1]) == {1: first[0]}


def test_a_single_replica_without_a_limit_gets_everything_at_once():
    assert Spread(["a", "b", "a"], 1, float("inf"), {}).hand_out([0]) == {0: [0, 2, 1]}
