"""What blocks a thread: done in another one, so that whoever waits for it can give up in time."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def begin_beside(work: Callable[[], T]) -> Future[T]:
    """Begins some work in a thread of its own, which no program waits for that ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it's for those who wait
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=copy_context().run, args=(run,), daemon=True).start()
    return future
