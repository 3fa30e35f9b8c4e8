"""The kernelspecs of a gateway, by the names of jupyter_client's KernelSpecManager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests_mock
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from gateway_blocking import (
    BlockingGatewayKernelManager,
    BlockingGatewayKernelSpecManager,
    NoSuchKernelSpec,
    RemoteNotSupported,
)
from gateway_blocking.local import LocalGateway
from support.scripted import says, scripted


@pytest.fixture
def specs(gateway: LocalGateway) -> Iterator[BlockingGatewayKernelSpecManager]:
    specs = BlockingGatewayKernelSpecManager(**gateway.options())
    yield specs
    specs.rest.close()


def test_what_there_is(specs: BlockingGatewayKernelSpecManager) -> None:
    """As of a local manager, whose kernelspecs the gateway has here; without directories."""
    local = KernelSpecManager()
    assert isinstance(specs, KernelSpecManager)
    assert specs.find_kernel_specs().keys() == local.find_kernel_specs().keys()
    assert set(specs.find_kernel_specs().values()) == {""}
    assert specs.default_kernel_name == "python3"
    here, there = local.get_all_specs()["python3"], specs.get_all_specs()["python3"]
    assert there["resource_dir"] == ""
    assert there["spec"]["display_name"] == here["spec"]["display_name"]
    assert specs.list_kernel_specs()["default"] == "python3"


def test_one_of_them(specs: BlockingGatewayKernelSpecManager) -> None:
    """A KernelSpec; one that is missing is jupyter_client's NoSuchKernel, and a KeyError."""
    spec = specs.get_kernel_spec("python3")
    assert isinstance(spec, KernelSpec)
    assert (spec.language, spec.interrupt_mode) == ("python", "signal")
    for name in ("cobol", "no such/name?", ""):
        with pytest.raises(NoSuchKernelSpec) as caught:
            specs.get_kernel_spec(name)
        assert isinstance(caught.value, NoSuchKernel)
        assert isinstance(caught.value, KeyError)


def test_allowed_kernelspecs(gateway: LocalGateway) -> None:
    """Only these are there, as with a local manager."""
    specs = BlockingGatewayKernelSpecManager(allowed_kernelspecs={"R"}, **gateway.options())
    assert specs.find_kernel_specs() == specs.get_all_specs() == {}
    with pytest.raises(NoSuchKernelSpec, match="not among allowed_kernelspecs: R"):
        specs.get_kernel_spec("python3")


def test_resources(specs: BlockingGatewayKernelSpecManager) -> None:
    """Their URLs lead to the gateway; their bytes can be had; one that is missing is None."""
    resources = specs.list_kernel_specs()["kernelspecs"]["python3"]["resources"]
    base = f"{specs.gateway.url}/kernelspecs/python3"
    assert resources["logo-64x64"] == f"{base}/logo-64x64.png"
    logo = specs.get_kernel_spec_resource("python3", "logo-64x64.png")
    assert logo is not None
    assert logo.startswith(b"\x89PNG")
    assert specs.get_kernel_spec_resource("python3", "no such file") is None
    assert specs.get_kernel_spec_resource("cobol", "logo-64x64.png") is None


def test_resources_of_a_server_that_passes_them_on(gateway: LocalGateway) -> None:
    """Their URLs begin with its own base URL."""
    specs = BlockingGatewayKernelSpecManager(resource_base_url="/user/me/", **gateway.options())
    resources = specs.list_kernel_specs()["kernelspecs"]["python3"]["resources"]
    assert resources["logo-64x64"] == "/user/me/kernelspecs/python3/logo-64x64.png"


def test_whose_they_are(
    requests_mock: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for the user, quoted, behind the name; KERNEL_USERNAME goes before http_user."""
    spec = {"name": "a b", "spec": {"display_name": "A"}, "resources": {}}
    listed = {"default": "a b", "kernelspecs": {"a b": spec}}
    requests_mock.get("http://g/gw/api/kernelspecs", json=listed)
    requests_mock.get("http://g/gw/api/kernelspecs/a%20b", json=spec)

    def asked(**options: str) -> list[str]:
        requests_mock.reset_mock()
        specs = BlockingGatewayKernelSpecManager(url="http://g/gw", **options)
        specs.find_kernel_specs()
        assert specs.get_kernel_spec("a b").display_name == "A"
        return [
            request.url.partition("kernelspecs")[2] for request in requests_mock.request_history
        ]

    assert asked() == ["", "/a%20b"]
    assert asked(http_user="x") == ["?user=x", "/a%20b?user=x"]
    monkeypatch.setenv("KERNEL_USERNAME", "bob & co/?")
    quoted = "?user=bob%20%26%20co%2F%3F"
    assert asked(http_user="x") == [quoted, "/a%20b" + quoted]
    assert asked(kernel_username="eve") == ["?user=eve", "/a%20b?user=eve"]


@pytest.mark.parametrize(
    "name", ["install_kernel_spec", "install_native_kernel_spec", "remove_kernel_spec"]
)
def test_what_only_the_gateways_administrator_can(
    specs: BlockingGatewayKernelSpecManager, name: str
) -> None:
    """An error that says so."""
    with pytest.raises(RemoteNotSupported, match=f"{name}.. is not possible: the kernelspecs are"):
        getattr(specs, name)("python3")


def test_a_manager_takes_its_kernelspec_from_there(gateway: LocalGateway) -> None:
    """Not from this machine."""
    km = BlockingGatewayKernelManager(kernel_name="python3", **gateway.options())
    assert isinstance(km.kernel_spec_manager, BlockingGatewayKernelSpecManager)
    assert km.kernel_spec is not None
    assert km.kernel_spec.resource_dir == ""
    km.cleanup_resources()


@pytest.mark.parametrize("prefix", ["", "/user/me"])
def test_resources_may_lie_deeper(prefix: str) -> None:
    """Whatever base path a gateway itself puts before them."""
    path = f"{prefix}/kernelspecs/my%20r/static/kernel.js"
    listed = {"kernelspecs": {"my r": {"name": "my r", "spec": {}, "resources": {"js": path}}}}
    with scripted(says(listed)) as server:
        specs = BlockingGatewayKernelSpecManager(url=f"http://{server.where}/base")
        resources = specs.list_kernel_specs()["kernelspecs"]["my r"]["resources"]
        specs.rest.close()
    assert resources == {"js": f"http://{server.where}/base/kernelspecs/my%20r/static/kernel.js"}


@pytest.mark.parametrize(
    ("name", "path"),
    [("python3", "../../api/status"), ("..", "api/status"), ("python3", "a/./b"), ("python3", "")],
)
def test_no_path_leads_out_of_the_kernelspec(name: str, path: str) -> None:
    """A server that passes resources on gets the path from a browser, and has the token."""
    with scripted(says({})) as server:
        specs = BlockingGatewayKernelSpecManager(url=f"http://{server.where}")
        assert specs.get_kernel_spec_resource(name, path) is None
        with pytest.raises(NoSuchKernelSpec):
            specs.get_kernel_spec("..")
        specs.close()
    assert server.lines == []


def test_a_file_of_a_kernelspec_that_is_not_allowed(gateway: LocalGateway) -> None:
    """Is none."""
    specs = BlockingGatewayKernelSpecManager(allowed_kernelspecs={"R"}, **gateway.options())
    assert specs.get_kernel_spec_resource("python3", "logo-64x64.png") is None
