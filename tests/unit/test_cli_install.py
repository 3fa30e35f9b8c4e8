"""``jupyter gateway uninstall``, with kernelspecs that cannot be removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway_blocking.bridge.kernelspecs import MARK
from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.install import UninstallCommand


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of three kernelspecs that "install" made."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    kernels = tmp_path / "kernels"
    spec = {"argv": ["x"], "display_name": "X", "language": "x", "metadata": {MARK: {}}}
    for name in ("work-a", "work-b", "work-c"):
        (kernels / name).mkdir(parents=True)
        (kernels / name / "kernel.json").write_text(json.dumps(spec))
    return kernels


def remove_all() -> None:
    """Run the command with --all."""
    UninstallCommand(everything=True).run()


def test_one_kernelspec_that_cannot_be_removed_keeps_no_other(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, such as one in a folder of the system, after those that are removed."""
    remove = shutil.rmtree

    def rmtree(path: str) -> None:
        if Path(path).name == "work-b":
            raise PermissionError(13, "Permission denied", path)
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(UsageError, match="cannot remove .*work-b: .*Permission denied"):
        remove_all()
    assert sorted(capsys.readouterr().out.split()) == ["removed", "removed", "work-a", "work-c"]
    assert [each.name for each in kernels.iterdir()] == ["work-b"]


def test_a_kernelspec_that_another_process_removes_is_no_error(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two commands at once remove what there is."""
    remove = shutil.rmtree

    def rmtree(path: str) -> None:
        for each in kernels.iterdir():
            remove(each)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove_all()
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not list(kernels.iterdir())
