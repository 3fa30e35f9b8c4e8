"""The connection file of a bridge."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway_blocking.bridge.sockets import read_connection_file, write_new_connection_file
from gateway_blocking.errors import GatewayError


def test_a_new_connection_file_has_a_key_that_only_this_user_can_read(tmp_path: Path) -> None:
    """Without a key, every user of this machine could execute code in the kernel."""
    path = tmp_path / "kernel.json"
    first = write_new_connection_file(path, "python3")
    assert len(first["key"]) >= 32
    assert read_connection_file(path) == first
    assert write_new_connection_file(tmp_path / "other.json", "python3")["key"] != first["key"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shell_port": "1"}'])
def test_a_file_that_is_no_connection_file_is_refused(tmp_path: Path, text: str) -> None:
    """The error names what it must have."""
    path = tmp_path / "kernel.json"
    path.write_text(text)
    with pytest.raises(GatewayError, match=r"kernel\.json"):
        read_connection_file(path)
