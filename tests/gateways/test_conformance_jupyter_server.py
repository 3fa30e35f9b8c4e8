"""The whole API against Jupyter Servers of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from support.conformance import OPEN, Conformance
from support.servers import Server, jupyter_server, kernel_gateway

_NO_ENV = {"test_environment_variables": "It starts kernels with its own environment only"}


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

    name: ClassVar = "one without token and password, which wants the proof of its cookie instead"
    cannot: ClassVar = {**_NO_ENV, **OPEN}

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with jupyter_server(tmp_path_factory.mktemp("open"), token=False) as server:
            yield server


class TestJupyterServerOfAUser(Conformance):
    """Under a path of its user, as JupyterHub has it."""

    name: ClassVar = "one under ``/user/name/``, as JupyterHub has them"
    cannot: ClassVar = _NO_ENV

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with jupyter_server(tmp_path_factory.mktemp("user"), base="/user/me/") as server:
            yield server


class TestJupyterServerInFrontOfAGateway(Conformance):
    """Which passes everything on to a Kernel Gateway."""

    name: ClassVar = "one in front of a Kernel Gateway that may list its kernels"
    cannot: ClassVar = {
        **_NO_ENV,
        "test_buffers_go_both_ways": "It drops its connection to the gateway at a binary frame",
        "test_the_id_can_be_chosen": "It takes the id for that of a kernel to attach to",
        "test_a_kernelspec_without_a_file": "It answers 500 in place of the gateway's 404",
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
