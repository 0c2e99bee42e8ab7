"""The start of the processor says what it waits for, when it waits."""

from __future__ import annotations

import pytest
from tidegate_cloud.engine.warm import PREPARING, told_when_long

from tests.support.wait import until


def test_a_long_preparation_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def told() -> bool:
        said.append(capsys.readouterr().err)
        return PREPARING in "".join(said)

    with told_when_long(after_s=0.0):
        until(told)
    assert "".join(said) == PREPARING + "\n"


def test_a_short_preparation_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with told_when_long(after_s=600.0):
        pass
    assert capsys.readouterr().err == ""
