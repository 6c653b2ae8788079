"""What every test of the engine checks on the way."""

import logging

import pytest

from geoxai.attribution.lrp.checking import CHECK_NODES


@pytest.fixture(autouse=True)
def _no_fault_is_hidden(caplog):
    """Windows fall back to the whole field where geoxai itself fails to follow a network; in tests that is an error."""
    with caplog.at_level(logging.WARNING, "geoxai.attribution"):
        yield
    told = [record.getMessage() for record in caplog.get_records("call")]
    assert not [message for message in told if "geoxai failed to follow" in message]


@pytest.fixture(autouse=True)
def _every_node_conserves(monkeypatch):
    """What arrives at a node is what it gives on and enters in the account; the first one that errs fails the test."""
    monkeypatch.setenv(CHECK_NODES, "1")
