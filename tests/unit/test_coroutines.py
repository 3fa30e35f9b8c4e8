"""What nbclient needs: who calls, what it started with, and which error it cleans up after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway_blocking.coroutines import (
    called_by_coroutine,
    error_before_cleanup_of_caller,
    startup_timeout_of_caller,
)


def method() -> bool:
    """In place of a method of the client."""
    return called_by_coroutine()


def test_only_a_coroutine_that_calls_directly_counts() -> None:
    """A function in between blocks, as do code of a cell and a callback of the loop."""

    def between() -> bool:
        return method()

    async def generator() -> AsyncIterator[bool]:
        yield method()

    async def main() -> tuple[bool, ...]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        loop.call_soon(lambda: future.set_result(method()))
        return (method(), await anext(generator()), between(), await future)

    assert asyncio.run(main()) == (True, True, False, False)
    assert method() is False


def test_a_coroutine_that_is_driven_without_a_loop_does_not_count() -> None:
    """There are no other tasks then, which a call could stop."""

    async def work() -> bool:
        return method()

    coroutine = work()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        assert stop.value is False


class Notebook:
    """As nbclient's client: it starts a kernel in a coroutine, and has a timeout for that."""

    def __init__(self, startup_timeout: Any) -> None:
        self.startup_timeout = startup_timeout

    async def start(self) -> float | None:
        return start_kernel()

    def start_blocking(self) -> float | None:
        return start_kernel()


def start_kernel() -> float | None:
    return startup_timeout_of_caller()


def test_the_startup_timeout_of_a_calling_coroutine_is_found() -> None:
    """A number counts, and only in a coroutine: other callers pass what they want."""
    assert asyncio.run(Notebook(7).start()) == 7.0
    assert asyncio.run(Notebook(None).start()) is None
    assert Notebook(7).start_blocking() is None

    async def function() -> float | None:
        return start_kernel()

    assert asyncio.run(function()) is None


def shutdown_kernel() -> BaseException | None:
    return error_before_cleanup_of_caller()


def _async_cleanup_kernel() -> BaseException | None:
    return shutdown_kernel()


def test_the_error_before_the_cleanup_of_nbclient_is_found() -> None:
    """Only there: in another ``except`` block the caller expects the error of its call."""
    error = ValueError("of the notebook")
    try:
        raise error
    except ValueError:
        assert _async_cleanup_kernel() is error
        assert shutdown_kernel() is None
    assert _async_cleanup_kernel() is None
