"""The whole API against an Enterprise Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from conformance import AS_INSTALLED, Conformance
from servers import Server, enterprise_gateway, environment_of_enterprise_gateway


@pytest.mark.timeout(700)  # for the first time, when it is installed
class TestEnterpriseGateway(Conformance):
    """With a token, and kernels on this machine."""

    name: ClassVar = "an Enterprise Gateway 3.3 with a token, and kernels on its own machine"
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
