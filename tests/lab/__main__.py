"""JupyterLab in a real browser, on the kernelspec of a bridge: ``python tests/lab``.

It needs the extra ``lab``, Chromium and its driver (Debian: chromium, chromium-driver).  It takes
about a minute, says what it has seen, and ends with status 1 where Lab shows something else.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from page import NotebookPage, browser

from support.bridges import DISPLAY_NAME, bridge_kernelspec
from support.faultproxy import FaultProxy
from support.notebooks import notebook
from support.servers import free_port, kernels_of, own_gateway, proxy_of, running

CELLS = {
    "streams": "import sys\nprint('to stdout', flush=True)\nprint('to stderr', file=sys.stderr)",
    "plot": (
        "from matplotlib import pyplot\n"
        "pyplot.figure(figsize=(5, 1.5))\n"
        "pyplot.plot([n * n for n in range(20)]);"
    ),
    "slider": "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=10)\nslider",
    "value": "print('the kernel says', slider.value)",
    "input": "print('I am', input('Name? '))",
    "endless": "import time\nprint('begun', flush=True)\ntime.sleep(600)",
    "cut": "for n in range(60):\n    print('line', n, flush=True)\n    time.sleep(0.05)",
    "fresh": "print('slider' in globals())",
    "death": "import os\nos._exit(1)",
    "alive": "print(6 * 7)",
}


def streams(page: NotebookPage, proxy: FaultProxy) -> None:
    """Standard output and standard error are below the cell."""
    page.run("streams")
    page.shows("streams", "to stdout")
    page.shows("streams", "to stderr")
    page.ends("streams")


def plot(page: NotebookPage, proxy: FaultProxy) -> None:
    """A picture."""
    page.run("plot")
    page.has("plot", ".jp-OutputArea-output img")
    page.ends("plot")


def widget(page: NotebookPage, proxy: FaultProxy) -> None:
    """A slider that is moved in the browser changes the value in the kernel, and back."""
    page.run("slider")
    handle = page.has("slider", ".noUi-handle")
    for _ in range(4):
        page.press(handle, "ARROW_RIGHT")
    page.run("value")
    page.shows("value", "the kernel says 7")
    page.ends("value")


def question(page: NotebookPage, proxy: FaultProxy) -> None:
    """input() asks, and gets the answer."""
    page.run("input")
    page.answer("input", "Ada")
    page.shows("input", "I am Ada")
    page.ends("input")


def interrupt(page: NotebookPage, proxy: FaultProxy) -> None:
    """The button with the square ends a cell that would not end."""
    page.run("endless")
    page.shows("endless", "begun")
    page.click("notebook:interrupt-kernel")
    page.shows("endless", "KeyboardInterrupt")
    page.ends("endless")


def cut(page: NotebookPage, proxy: FaultProxy) -> None:
    """The network is cut in the middle of a cell, and refuses for a second: nothing is missing."""
    page.run("cut")
    page.shows("cut", "line 5\n")
    with proxy.refusing():
        proxy.websocket.cut("rst")
        time.sleep(1)
    page.ends("cut")
    assert page.text("cut").split() == " ".join(f"line {n}" for n in range(60)).split()


def restart(page: NotebookPage, proxy: FaultProxy) -> None:
    """The kernel's variables are gone, and Lab goes on."""
    page.click("notebook:restart-kernel")
    page.accept()
    page.waits_for_idle()
    page.run("fresh")
    page.shows("fresh", "False")
    page.ends("fresh")


def death(page: NotebookPage, proxy: FaultProxy) -> None:
    """Lab says that the kernel died, and starts another."""
    page.run("death")
    page.says("appears to have died. It will restart automatically.")
    page.waits_for_idle()
    page.run("alive")
    page.shows("alive", "42")
    page.ends("alive")


STEPS: list[Callable[[NotebookPage, FaultProxy], None]] = [
    *(streams, plot, widget, question, interrupt, cut, restart, death),
]


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab, which serves the folder ``files`` in this one; the URL of the notebook there."""
    port, token = free_port(), secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder / 'files'}"]
    command += [f"--IdentityProvider.token={token}", "--ServerApp.port_retries=0"]
    settings = folder / "settings"
    (settings / "@jupyterlab" / "apputils-extension").mkdir(parents=True)
    (
        settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    ).write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_PATH", "JUPYTER_RUNTIME_DIR")
    env = {name: os.environ[name] for name in names}
    env["JUPYTERLAB_SETTINGS_DIR"] = str(settings)
    with running(command, f"http://127.0.0.1:{port}", folder, **env):
        yield f"http://127.0.0.1:{port}/lab/tree/example.ipynb?token={token}"


def main() -> int:
    """Take all steps; the exit status says whether Lab showed what it should."""
    parser = argparse.ArgumentParser(prog="python tests/lab", description=__doc__)
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="write a PNG of the plot")
    parser.add_argument("--verbose", action="store_true", help="show the server's log, too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        with own_gateway() as gateway, proxy_of(gateway) as proxy:
            (folder / "files").mkdir()
            write(folder / "files" / "example.ipynb")
            with (
                bridge_kernelspec(gateway, folder / "bridge", url=proxy.url),
                lab(folder) as url,
                browser() as driver,
            ):
                page = NotebookPage(driver, url, list(CELLS))
                page.choose(DISPLAY_NAME)
                print("The kernel is chosen.", flush=True)
                for step in STEPS:
                    step(page, proxy)
                    print(f"{step.__name__}: {step.__doc__}", flush=True)
                    if step is widget and options.screenshot:
                        driver.save_screenshot(str(options.screenshot))
            left = kernels_of(gateway)
            assert not left, left
            print("No kernel is left.")
            if options.verbose:
                print((folder / "log").read_text())
    finally:
        shutil.rmtree(folder)
    return 0


def write(path: Path) -> None:
    """Write the notebook, which does not name a kernel, so that Lab asks for one."""
    import nbformat

    nb = notebook(*CELLS.values())
    del nb.metadata["kernelspec"]
    nbformat.write(nb, path)


if __name__ == "__main__":
    sys.exit(main())
