"""Types, as a program of a user sees them under ``mypy --strict``."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("mypy")  # it comes with the extra "dev"
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]

PROGRAM = '''
"""A program whose types are asserted; mypy alone reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    GatewayClient,
    run_kernel,
    start_new_kernel,
)
from gateway_blocking.messages import Header, Message
from gateway_blocking.models import KernelModel


def requests(kc: BlockingGatewayKernelClient, wait: bool) -> None:
    assert_type(kc.execute("1"), str)
    assert_type(kc.execute("1", reply=False), str)
    assert_type(kc.execute("1", user_expressions={"x": "1"}, reply=True, timeout=5), Message)
    assert_type(kc.execute("1", reply=wait), str | Message)
    assert_type(kc.complete("pri"), str)
    assert_type(kc.complete("pri", 3, reply=True), Message)
    assert_type(kc.inspect("print"), str)
    assert_type(kc.inspect("print", detail_level=1, reply=True), Message)
    assert_type(kc.history(hist_access_type="tail", n=3), str)
    assert_type(kc.history(hist_access_type="tail", n=3, reply=True), Message)
    assert_type(kc.kernel_info(), str)
    assert_type(kc.kernel_info(reply=True), Message)
    assert_type(kc.comm_info("target"), str)
    assert_type(kc.comm_info(reply=True), Message)
    assert_type(kc.is_complete("if x:"), str)
    assert_type(kc.is_complete("if x:", reply=True), Message)
    assert_type(kc.shutdown(), str)
    assert_type(kc.shutdown(reply=True), Message)
    assert_type(kc.execute_interactive("1"), Message)
    assert_type(kc.missing_messages("id"), int | None)


def messages(kc: BlockingGatewayKernelClient) -> None:
    message = kc.get_iopub_msg(timeout=1)
    assert_type(message, Message)
    assert_type(message["header"], Header)
    assert_type(message["header"]["msg_id"], str)
    assert_type(message["parent_header"].get("msg_id"), str | None)
    assert_type(message["content"], dict[str, Any])
    assert_type(kc.iopub_channel.get_msg(timeout=1), Message)
    assert_type(kc.shell_channel.get_msgs(), list[Message])
    kc.shell_channel.send(kc.session.msg("kernel_info_request", {}))
    kc.shell_channel.send(message)


def plain(message: dict[str, Any]) -> None: ...


def typed(message: Message) -> None: ...


def of_both(message: Mapping[str, Any]) -> None: ...


def hooks(kc: BlockingGatewayKernelClient) -> None:
    for hook in (plain, typed, of_both):
        kc.execute_interactive("1", output_hook=hook, stdin_hook=hook)
    of_both(kc.execute("1", reply=True))


def options(gateway: GatewayClient) -> None:
    assert_type(gateway.url, str | None)
    assert_type(gateway.auth_token, str | None)
    assert_type(gateway.request_timeout, float)
    assert_type(gateway.gateway_retry_max, int)
    assert_type(gateway.validate_cert, bool)
    gateway.headers = {"X-Name": "value"}
    gateway.ca_certs = Path("ca.pem")


def managers(km: BlockingGatewayKernelManager) -> None:
    assert_type(km.client(), BlockingGatewayKernelClient)
    assert_type(km.kernel, KernelModel | None)
    assert_type(km.is_alive(), bool)
    with km as entered, km.client() as kc:
        assert_type(entered, BlockingGatewayKernelManager)
        assert_type(kc, BlockingGatewayKernelClient)
    both: tuple[KernelManager, BlockingKernelClient] = start_new_kernel()
    assert both
    with run_kernel(kernel_name="python3") as client:
        assert_type(client, BlockingGatewayKernelClient)
'''

MISTAKES = {
    'kc.execute("1")["content"]': 'Invalid index type "str" for "str"',
    'kc.execute("1", reply=True)["contents"]': 'TypedDict "Message" has no key "contents"',
    "kc.execute(1)": "No overload variant",
    'kc.execute("1", True, True, None, None, True, True)': "No overload variant",
    "kc.execute_interactive('1', output_hook=3)": "incompatible type",
    "kc.interrupt()": "has no attribute",
}


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--no-error-summary", "--hide-error-context", "--config-file="]
    options += ["--cache-dir", str(ROOT / ".mypy_cache" / "of_users")]
    command = [sys.executable, "-m", "mypy", *options, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_program_of_a_user_has_the_types_it_expects(tmp_path: Path) -> None:
    """Each request is a str, and with ``reply=True`` a message; a message has a shape."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = mypy(program)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout


def test_a_mistake_of_a_user_is_found(tmp_path: Path) -> None:
    """Each of these lines is an error, and there is no other."""
    program = tmp_path / "mistakes.py"
    lines = ["from gateway_blocking import BlockingGatewayKernelClient", ""]
    lines += ["def f(kc: BlockingGatewayKernelClient) -> None:", *(f"    {m}" for m in MISTAKES)]
    program.write_text("\n".join(lines) + "\n")
    errors = [line for line in mypy(program).stdout.splitlines() if ": error: " in line]
    for number, (mistake, text) in enumerate(MISTAKES.items(), 4):
        found = [line for line in errors if f"mistakes.py:{number}: " in line]
        assert found, f"mypy accepts {mistake}"
        assert any(text in line for line in found), found
    assert len(errors) == len(MISTAKES), errors


def test_the_examples_of_the_documentation_pass(tmp_path: Path) -> None:
    """Both are for jupyter_client and for this package."""
    page = (ROOT / "docs" / "howto" / "from-jupyter-client.rst").read_text()
    code = re.findall(r"code-block:: python\n((?:\n|    .*\n)+)", page)[0]
    (tmp_path / "both.py").write_text(textwrap.dedent(code))
    for path in (tmp_path / "both.py", ROOT / "docs" / "examples" / "typed.py"):
        checked = mypy(path)
        assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout
