"""What holds for every test."""

from __future__ import annotations

import signal

# A shell ignores SIGINT in what it starts in the background, and children inherit that: tests that
# interrupt a program would wait for ever. With a handler here, programs start with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)
