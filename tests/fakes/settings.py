"""Temporary settings from environment variables."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from services.core.settings import get_settings


@contextmanager
def settings_of(**values: str) -> Iterator[None]:
    """Set ``values`` in the environment during the block and reload the settings."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    get_settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        get_settings.cache_clear()
