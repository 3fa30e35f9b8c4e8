"""The logger of the package."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from traitlets.config import Application, LoggingConfigurable

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    BlockingGatewayKernelSpecManager,
    BlockingGatewayMultiKernelManager,
    BlockingGatewaySessionManager,
    GatewayClient,
)

CLASSES = [
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    BlockingGatewayKernelSpecManager,
    BlockingGatewayMultiKernelManager,
    BlockingGatewaySessionManager,
    GatewayClient,
]


@pytest.fixture
def application() -> Iterator[Application]:
    Application.clear_instance()
    yield Application.instance()
    Application.clear_instance()


@pytest.mark.parametrize("cls", CLASSES)
def test_messages_go_to_the_logger_of_the_package(cls: type[LoggingConfigurable]) -> None:
    """It is silent until a handler is added, as with every library."""
    Application.clear_instance()
    assert cls().log is logging.getLogger("gateway_blocking")
    assert isinstance(logging.getLogger("gateway_blocking").handlers[0], logging.NullHandler)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_application_has_the_messages(
    cls: type[LoggingConfigurable], application: Application
) -> None:
    """Jupyter's applications configure their own log."""
    assert cls().log is application.log


@pytest.mark.parametrize("cls", CLASSES)
def test_a_parent_has_the_messages(
    cls: type[LoggingConfigurable], application: Application
) -> None:
    """Its logger precedes that of the application."""
    parent = LoggingConfigurable(log=logging.getLogger("tests"))
    assert cls(parent=parent).log is parent.log
