"""How the files of ``jupyter gateway run`` ended: outcomes, their table, and errors told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_blocking import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    KernelGone,
    MessageTooLarge,
)
from gateway_blocking.cli.argv import option_error
from gateway_blocking.cli.batch import ErrorReporter
from gateway_blocking.cli.errors import FAILED, GATEWAY, OK, USAGE, CodeError, UsageError
from gateway_blocking.cli.jobs import Job, Outcome
from gateway_blocking.cli.outcomes import (
    affects_every_file,
    outcome_of_error,
    reason_in_short,
    summary_table,
)


def job(name: str, where: str = "") -> Job:
    made = Job(name, "python3", Path())
    made.where = where
    return made


@pytest.mark.parametrize(
    ("error", "status", "result", "why"),
    [
        (CodeError("", "KeyError: 'a'"), FAILED, "failed", "KeyError: 'a'"),
        (MessageTooLarge("65 MiB"), FAILED, "failed", "65 MiB"),
        (UsageError("cannot write a"), USAGE, "not done", "cannot write a"),
        (KernelGone("gone"), GATEWAY, "gone", "shut down or culled, or the gateway was restarted"),
        (DeadKernelError("dead"), GATEWAY, "died", "the kernel died"),
        (GatewayConnectionClosed("x"), GATEWAY, "gateway", "connection to the gateway lost in c 1"),
        (GatewayError("busy"), GATEWAY, "gateway", "busy"),
        (ZeroDivisionError("oh"), FAILED, "failed", "ZeroDivisionError: oh"),
    ],
)
def test_outcome_of_error(error: Exception, status: int, result: str, why: str) -> None:
    """Each kind of error has an exit status, a word and a reason."""
    outcome = outcome_of_error(job("a.ipynb", "c 1"), error)
    assert (outcome.status, outcome.result, outcome.why) == (status, result, why)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (GatewayAuthError("x", status_code=401), "refused with status 401"),
        (GatewayConnectionError("x"), "the gateway cannot be reached"),
    ],
)
def test_the_row_of_an_error_that_affects_every_file_is_short(error: Exception, why: str) -> None:
    """The message above the table has the whole text."""
    assert affects_every_file(error, executed=False, kernel_started=False)
    assert reason_in_short(error) == why


def test_outcome_of_an_executed_file_whose_kernel_was_not_shut_down() -> None:
    """The file itself has not failed."""
    executed = job("a.py")
    executed.is_executed = True
    outcome = outcome_of_error(executed, GatewayConnectionError("refused"))
    assert (outcome.status, outcome.result) == (GATEWAY, "executed")


def test_summary_table_repeats_a_short_reason_but_not_a_long_one() -> None:
    """A long reason is in the row of the first file that has it."""
    jobs = [job("a.py"), job("b.py"), job("c.py"), job("d.py"), job("e.py")]
    for each, why in zip(jobs, ["", "short", "short", "long " * 20, "long " * 20], strict=True):
        each.outcome = Outcome(FAILED, "failed", why) if why else Outcome(OK, "ok")
    _titles, *rows = summary_table(jobs).splitlines()
    assert [row.split()[2:][-1:] for row in rows] == [[], ["short"], ["short"], ["long"], ["d.py"]]
    assert rows[-1].endswith("as d.py")


def test_error_reporter_takes_causes_for_one_that_differ_in_ids_and_numbers() -> None:
    """The kernels of two files have different IDs, and one gave up a second later."""
    reporter = ErrorReporter("jupyter gateway run", with_traceback=False)
    first, second, third = job("a.py"), job("b.py"), job("c.py")
    text = "kernel {} was lost, tried {} times"
    ids = ["638aa483-000d-4807-bce1-02b78affecd7", "fa30b2b1-392a-4b5c-a2a2-d56d955d18ea"]
    assert reporter.first_job(GatewayError(text.format(ids[0], 6)), first) is first
    assert reporter.first_job(GatewayError(text.format(ids[1], 7)), second) is first
    assert reporter.first_job(GatewayError("refused"), third) is third


def test_error_reporter_reports_a_text_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Two files with the same error lead to one line; one file may repeat its own."""
    reporter = ErrorReporter("jupyter gateway run", with_traceback=False)
    first, second = job("a.py"), job("b.py")
    for each in (first, second):
        reporter.report("the gateway is full", each)
    assert capsys.readouterr().err == "jupyter gateway run: the gateway is full\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "The 'jobs' trait of a RunCommand instance expected an int, not the str 'four'.",
            "--jobs must be a whole number, got 'four'",
        ),
        (
            "The value of the 'jobs' trait of a RunCommand instance should not be less than 1,"
            " but a value of 0 was specified",
            "--jobs must be at least 1, got 0",
        ),
        (
            "The 'wait' trait of a StatusCommand instance expected a float, not the str 'x'.",
            "--wait must be a number, got 'x'",
        ),
        ("url='x' has no http://", "url='x' has no http://"),
    ],
)
def test_option_error_names_the_option_as_it_is_typed(text: str, told: str) -> None:
    """traitlets names the trait and the class."""
    assert option_error(text) == told
