"""The example of docs/howto/typing.rst, which mypy checks."""

import os

from jupyter_client import manager

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager, run_kernel

# A class for both: the gateway's is a subclass of jupyter_client's.
KernelManager: type[manager.KernelManager] = manager.KernelManager
if os.environ.get("JUPYTER_GATEWAY_URL"):
    KernelManager = BlockingGatewayKernelManager


def evaluate(kc: BlockingGatewayKernelClient, expression: str) -> str:
    """Return the text of a value in the kernel."""
    reply = kc.execute("", user_expressions={"value": expression}, reply=True, timeout=60)
    value = reply["content"]["user_expressions"]["value"]
    if value["status"] == "error":
        raise ValueError(f"{expression}: {value['ename']}: {value['evalue']}")
    return str(value["data"]["text/plain"])


if __name__ == "__main__":
    with run_kernel(kernel_name="python3") as kc:
        print(evaluate(kc, "6 * 7"))
