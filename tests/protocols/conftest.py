"""The compiled codecs, loaded once for all tests here that use them."""

from __future__ import annotations

import pytest
from tidegate_protocols.codec import backend


@pytest.fixture(scope="session")
def compiled() -> None:
    backend.load()
