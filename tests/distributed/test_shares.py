"""How heads are divided between GPUs."""

import pytest

from rlreason.distributed.shares import check_heads
from rlreason.errors import UserError


@pytest.mark.parametrize(("heads", "of_keys", "size"), [(32, 32, 8), (14, 2, 14), (40, 40, 5), (4, 4, 1)])
def test_a_model_is_split_where_its_heads_can_be(heads, of_keys, size):
    check_heads(heads, of_keys, size, "m")


def test_a_split_that_does_not_divide_the_heads_is_refused_with_those_that_do():
    with pytest.raises(UserError, match=r"size=3 does not divide the 32 attention .* 1, 2, 4, 8, 16, 32$"):
        check_heads(32, 32, 3, "m")
    with pytest.raises(UserError, match=r"12 attention heads of model=m \(4 of keys .*; choose from: 1, 2, 4, 12$"):
        check_heads(12, 4, 6, "m")
