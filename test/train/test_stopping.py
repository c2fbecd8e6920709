"""Signals: remembered once, taken together when they come together, obeyed when they insist."""

from __future__ import annotations

import os
import signal

import pytest

from dkt_ros.train import stopping
from dkt_ros.train.stopping import StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_signal_is_remembered_and_its_echo_changes_nothing() -> None:
    with StopRequest() as stop:
        assert stop.signal is None
        send(signal.SIGINT)
        send(signal.SIGTERM)  # as a launcher passes it on
        assert stop.signal == signal.SIGINT


def test_afterwards_signals_are_whoever_s_they_were() -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_a_later_signal_ends_the_process_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(stopping, "_TOGETHER_S", -1.0)

    def insist() -> None:
        with StopRequest():
            send(signal.SIGINT)
            send(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            insist()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
