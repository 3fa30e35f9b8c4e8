"""The executors for agents that the documentation shows, with the packages they are for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from gateway_blocking.local import LocalGateway
from support.agents import environment_of_agents, file_of_page
from support.terminal import Terminal, without_a_gateway

ON_A_GATEWAY = """
import os, runpy, sys
from gateway_blocking import GatewayClient
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST

with LocalGateway() as gateway:
    os.environ["JUPYTER_GATEWAY_URL"] = gateway.url
    os.environ["JUPYTER_GATEWAY_AUTH_TOKEN"] = gateway.token
    sys.path.insert(0, os.getcwd())
    runpy.run_path("use_it.py", run_name="__main__")
    with GatewayREST(GatewayClient(**gateway.options())) as rest:
        assert rest.list_kernels() == []
"""

AGENT = """
from smolagents import CodeAgent, tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents_executor import GatewayExecutor

@tool
def double(number: int) -> int:
    '''Double a number.

    Args:
        number: The number.
    '''
    return 2 * number

class Scripted(Model):
    "Stands for a language model: it says the next of its lines."
    def __init__(self, *codes):
        super().__init__(model_id="scripted")
        self.codes, self.heard = iter(codes), []

    def generate(self, messages, **kwargs):
        self.heard.append(str(messages[-1].content))
        content = f"Thought: so.\\n<code>\\n{next(self.codes)}\\n</code>"
        return ChatMessage(role=MessageRole.ASSISTANT, content=content)

def ask(*codes, timeout=60, max_steps=10):
    model, logger = Scripted(*codes), AgentLogger(level=LogLevel.OFF)
    executor = GatewayExecutor([], logger, timeout=timeout)
    agent = CodeAgent([double], model, executor=executor, logger=logger)
    try:
        return agent.run("Do it.", max_steps=max_steps), model.heard
    finally:
        agent.cleanup()

answer, heard = ask(
    "x = double(21)\\nprint('it is', x)", "final_answer({'x': x, 'names': ('a', 'b')})"
)
assert answer == {"x": 42, "names": ("a", "b")}, answer
assert "it is 42" in heard[1], heard

answer, heard = ask("y = 1\\n1 / 0", "import time; time.sleep(600)", "final_answer(y)", timeout=2)
assert answer == 1, answer
assert "ZeroDivisionError" in heard[1], heard
assert "did not end within 2 s" in heard[2], heard

answer, heard = ask("import os; os._exit(1)", "1", "I give up.", max_steps=2)
assert "I give up." in answer, answer
assert "its variables are lost" in heard[1], heard
"""

EXECUTOR = """
import asyncio
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_executor import GatewayCodeExecutor

def python(*codes):
    return [CodeBlock(code=code, language="python") for code in codes]

async def main():
    async with GatewayCodeExecutor(timeout=30) as executor:
        token = CancellationToken()
        done = await executor.execute_code_blocks(python("x = 6", "print(x * 7)", "x"), token)
        assert (done.exit_code, done.output) == (0, "\\n42\\n6"), done
        done = await executor.execute_code_blocks(python("1 / 0", "print('never')"), token)
        assert done.exit_code == 1 and "ZeroDivisionError" in done.output, done
        assert "never" not in done.output

        running = asyncio.ensure_future(
            executor.execute_code_blocks(python("import time; time.sleep(600)"), token)
        )
        await asyncio.sleep(1)
        token.cancel()
        try:
            await running
        except asyncio.CancelledError:
            pass
        else:
            raise AssertionError("it was not cancelled")
        done = await executor.execute_code_blocks(python("x"), CancellationToken())
        assert done.output == "6", done
        await executor.restart()
        done = await executor.execute_code_blocks(python("x"), CancellationToken())
        assert "NameError" in done.output, done

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def agents_python(pytestconfig: pytest.Config) -> str:
    assert pytestconfig.cache is not None
    return environment_of_agents(pytestconfig.cache.mkdir("agents"))


@pytest.mark.timeout(700)  # for the first time, when the packages are installed
@pytest.mark.parametrize(
    ("caption", "script"),
    [("smolagents_executor.py", AGENT), ("autogen_executor.py", EXECUTOR)],
)
def test_the_executor_of_the_page_works_with_the_real_package(
    caption: str, script: str, agents_python: str, terminal: Terminal
) -> None:
    """On a gateway whose kernels have these packages as well."""
    terminal.write(caption, file_of_page(caption))
    terminal.write("use_it.py", script)
    done = subprocess.run(
        [agents_python, "-c", ON_A_GATEWAY],
        cwd=terminal.directory,
        env=without_a_gateway(terminal.env),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Observation:
    """Has the fields of OpenHands' IPythonRunCellObservation."""

    content: str
    code: str
    image_urls: list[str] | None = None


@dataclass
class Action:
    """Has the fields of OpenHands' IPythonRunCellAction."""

    code: str
    timeout: float | None = None


def test_the_plugin_of_the_page_works_with_classes_like_those_of_openhands(
    gateway_env: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("openhands", "openhands.events", "openhands.events.observation")
    names += ("openhands.runtime", "openhands.runtime.plugins", "openhands.runtime.plugins.jupyter")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    vars(modules[names[2]])["IPythonRunCellObservation"] = Observation
    vars(modules[names[5]])["JupyterPlugin"] = type("JupyterPlugin", (), {})
    namespace: dict[str, type] = {}
    exec(compile(file_of_page("openhands_plugin.py"), "openhands_plugin.py", "exec"), namespace)

    async def main() -> None:
        plugin = namespace["GatewayJupyterPlugin"]()
        await plugin.initialize("user")
        try:
            assert await plugin.run(Action("print('hi'); 6 * 7")) == Observation(
                "hi\n42", "print('hi'); 6 * 7"
            )
            stopped = await plugin.run(Action("while True: pass", timeout=1))
            assert "did not end within 1 s" in stopped.content
            shown = await plugin.run(Action(PICTURE))
            assert shown.image_urls == [f"data:image/png;base64,{PNG}"]
        finally:
            plugin.kc.stop_channels()
            plugin.km.shutdown_kernel()

    asyncio.run(main())


PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PICTURE = f"""
import base64
from IPython.display import Image, display
display(Image(base64.b64decode({PNG!r})))
"""
