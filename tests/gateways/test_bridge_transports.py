"""How a front end reaches a bridge: files instead of ports, encryption, and who is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from zmq.utils.monitor import recv_monitor_message

from gateway_blocking.local import LocalGateway
from support.bridges import SPEC, bridge_kernelspec

HANDSHAKE_FAILED = {
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
    zmq.Event.HANDSHAKE_FAILED_AUTH,
}


@pytest.fixture(scope="module")
def _kernelspec(gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with bridge_kernelspec(gateway, tmp_path_factory.mktemp("bridge")):
        yield


@pytest.fixture
def km(
    _kernelspec: None, gateway: LocalGateway, request: pytest.FixtureRequest
) -> Iterator[KernelManager]:
    """jupyter_client's own manager, with the options of the test."""
    manager = KernelManager(kernel_name=SPEC, **request.param)
    manager.start_kernel()
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel()


@pytest.fixture
def kc(km: KernelManager) -> Iterator[BlockingKernelClient]:
    client = km.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()


def is_alive_and_executes(kc: BlockingKernelClient) -> bool:
    reply = kc.execute("6 * 7", reply=True, timeout=60)
    return reply["content"]["status"] == "ok" and kc.is_alive()


@pytest.mark.parametrize("km", [{"transport": "ipc"}], indirect=True)
def test_ipc(km: KernelManager, kc: BlockingKernelClient) -> None:
    """The sockets are files; no port of this machine is open, and none of the files is left."""
    files = [Path(f"{km.ip}-{port}") for port in km.ports]
    assert all(file.is_socket() for file in files)
    assert is_alive_and_executes(kc)
    km.restart_kernel()
    kc.wait_for_ready(timeout=60)
    assert is_alive_and_executes(kc)
    km.shutdown_kernel()
    assert not any(file.exists() for file in files)


@pytest.mark.skipif(
    not hasattr(KernelManager, "transport_encryption"),
    reason="this jupyter_client cannot encrypt",
)
@pytest.mark.parametrize("km", [{"transport_encryption": "required"}], indirect=True)
def test_curve(km: KernelManager, kc: BlockingKernelClient) -> None:
    """A front end that does not know the bridge's public key is not let in, whatever it signs."""
    assert is_alive_and_executes(kc)
    for server_key in (None, zmq.curve_keypair()[0]):
        socket = km.context.socket(zmq.DEALER)
        socket.linger = 0
        if server_key:
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
            socket.curve_serverkey = server_key
        monitor = socket.get_monitor_socket(events=sum(HANDSHAKE_FAILED))
        socket.connect(f"tcp://{km.ip}:{km.shell_port}")
        socket.send_multipart(kc.session.serialize(kc.session.msg("kernel_info_request")))
        assert monitor.poll(60_000)
        assert recv_monitor_message(monitor)["event"] in HANDSHAKE_FAILED
        socket.disable_monitor()
        monitor.close()
        socket.close()
    km.restart_kernel()
    kc.wait_for_ready(timeout=60)
    assert is_alive_and_executes(kc)
