"""Clean-up of what is given up: connections, kernels, and the error that is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from gateway_blocking import (
    BlockingGatewayKernelManager,
    BlockingGatewayMultiKernelManager,
    run_kernel,
    start_new_kernel,
)
from gateway_blocking.local import LocalGateway
from support.servers import own_gateway


def test_shutdown_kernel_lets_go_of_all(gateway: LocalGateway) -> None:
    """As jupyter_client's, which calls cleanup_resources(): context and connections are closed."""
    km = BlockingGatewayKernelManager(**gateway.options())
    km.start_kernel()
    context = km.context
    km.refresh_model()
    assert open_connections(km)
    km.shutdown_kernel()
    assert context.closed
    assert not open_connections(km)
    km.shutdown_kernel()


def test_letting_go_of_a_kernel_lets_go_of_all(gateway: LocalGateway) -> None:
    """Also of one that was attached to, and goes on running."""
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        other = BlockingGatewayKernelManager(kernel_id=km.kernel_id, **gateway.options())
        other.start_kernel()
        assert open_connections(other)
        other.shutdown_kernel()
        assert not open_connections(other)
        assert km.is_alive()


def open_connections(km: BlockingGatewayKernelManager) -> int:
    pools = km.rest._http._session.get_adapter(km.gateway.kernels_url).poolmanager.pools  # type: ignore[attr-defined]
    return sum(pools.get(key).pool.qsize() for key in pools.keys())  # noqa: SIM118


def one_kernel(gateway: LocalGateway) -> Iterator[None]:
    with run_kernel(**gateway.options(), connect_timeout=5):
        yield


def manager_of_one(gateway: LocalGateway) -> Iterator[None]:
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        yield


def manager_of_several(gateway: LocalGateway) -> Iterator[None]:
    with BlockingGatewayMultiKernelManager(**gateway.options()) as kernels:
        kernels.start_kernel()
        kernels.start_kernel()
        yield


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt])
def test_what_fails_in_a_clean_up_does_not_hide_the_error(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway is gone when an error ends a ``with``: it becomes a note on that error."""
    blocks = [contextmanager(block) for block in (one_kernel, manager_of_one, manager_of_several)]
    with own_gateway() as gateway:
        with pytest.raises(kind, match="mine") as caught, ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block(gateway))
            gateway.stop()
            raise kind("mine")
        notes = caught.value.__notes__
        assert len(notes) == len(blocks)
        for note in notes:
            assert note.startswith("While cleaning up: Gateway")
            assert "DELETE http://127.0.0.1" in note
        assert ("While cleaning up" in caplog.text) == (kind is SystemExit)


def test_what_fails_in_a_clean_up_alone_is_an_error() -> None:
    """A kernel that could not be shut down is told."""
    with (
        own_gateway() as gateway,
        pytest.raises(ConnectionError, match="DELETE"),
        run_kernel(**gateway.options()),
    ):
        gateway.stop()


def test_a_failed_start_is_told_and_not_the_clean_up_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a kernel that is not ready, with a gateway that is gone meanwhile."""
    with own_gateway() as gateway:

        def fail(*_: object, **__: object) -> None:
            gateway.stop()
            raise RuntimeError("not ready")

        kind = "gateway_blocking.BlockingGatewayKernelClient.wait_for_ready"
        monkeypatch.setattr(kind, fail)
        with pytest.raises(RuntimeError, match="not ready") as caught:
            start_new_kernel(**gateway.options())
        assert "While cleaning up: GatewayConnectionError" in str(caught.value.__notes__)
