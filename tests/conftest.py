"""What holds for every test."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell ignores SIGINT in what it starts in the background, and children inherit that: tests that
# interrupt a program would wait for ever. With a handler here, programs start with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``--ignore`` also of what lies below a folder that ``testpaths`` names.

    pytest takes those for asked for by name, and by itself ignores nothing in them.
    """
    ignored = [config.invocation_params.dir / one for one in config.getoption("ignore") or ()]
    return any(collection_path.is_relative_to(one.resolve()) for one in ignored) or None
