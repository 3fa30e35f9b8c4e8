"""The bridge: a local kernel process whose kernel runs behind a gateway.

A front end connects to the bridge by ZMQ, as to any kernel of this machine, and the bridge passes
the messages on to the gateway's websocket and back.
"""

__all__: list[str] = []
