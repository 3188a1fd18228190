"""An image of the builder's own Docker engine, saved to a file as ``docker save`` does.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageGet
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from perimeter_bundle.model.errors import HostError, InputError, NetworkError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_bundle.registry.answer import short_reason
from perimeter_bundle.registry.part_file import host_error
from perimeter_bundle.registry.retry import MIB
from perimeter_bundle.registry.transfer import EVENT_EVERY_BYTES

if TYPE_CHECKING:
    import requests
    from docker import DockerClient

ENGINE_TIMEOUT_S = 60.0  # to say which version it is
SAVE_TIMEOUT_S = 1800.0  # of silence: an engine lays out a large image before it sends a byte
_LOOK_EVERY_S = 0.5
_SAVE_INSTEAD = "or save it where it is: docker save NAME -o FILE, and from: docker-archive:FILE"


def save_from_engine(
    name: str,
    target: Path,
    environment: Mapping[str, str],
    check: Callable[[], None],
    on_event: OnEvent,
) -> None:
    """Writes the image ``name`` of the engine that DOCKER_HOST means to ``target``.

    ``check`` raises when work should end. Raises HostError[no-docker-engine], [no-docker-sdk],
    [no-room], InputError[no-such-image], NetworkError[cut-off].
    """
    import requests  # docker's own; few builds have an engine to ask

    task = f"save {name} from the Docker engine"
    on_event(Event(EventKind.START, task))
    client = _connect(environment)
    try:
        size = _stream(client, name, target, check, on_event, task)
    except PerimeterError:
        raise
    except requests.RequestException as error:  # what the SDK raises for a status is one, too
        raise _refusal(error, name) from error
    except OSError as error:
        raise host_error(error, target.parent, task) from error
    finally:
        client.close()
    on_event(Event(EventKind.FINISH, task, done_bytes=size, total_bytes=size))


def _connect(environment: Mapping[str, str]) -> DockerClient:
    try:
        import docker
    except ImportError as error:
        raise HostError(
            "no-docker-sdk",
            "the Python package docker is not installed",
            hint=f"install perimeter[bundle]; {_SAVE_INSTEAD}",
        ) from error
    try:
        return docker.from_env(
            version="auto", timeout=ENGINE_TIMEOUT_S, environment=dict(environment)
        )
    except docker.errors.DockerException as error:
        where = environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        raise HostError(
            "no-docker-engine",
            "there is no Docker engine to ask",
            context={"asked": where, "found": str(error)[:300]},
            hint=f"start it, give this user access, or name it with DOCKER_HOST; {_SAVE_INSTEAD}",
        ) from error


def _stream(
    client: DockerClient,
    name: str,
    target: Path,
    check: Callable[[], None],
    on_event: OnEvent,
    task: str,
) -> int:
    size = reported = 0
    with target.open("wb") as file:
        for data in _chunks(client, name, check):
            file.write(data)
            size += len(data)
            if size - reported >= EVENT_EVERY_BYTES:
                reported = size
                on_event(Event(EventKind.PROGRESS, task, done_bytes=size))
    return size


def _chunks(client: DockerClient, name: str, check: Callable[[], None]) -> Iterator[bytes]:
    """The archive as it comes; read in a thread of its own, so that Ctrl-C need not wait for it."""
    ready: queue.Queue[bytes | Exception | None] = queue.Queue(4)
    done = threading.Event()

    def read() -> None:
        try:
            for data in client.api.get_image(name, chunk_size=MIB):
                _put(ready, data, done)
            _put(ready, None, done)
        except Exception as error:  # raised again below
            _put(ready, error, done)

    client.api.timeout = SAVE_TIMEOUT_S
    threading.Thread(target=read, daemon=True).start()
    try:
        while (got := _next(ready, check)) is not None:
            if isinstance(got, Exception):
                raise got
            yield got
    finally:
        done.set()


def _put(ready: queue.Queue[bytes | Exception | None], item: object, done: threading.Event) -> None:
    while not done.is_set():
        with suppress(queue.Full):
            ready.put(cast("bytes | Exception | None", item), timeout=_LOOK_EVERY_S)
            return


def _next(
    ready: queue.Queue[bytes | Exception | None], check: Callable[[], None]
) -> bytes | Exception | None:
    import requests

    waited_s = 0.0
    while True:
        check()
        try:
            return ready.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            waited_s += _LOOK_EVERY_S
        if waited_s >= SAVE_TIMEOUT_S:
            return requests.ReadTimeout(f"nothing came for {SAVE_TIMEOUT_S:g} s")


def _refusal(error: requests.RequestException, name: str) -> PerimeterError:
    status = error.response.status_code if error.response is not None else None
    if status == 404:
        return InputError(
            "no-such-image",
            f"the Docker engine has no image {name}",
            hint="docker images lists what it has; pull, build or tag it there first",
        )
    if status is not None:
        explanation = getattr(error, "explanation", "") or f"status {status}"
        return HostError(
            "docker-engine",
            f"the Docker engine does not give {name}",
            context={"found": f"{status}: {str(explanation)[:300]}"},
            hint=f"look into the engine's log; {_SAVE_INSTEAD}",
        )
    return NetworkError(
        "cut-off",
        f"the Docker engine stopped while saving {name}",
        context={"found": short_reason(error)},
        hint="run the same command again; the engine's log may say why",
    )
