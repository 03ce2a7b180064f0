"""Small objects of a bucket, in order, fetched some ahead of who wants them.

There is a fast lane, open connections on which objects are asked for in plain HTTP; and there is `Bucket.read` on many
threads, several times the work, which has the patience and the explanations. An object of which the fast lane does not
give the very content that was listed is read the other way, so nothing that is told of an object rests on the fast lane.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

from s3logx_assets.adapters.http_gets import Connection, Origin
from s3logx_assets.adapters.s3 import Bucket, StoredObject

# The objects ahead, and their bytes but for the last one's.
_MOST = 64
_MOST_BYTES = 32 << 20
# So many are ordered at a time, which costs less for each, ourselves and the server.
_STEP = 32
_THREADS = 32
# What is larger than a socket takes in by itself would come one after the other.
_FAST = 1 << 17
# When so many in a row fail, the fast lane is closed for so many objects.
_PATIENCE = 4
_PAUSE = 1000


def ahead(
    bucket: Bucket, wanted: Iterable[StoredObject], largest: int
) -> Generator[bytes | Exception | None, None, None]:
    """For each object its content, or what `Bucket.read` raised; None for one over `largest` bytes, which is not fetched.
    What is on its way or waits to be taken is bounded by number and bytes."""
    rest = iter(wanted)
    with ThreadPoolExecutor(_THREADS) as pool, closing(_Orders(bucket, pool, largest)) as orders:
        while True:
            if len(orders) <= _MOST - _STEP:
                orders.place(rest)
            if not len(orders):
                return
            yield orders.take()


@dataclass(slots=True)
class _Order:
    """An object on its way: on a connection, or read by a thread, or neither where it is too large."""

    item: StoredObject
    connection: Connection | None = None
    reading: Future[bytes] | None = None


class _Orders:
    """The objects on their way, first come, first served."""

    def __init__(self, bucket: Bucket, pool: ThreadPoolExecutor, largest: int) -> None:
        self._bucket = bucket
        self._pool = pool
        self._largest = largest
        self._lane = _FastLane(bucket, pool)
        self._waiting: deque[_Order] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def place(self, rest: Iterator[StoredObject]) -> None:
        """As many more as there is room for, behind the others."""
        orders: list[_Order] = []
        while len(self._waiting) < _MOST and self._bytes < _MOST_BYTES:
            item = next(rest, None)
            if item is None:
                break
            orders.append(_Order(item))
            self._waiting.append(orders[-1])
            self._bytes += item.size if item.size <= self._largest else 0
        fetched = [order for order in orders if order.item.size <= self._largest]
        self._lane.ask([order for order in fetched if order.item.size <= _FAST])
        for order in fetched:
            if order.connection is None:
                self._read(order)

    def take(self) -> bytes | Exception | None:
        """What became of the first."""
        order = self._waiting.popleft()
        self._bytes -= order.item.size if order.item.size <= self._largest else 0
        if order.connection is not None:
            content = self._lane.answer(order.connection, order.item)
            if content is not None:
                return content
            self._read(order)
            if not self._lane.is_open:
                self._read_all()
        if order.reading is None:
            return None
        try:
            return order.reading.result()
        except Exception as error:
            return error

    def close(self) -> None:
        """Ends what is on its way."""
        for order in self._waiting:
            if order.connection is not None:
                order.connection.close()
            if order.reading is not None:
                order.reading.cancel()
        self._lane.close()

    def _read(self, order: _Order) -> None:
        order.connection = None
        order.reading = self._pool.submit(self._bucket.read, order.item)

    def _read_all(self) -> None:
        """Gives up what the fast lane was asked for; or one after the other would be found to have failed."""
        for order in self._waiting:
            if order.connection is not None:
                order.connection.close()
                self._read(order)


class _FastLane:
    """Connections to where the bucket is, opened when there is use for them."""

    def __init__(self, bucket: Bucket, pool: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._pool = pool
        self._origin: Origin | None = None
        self._idle: list[Connection] = []
        self._opening: list[Future[Connection]] = []
        self._failed = 0
        self._pause = 0

    @property
    def is_open(self) -> bool:
        """Whether it is of use at present."""
        return self._pause <= 0

    def ask(self, orders: Sequence[_Order]) -> None:
        """Asks for as many of the objects as there are connections, which these orders get."""
        if not self.is_open:
            self._pause -= len(orders)
        elif orders:
            try:
                origin, requests = self._bucket.requests([order.item.key for order in orders])
                self._connect(origin, len(orders))
            except Exception:  # `Bucket.read` will meet it too, and explain it
                self._fail()
                return
            for order, request in zip(orders, requests, strict=True):
                if not self._idle:
                    break
                order.connection = self._idle.pop()
                order.connection.ask(request)

    def answer(self, connection: Connection, item: StoredObject) -> bytes | None:
        """An object's content, as it was listed."""
        content = connection.answer(item.size, item.version)
        if content is None:
            self._fail()
        else:
            self._failed = 0
            self._idle.append(connection)
        return content

    def close(self) -> None:
        """Closes the connections that no order has."""
        for connection in self._idle:
            connection.close()
        for opening in self._opening:
            if not opening.cancel():
                opening.add_done_callback(_close_opened)

    def _connect(self, origin: Origin, count: int) -> None:
        """Sees to so many connections. It waits for the first ones alone: what is opened later serves later objects."""
        for connection in [each for each in self._idle if not each.is_fresh]:
            connection.close()
            self._idle.remove(connection)
        is_first = self._origin is None
        self._origin = self._origin or origin.prepared()
        lacking = count - len(self._idle) - len(self._opening)
        self._opening += [self._pool.submit(self._origin.connect) for _ in range(lacking)]
        if is_first:
            wait(self._opening)
        opened = [opening for opening in self._opening if opening.done()]
        self._opening = [opening for opening in self._opening if opening not in opened]
        self._idle += [opening.result() for opening in opened if opening.exception() is None]
        if any(opening.exception() is not None for opening in opened):
            self._fail()

    def _fail(self) -> None:
        self._failed += 1
        if self._failed >= _PATIENCE:
            self._failed, self._pause = 0, _PAUSE


def _close_opened(opening: Future[Connection]) -> None:
    if opening.exception() is None:
        opening.result().close()
