"""Every number of the push side: how often, how long, how many at once, and why.

A site's registry is a few metres of cable away: what fails for minutes is broken, not busy.
"""

from __future__ import annotations

from dataclasses import dataclass

# Large blobs sent at once to one replica: its disc and TLS are busy with two or three.
LARGE_AT_ONCE = 3
# Small ones are mostly waiting: for the way there and back, and for the registry's disc.
SMALL_AT_ONCE = 16
# From here on a blob is large: it keeps a line busy for much longer than a round trip takes.
LARGE_BYTES = 4 * 1024 * 1024
# HEAD requests and manifests are round trips only.
CHECKS_AT_ONCE = 16
# A blob up to this size is sent along with the question whether it may be; it may be in vain once.
SINGLE_POST_BYTES = 64 * 1024
# What one socket operation may take before the connection counts as dead.
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
# A registry on a slow disc answers the end of a large upload only when all bytes are on the disc.
UPLOAD_TIMEOUT_S = 300.0
# Tidying up after a failed upload must not hold up the error.
CLEANUP_TIMEOUT_S = 5.0
CLEANUP_TRIES = 30
CLEANUP_WAIT_S = 0.3
# Bytes handed to the kernel in one call: progress and Ctrl-C wait for no more than these.
PIECE_BYTES = 1024 * 1024
# More events than people can see would cost as much as sending does.
BETWEEN_EVENTS_S = 0.1
# Read and encrypted at once: small enough to stay in the processor's cache between the two.
TLS_BLOCK_BYTES = 256 * 1024
# Parts of a blob where a registry, or a proxy before it, cuts long requests. nginx takes 1 MiB
# unless it is told otherwise.
FIRST_CHUNK_BYTES = 16 * 1024 * 1024
LARGEST_CHUNK_BYTES = 64 * 1024 * 1024
SMALLEST_CHUNK_BYTES = 256 * 1024
PARTS_BEFORE_GROWING = 8
# One cut may be an accident.
CUTS_BEFORE_PARTS = 2
# How often a registry may forget one upload.
UPLOADS_LOST = 3
# After a cut the registry may still be writing what had arrived: it is asked until that stays.
SETTLE_TRIES = 20
SETTLE_S = 0.1
# A registry that asks for more patience than this will not be there soon.
LONGEST_ASKED_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How often something is tried again and how long to wait between tries."""

    tries: int  # the first one included
    wait_s: float  # before the second try; doubles each time
    longest_wait_s: float
    why: str

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before try number ``attempt`` (2, 3, …)."""
        return min(self.wait_s * 2.0 ** (attempt - 2), self.longest_wait_s)


BY_STATUS: dict[int, RetryRule] = {
    408: RetryRule(3, 1.0, 4.0, "the registry gave up waiting for a request"),
    416: RetryRule(4, 0.5, 2.0, "of a blob in parts more has arrived than the registry said"),
    429: RetryRule(6, 1.0, 20.0, "the registry asks for fewer requests at a time"),
    500: RetryRule(3, 0.5, 4.0, "the registry had an accident; often passes"),
    502: RetryRule(5, 1.0, 10.0, "a proxy before the registry does not reach it"),
    503: RetryRule(5, 1.0, 10.0, "the registry is starting or busy"),
    504: RetryRule(5, 1.0, 10.0, "a proxy before the registry waited too long"),
}
ON_CONNECTION = RetryRule(
    5, 0.5, 8.0, "the connection broke or was refused; a restart takes seconds"
)
# A connection cut off while a blob is sent restarts that blob: three times is enough to know.
ON_TIMEOUT = RetryRule(3, 1.0, 4.0, "nothing came for the whole timeout")
ON_LOGIN_LOST = RetryRule(3, 1.0, 4.0, "it let us in before: its list of users is being renewed")


def asked_wait_s(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, within reason; 0 for none.

    A date counts as none: the clocks of a closed site need not agree.
    """
    seconds = float(retry_after) if retry_after.isdecimal() else 0.0
    return min(seconds, LONGEST_ASKED_WAIT_S)
