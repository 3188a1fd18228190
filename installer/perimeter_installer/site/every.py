"""The same work on every host at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from perimeter_bundle.model.errors import HostError
from perimeter_installer.site.model import Host

WORKERS = 32  # hosts worked on at once

Answer = TypeVar("Answer")


def on_every(
    hosts: Iterable[Host], work: Callable[[Host], Answer], *, workers: int = WORKERS
) -> dict[str, Answer | HostError]:
    """``work`` on all hosts at once; answers by name, a HostError in the place of a failed one.

    Any other exception is raised once all have ended. The threads are daemons, so that Ctrl-C
    does not wait for hosts that answer nothing; hence ``work`` only reads.
    """
    listed = list(hosts)
    waiting = deque(listed)
    answers: dict[str, Answer | HostError] = {}
    failures: list[BaseException] = []

    def attempt() -> None:
        while True:
            try:
                host = waiting.popleft()
            except IndexError:
                return
            try:
                answers[host.name] = work(host)
            except HostError as error:
                answers[host.name] = error
            except BaseException as error:  # raised below, in the caller's thread
                failures.append(error)

    threads = [
        threading.Thread(target=attempt, name=f"host-{number}", daemon=True)
        for number in range(min(workers, len(listed)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return {host.name: answers[host.name] for host in listed}
