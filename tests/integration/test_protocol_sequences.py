"""Many more sequences of faults than the unit tests have time for."""

from __future__ import annotations

import pytest

from support.faults import MACHINES, Faults, run_sequences


@pytest.mark.parametrize("faults", MACHINES)
def test_protocol_with_a_thousand_sequences_of_faults_keeps_its_promises(
    faults: type[Faults],
) -> None:
    """Each request ends once and truly; nothing is executed twice or out of order."""
    run_sequences(faults, 1000)
