"""What every test of the engine checks on the way."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _no_fault_is_hidden(caplog):
    """Windows fall back to the whole field where geoxai itself fails to follow a network; in tests that is an error."""
    with caplog.at_level(logging.WARNING, "geoxai.attribution"):
        yield
    told = [record.getMessage() for record in caplog.get_records("call")]
    assert not [message for message in told if "geoxai failed to follow" in message]
