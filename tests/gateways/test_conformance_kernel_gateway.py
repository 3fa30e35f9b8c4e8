"""The whole API against Kernel Gateways of all kinds, and through nginx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from support.conformance import AS_INSTALLED, IDLE, OPEN, Conformance
from support.servers import Server, encrypted_kernel_gateway, kernel_gateway, nginx


class TestKernelGateway(Conformance):
    """With a token, and otherwise as it is installed."""

    name: ClassVar = "a Kernel Gateway 3.0 with a token and its default options"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with kernel_gateway(tmp_path_factory.mktemp("gateway")) as server:
            yield server


class TestOpenKernelGateway(Conformance):
    """Without a token; and it may list its kernels."""

    name: ClassVar = "a Kernel Gateway without a token, which lists its kernels"
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

    name: ClassVar = "a Kernel Gateway with a base path, which has capitals and contains http"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with kernel_gateway(tmp_path_factory.mktemp("base"), base="/My/Http-gw") as server:
            yield server


class TestEncryptedKernelGateway(Conformance):
    """With TLS, and a certificate that a private authority signed."""

    name: ClassVar = "a Kernel Gateway with TLS and a certificate of a private CA"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with encrypted_kernel_gateway(tmp_path_factory.mktemp("tls")) as server:
            yield server


class TestKernelGatewayWithClientCertificates(Conformance):
    """With TLS, and a certificate of the client asked for."""

    name: ClassVar = "a Kernel Gateway that also requires a client certificate"
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with encrypted_kernel_gateway(tmp_path_factory.mktemp("mtls"), client_cert=True) as server:
            yield server


class TestNginx(Conformance):
    """A reverse proxy with TLS, which ends what is idle, in front of a Kernel Gateway."""

    name: ClassVar = (
        "a Kernel Gateway behind nginx with TLS, which closes a connection after two idle seconds"
    )
    cannot: ClassVar = AS_INSTALLED

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with (
            kernel_gateway(tmp_path_factory.mktemp("gateway")) as gateway,
            nginx(tmp_path_factory.mktemp("nginx"), gateway, IDLE) as server,
        ):
            yield server
