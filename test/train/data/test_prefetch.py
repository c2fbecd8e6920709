"""Batches made ahead: the same ones, one at a time, their errors where they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from fixtures.latent_source import FixedLatents

from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.data.prefetch import Prefetch, Request

REQUESTS: list[Request] = [(step, range(2), 1 + step % 2) for step in range(4)]


class Watched(FixedLatents):
    """Tells when the batch of a step is begun, and waits there if it is to."""

    def __init__(self, fails: int = -1) -> None:
        super().__init__()
        self.begun = [threading.Event() for _ in REQUESTS]
        self.go_on = [threading.Event() for _ in REQUESTS]
        for gate in self.go_on:
            gate.set()
        self.fails = fails
        self.threads: set[int] = set()

    def batch(self, step: int, indices: Sequence[int], latent_frames: int) -> LatentBatch:
        self.begun[step].set()
        self.threads.add(threading.get_ident())
        assert self.go_on[step].wait(60)
        if step == self.fails:
            raise OSError("the disk is gone")
        return super().batch(step, indices, latent_frames)


def test_the_next_one_is_made_meanwhile_and_no_more() -> None:
    source = Watched()
    prefetch = Prefetch(source)
    made = [prefetch.batch(REQUESTS[0], REQUESTS[1])]
    assert source.begun[1].wait(60)
    prefetch.settle()
    assert not source.begun[2].is_set()
    made += [prefetch.batch(REQUESTS[1], REQUESTS[2]), prefetch.batch(REQUESTS[2], None)]
    prefetch.close()
    assert [step for step, _, _ in source.asked] == [0, 1, 2]
    assert len(source.threads) == 1
    for batch, request in zip(made, REQUESTS, strict=False):
        assert torch.equal(batch.rgb, FixedLatents().batch(*request).rgb)


def test_another_request_than_the_one_ahead_is_answered() -> None:
    prefetch = Prefetch(Watched())
    prefetch.batch(REQUESTS[0], REQUESTS[1])
    batch = prefetch.batch(REQUESTS[3], None)
    assert torch.equal(batch.rgb, FixedLatents().batch(*REQUESTS[3]).rgb)
    prefetch.close()


def test_an_error_comes_with_its_own_batch() -> None:
    source = Watched(fails=1)
    prefetch = Prefetch(source)
    prefetch.batch(REQUESTS[0], REQUESTS[1])
    prefetch.settle()
    with pytest.raises(OSError, match="the disk is gone"):
        prefetch.batch(REQUESTS[1], REQUESTS[2])
    prefetch.close()
    assert not source.begun[2].is_set()


def test_settled_nothing_is_being_made() -> None:
    source = Watched()
    prefetch = Prefetch(source)
    source.go_on[1].clear()
    prefetch.batch(REQUESTS[0], REQUESTS[1])
    assert source.begun[1].wait(60)
    settling = threading.Thread(target=prefetch.settle)
    settling.start()
    settling.join(0.2)
    assert settling.is_alive(), "it waits"
    source.go_on[1].set()
    settling.join()
    assert [step for step, _, _ in source.asked] == [0, 1]
    prefetch.close()
