"""The order of pairs: repeatable, resumable, shared among processes."""

from __future__ import annotations

import pytest

from registration.errors import InputError
from registration.training.data import PairLoader, PairSampler


def test_the_order_is_that_of_seed_and_epoch() -> None:
    one, two = PairSampler(50, seed=1), PairSampler(50, seed=1)
    assert list(one) == list(two) and sorted(one) == list(range(50)) and list(one) != list(range(50))
    first = list(one)
    one.next_epoch()
    assert list(one) != first and sorted(one) == list(range(50))
    one.set_epoch(0)
    assert list(one) == first != list(PairSampler(50, seed=2))
    assert list(PairSampler(5, shuffle=False)) == [0, 1, 2, 3, 4]
    few, many = PairSampler(10**9, per_epoch=3), PairSampler(2, per_epoch=5)
    assert len(set(few)) == 3 == len(few) and len(list(many)) == 5 and {0, 1} == set(many)


def test_the_position_is_kept() -> None:
    whole = list(PairSampler(20, seed=4))
    sampler = PairSampler(20, seed=4)
    seen = []
    for index in PairLoader(range(20), sampler=sampler, batch_size=None, num_workers=1):  # type: ignore[arg-type]
        seen.append(index)
        sampler.advance(1)
        if len(seen) == 7:
            state = sampler.state_dict()
            break
    later = PairSampler(20, seed=4)
    later.load_state_dict(state)
    assert len(later) == 13 and seen + list(later) == whole
    later.set_epoch(0)
    assert len(later) == 13  # the present epoch goes on
    later.next_epoch()
    assert len(later) == 20
    for wrong in (PairSampler(21, seed=4), PairSampler(20, seed=5)):
        with pytest.raises(InputError, match="the order of pairs is another"):
            wrong.load_state_dict(state)


@pytest.mark.parametrize(("size", "ranks"), [(20, 2), (21, 2), (10, 3), (1, 4)])
def test_processes_share_an_epoch(size: int, ranks: int) -> None:
    parts = [list(PairSampler(size, seed=1, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert (
        len({len(part) for part in parts})
        == 1
        == len({len(PairSampler(size, rank=r, ranks=ranks)) for r in range(ranks)})
    )
    assert {i for part in parts for i in part} == set(range(size))
    if size % ranks == 0:
        mixed = [parts[k % ranks][k // ranks] for k in range(size)]
        assert mixed == list(PairSampler(size, seed=1))  # together they are the order of one process


def test_bad_samplers() -> None:
    with pytest.raises(InputError, match="empty"):
        PairSampler(0)
    with pytest.raises(InputError, match="per_epoch"):
        PairSampler(3, per_epoch=0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_pairs_of_one_epoch_come_again_in_other_orders(ranks: int) -> None:
    samplers = [PairSampler(100, seed=3, per_epoch=10, rank=rank, ranks=ranks) for rank in range(ranks)]

    def epoch() -> list[int]:
        return [index for sampler in samplers for index in sampler]

    def go_on() -> None:
        for sampler in samplers:
            sampler.next_epoch()

    first = epoch()
    go_on()
    second = epoch()
    for sampler in samplers:
        sampler.repeat()
    again = epoch()
    go_on()
    for sampler in samplers:
        sampler.repeat()  # what is repeated stays
    later = epoch()
    assert set(first) != set(second) == set(again) == set(later) and again != later
    resumed = PairSampler(100, seed=3, per_epoch=10, ranks=ranks)
    resumed.load_state_dict(samplers[0].state_dict())
    assert list(resumed) == list(samplers[0])
    old = samplers[0].state_dict()
    del old["repeated"]  # of a checkpoint from before
    resumed.load_state_dict(old)
    assert resumed.repeated is None
