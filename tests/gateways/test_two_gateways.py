"""Gateways with different logins and TLS, used at the same time in one process: nothing mixes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from threading import Barrier
from typing import Any

import pytest

from gateway_blocking import BlockingGatewayKernelManager, GatewayError, NoSuchKernel
from support.conformance import run
from support.servers import Server, encrypted_kernel_gateway, jupyter_server

_THREADS = 16


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """TLS of one authority; TLS of another, and a certificate of ours; no TLS, but cookies."""
    folder = tmp_path_factory.mktemp
    with (
        encrypted_kernel_gateway(folder("one")) as one,
        encrypted_kernel_gateway(folder("two"), client_cert=True) as two,
        jupyter_server(folder("three")) as three,
    ):
        yield [one, two, Server(three.url, {**three.options, "accept_cookies": True})]


def test_nothing_mixes(servers: list[Server]) -> None:
    """Sixteen threads: each starts a kernel, uses it and shuts it down, all at once."""
    together = Barrier(_THREADS)

    def work(number: int, server: Server) -> tuple[Server, str]:
        with BlockingGatewayKernelManager(**server.client_options()) as km:
            together.wait(60)
            km.start_kernel()
            with km.client() as kc:
                kc.wait_for_ready(timeout=60)
                for turn in range(5):
                    assert run(kc, f"print({number}, {turn})") == f"{number} {turn}\n"
                km.interrupt_kernel()
                together.wait(60)
                for other in servers:  # here, and nowhere else
                    options: dict[str, Any] = {"kernel_id": km.kernel_id, **other.client_options()}
                    with BlockingGatewayKernelManager(**options) as stranger:
                        if other is server:
                            stranger.start_kernel()
                        else:
                            with pytest.raises(NoSuchKernel):
                                stranger.start_kernel()
            assert km.gateway.auth_token == server.options["auth_token"]
            return server, str(km.kernel_id)

    turns = list(islice(cycle(servers), _THREADS))
    with ThreadPoolExecutor(_THREADS) as pool:
        done = list(pool.map(work, range(_THREADS), turns))
    assert len({kernel_id for _, kernel_id in done}) == _THREADS


def test_the_login_of_one_does_not_open_another(servers: list[Server]) -> None:
    """So that the test above can fail: whoever mixed them would be refused."""
    for server in servers:
        for other in servers:
            if other is not server:
                km = BlockingGatewayKernelManager(url=server.url, **other.options)
                with pytest.raises(GatewayError):
                    km.start_kernel()
                km.cleanup_resources()
