"""The compiled codecs, loaded once for all tests here that use them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from tidegate_protocols.codec import backend

# The first call of a kernel may compile it, and the machine may be busy: no test here is about time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def compiled() -> None:
    backend.load()
