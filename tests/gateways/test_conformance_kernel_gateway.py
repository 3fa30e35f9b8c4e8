"""The whole API against Kernel Gateways of all kinds, and through nginx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from support.conformance import AS_INSTALLED, IDLE, OPEN, Conformance
from support.servers import Server, encrypted_kernel_gateway, kernel_gateway, nginx


class TestKernelGateway(Conformance):
    """With a token, and otherwise as it is installed."""

    name: ClassVar = "a Kernel Gateway 3.0 with a token, otherwise as it is installed"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with kernel_gateway(tmp_path_factory.mktemp("gateway")) as server:
            yield server


class TestOpenKernelGateway(Conformance):
    """Without a token; and it may list its kernels."""

    name: ClassVar = "one without a token, that may list its kernels"
    cannot: ClassVar = {
        "test_sessions_are_shared": AS_INSTALLED["test_sessions_are_shared"],
        **OPEN,
    }

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        listing = "--JupyterWebsocketPersonality.list_kernels=True"
        with kernel_gateway(tmp_path_factory.mktemp("open"), listing, token=False) as server:
            yield server


class TestKernelGatewayWithABasePath(Conformance):
    """Whose path has capitals and the letters http in it."""

    name: ClassVar = "one with a base path, which has capitals and the letters http in it"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with kernel_gateway(tmp_path_factory.mktemp("base"), base="/My/Http-gw") as server:
            yield server


class TestEncryptedKernelGateway(Conformance):
    """With TLS, and a certificate that a private authority signed."""

    name: ClassVar = "one with TLS, whose certificate a private authority has signed"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with encrypted_kernel_gateway(tmp_path_factory.mktemp("tls")) as server:
            yield server


class TestKernelGatewayWithClientCertificates(Conformance):
    """With TLS, and a certificate of the client asked for."""

    name: ClassVar = "one that asks the client for a certificate, too"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with encrypted_kernel_gateway(tmp_path_factory.mktemp("mtls"), client_cert=True) as server:
            yield server


class TestNginx(Conformance):
    """A reverse proxy with TLS, which ends what is idle, in front of a Kernel Gateway."""

    name: ClassVar = "one behind nginx, which adds TLS and ends what is idle for two seconds"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with (
            kernel_gateway(tmp_path_factory.mktemp("gateway")) as gateway,
            nginx(tmp_path_factory.mktemp("nginx"), gateway, IDLE) as server,
        ):
            yield server
