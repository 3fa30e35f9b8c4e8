"""The whole API against Jupyter Servers of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from support.conformance import OPEN, Conformance
from support.servers import Server, jupyter_server, kernel_gateway

_NO_ENV = {"test_environment_variables": "It starts kernels only with its own environment"}


class TestJupyterServer(Conformance):
    """With a token."""

    name: ClassVar = "a Jupyter Server 2 with a token"
    cannot: ClassVar = _NO_ENV

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with jupyter_server(tmp_path_factory.mktemp("server")) as server:
            yield server


class TestOpenJupyterServer(Conformance):
    """Without token and password, where it wants the proof of its cookie."""

    name: ClassVar = "a Jupyter Server 2 without token and password, which requires its cookie"
    cannot: ClassVar = {**_NO_ENV, **OPEN}

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with jupyter_server(tmp_path_factory.mktemp("open"), token=False) as server:
            yield server


class TestJupyterServerOfAUser(Conformance):
    """Under a path of its user, as JupyterHub has it."""

    name: ClassVar = "a Jupyter Server 2 under ``/user/name/``, as in JupyterHub"
    cannot: ClassVar = _NO_ENV

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with jupyter_server(tmp_path_factory.mktemp("user"), base="/user/me/") as server:
            yield server


class TestJupyterServerInFrontOfAGateway(Conformance):
    """Which passes everything on to a Kernel Gateway."""

    name: ClassVar = "a Jupyter Server 2 in front of a Kernel Gateway that lists its kernels"
    cannot: ClassVar = {
        **_NO_ENV,
        "test_buffers_go_both_ways": "A binary frame breaks its connection to the gateway",
        "test_the_id_can_be_chosen": "It looks for a running kernel with this ID",
        "test_a_kernelspec_without_a_file": "It responds with 500 instead of the gateway's 404",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        listing = "--JupyterWebsocketPersonality.list_kernels=True"  # as it demands
        with (
            kernel_gateway(tmp_path_factory.mktemp("gateway"), listing) as gateway,
            jupyter_server(tmp_path_factory.mktemp("front"), gateway=gateway) as server,
        ):
            yield server
