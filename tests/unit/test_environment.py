"""The environment that is sent with the start of a kernel."""

from __future__ import annotations

import json
import math
import socket
import threading
from pathlib import Path

import pytest
from traitlets import TraitError

from gateway_blocking.config import GatewayClient
from gateway_blocking.deadline import LONGEST
from gateway_blocking.traits import Seconds
from support.options import SECRET, plain_logger


def test_the_environment_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL_* and the allowed names, from the caller before this process, and nothing else."""
    monkeypatch.setenv("KERNEL_A", "process")
    monkeypatch.setenv("KERNEL_B", "process")
    monkeypatch.setenv("ALLOWED", "process")
    monkeypatch.setenv("TOO", "process")
    monkeypatch.setenv("PRIVATE", SECRET)
    gateway = GatewayClient(allowed_envs=" ALLOWED, TOO ,,MISSING")
    extra = {"KERNEL_B": "caller", "TOO": "caller", "OTHER": "caller"}
    assert gateway.kernel_env(extra) == {
        "KERNEL_A": "process",
        "KERNEL_B": "caller",
        "ALLOWED": "process",
        "TOO": "caller",
        "KERNEL_LAUNCH_TIMEOUT": "40",
    }
    assert extra == {"KERNEL_B": "caller", "TOO": "caller", "OTHER": "caller"}


def test_what_is_not_sent_is_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """Someone who wonders why a variable is missing finds it in the log, without its value."""
    caplog.set_level("DEBUG", "tests")
    GatewayClient(log=plain_logger()).kernel_env({"MINE": SECRET, "KERNEL_X": "1"})
    assert "not in allowed_envs: MINE" in caplog.text
    assert SECRET not in caplog.text


def test_the_working_directory_and_the_user_of_a_kernel() -> None:
    """From what is known here, unless the caller says otherwise."""
    gateway = GatewayClient(http_user="ada")
    env = gateway.kernel_env(cwd="/work")
    assert (env["KERNEL_WORKING_DIR"], env["KERNEL_USERNAME"]) == ("/work", "ada")
    own = {"KERNEL_WORKING_DIR": "/own", "KERNEL_USERNAME": "me"}
    env = gateway.kernel_env(own, cwd="/work")
    assert (env["KERNEL_WORKING_DIR"], env["KERNEL_USERNAME"]) == ("/own", "me")
    assert not own.keys() & GatewayClient().kernel_env().keys()


def test_whose_kernels_these_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL_USERNAME's, then that of the login, else nobody's."""
    assert GatewayClient().kernel_username == ""
    gateway = GatewayClient(http_user="ada")
    assert gateway.kernel_username == "ada"
    monkeypatch.setenv("KERNEL_USERNAME", "bob")
    assert gateway.kernel_username == gateway.kernel_env()["KERNEL_USERNAME"] == "bob"


def test_the_environment_can_be_sent_as_json() -> None:
    """Also where a caller gives a path or a number."""
    env = GatewayClient().kernel_env({"KERNEL_N": 1}, cwd=Path("/work"))  # type: ignore[arg-type,dict-item]
    assert json.loads(json.dumps(env)) == env
    assert env["KERNEL_N"] == "1"


SECONDS = sorted(n for n, t in GatewayClient.class_traits().items() if isinstance(t, Seconds))


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [1e10, 10**20, 1e300])
def test_a_huge_time_is_one_that_the_system_can_wait_for(name: str, value: float) -> None:
    """Some 24 days: sockets and locks refuse more, by an OverflowError in a call."""
    gateway = GatewayClient(**{name: value})
    assert getattr(gateway, name) == LONGEST
    with socket.socket() as sock:
        sock.settimeout(getattr(gateway, name))
    threading.Lock().acquire(timeout=getattr(gateway, name))
    assert gateway.effective_request_timeout < threading.TIMEOUT_MAX


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -1e300, 10**400, -(10**400)])
def test_a_time_that_is_none_is_refused_where_it_is_set(name: str, value: float) -> None:
    """By an error that names it, as a keyword and later."""
    with pytest.raises(TraitError, match=name):
        GatewayClient(**{name: value})
    gateway = GatewayClient()
    with pytest.raises(TraitError, match=name):
        setattr(gateway, name, value)
