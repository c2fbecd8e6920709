"""The next batch made in a thread while the present one is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from dkt_ros.train.data.latents import LatentBatch, LatentSource

Request = tuple[int, Sequence[int], int]
"""Arguments of LatentSource.batch."""


class Prefetch:
    """Batches of a source, all made in one thread of its own, one of them ahead.

    A batch depends on its request alone, so that nothing changes but the time it takes.
    """

    def __init__(self, source: LatentSource) -> None:
        self._source = source
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dkt-batch")
        self._ahead: tuple[Request, Future[LatentBatch]] | None = None

    def batch(self, request: Request, following: Request | None) -> LatentBatch:
        """The batch of a request; the following one is begun. Raises what making it raised."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] != request:
            ahead = request, self._pool.submit(self._source.batch, *request)
        made = ahead[1].result()
        if following is not None:
            self._ahead = following, self._pool.submit(self._source.batch, *following)
        return made

    def settle(self) -> None:
        """Waits until the source, and the VAE that it uses, are at rest."""
        if self._ahead is not None:
            wait([self._ahead[1]])

    def close(self) -> None:
        """Ends the thread, once it has made what it is making."""
        self._pool.shutdown(cancel_futures=True)
