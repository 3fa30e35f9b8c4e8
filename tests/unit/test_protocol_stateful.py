"""Any faults in any order, with a time of the test's own: the promises of ``delivery.rst`` hold."""

from __future__ import annotations

import pytest

from support.faults import MACHINES, Faults, run_sequences


@pytest.mark.parametrize("faults", MACHINES)
def test_protocol_with_any_faults_keeps_its_promises(faults: type[Faults]) -> None:
    """Each request ends once and truly; nothing is executed twice or out of order."""
    run_sequences(faults, 30)
