"""Count the primes below a thousand; run with: jupyter gateway run docs/examples/example.py."""

import platform
import time


def primes(limit: int) -> list[int]:
    """The primes below `limit`, sieved."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n in range(limit) if sieve[n]]


print(f"this is Python {platform.python_version()}, on a kernel behind a gateway")
for hundred in range(0, 1000, 100):
    count = sum(hundred <= p < hundred + 100 for p in primes(1000))
    print(f"{hundred:4} to {hundred + 99:3}: {'*' * count}", flush=True)
    time.sleep(0.05)  # each line is shown when it is printed, not at the end
