"""What the checks in Python share."""

import sys

import openai


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def fails(kind, status, call):
    """The error that `call` ends with."""
    try:
        call()
    except openai.APIStatusError as error:
        equal((type(error).__name__, error.status_code), (kind.__name__, status))
        return error
    raise AssertionError("no error")


def run(client, checks):
    """Prints one line a check; the exit code tells whether one failed."""
    failed = 0
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok {client}: {name}", flush=True)
        except Exception as error:  # noqa: BLE001: whatever went wrong is the result
            failed += 1
            reason = str(error).replace("\n", " ")[:600]
            print(f"FAILED {client}: {name}: {type(error).__name__}: {reason}", flush=True)
    sys.exit(failed > 0)
