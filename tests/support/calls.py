"""Calls of REST, and the responses of scripted servers to them."""

from __future__ import annotations

from typing import Any

from gateway_blocking.rest import GatewayREST
from support.scripted import Call, says

SECRET = "sesame-open"
LOOK = "GET /api/kernels/k"
MODEL = {"id": "k", "name": "python3"}
SPECS = {"default": "python3", "kernelspecs": {"python3": {"spec": {}}, "ir": {"spec": {}}}}

CALLS: dict[str, Call] = {
    "GET": lambda rest: rest.get_kernel("k"),
    "DELETE": lambda rest: rest.delete_kernel("k"),
    "POST": lambda rest: rest.start_kernel("python3", {}),
}
FAILED = says({"message": "Unhandled error"}, "500 Internal Server Error")


def start(rest: GatewayREST) -> Any:
    return rest.start_kernel("python3", {}, kernel_id="k")
