"""The whole API against an Enterprise Gateway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest

from gateway_blocking import GatewayClient, NoSuchKernel
from gateway_blocking.rest import GatewayREST
from support.conformance import AS_INSTALLED, Conformance
from support.servers import Server, enterprise_gateway, environment_of_enterprise_gateway
from support.waiting import wait_until


@pytest.mark.timeout(700)  # for the first time, when it is installed
class TestEnterpriseGateway(Conformance):
    """With a token, and kernels on this machine."""

    name: ClassVar = "an Enterprise Gateway 3.3 with a token and local kernels"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(
        cls, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
    ) -> Iterator[Server]:
        cache = pytestconfig.cache
        assert cache is not None
        python = environment_of_enterprise_gateway(cache.mkdir("enterprise-gateway"))
        with enterprise_gateway(tmp_path_factory.mktemp("gateway"), python) as server:
            yield server

    def test_a_kernel_ends_with_an_owner_that_is_killed(self, server: Server) -> None:
        """The gateway reads the ID of the kernel elsewhere than the others do."""
        code = (
            "import os, signal, sys; from gateway_blocking import *;"
            " km, kc = start_new_kernel(kernel_name='python3', url=sys.argv[1],"
            " auth_token=sys.argv[2]); print(km.kernel_id, flush=True);"
            " os.kill(os.getpid(), signal.SIGKILL)"
        )
        command = [sys.executable, "-c", code, server.url, server.options["auth_token"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        kernel_id = done.stdout.strip()
        assert kernel_id, done
        with GatewayREST(GatewayClient(**server.client_options())) as rest:
            wait_until(lambda: is_gone(rest, kernel_id))


def is_gone(rest: GatewayREST, kernel_id: str) -> bool:
    """Whether the gateway, which lists no kernels, does not know this one any more."""
    try:
        rest.get_kernel(kernel_id)
    except NoSuchKernel:
        return True
    return False
