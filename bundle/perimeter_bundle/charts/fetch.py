"""The rim: archives of charts from https repositories and registries, alternates tried in order.

Only a place that is gone sends the search on; one that has something else than promised ends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from perimeter_bundle.charts.archive import MAX_CHART_BYTES
from perimeter_bundle.charts.declared import Requirement
from perimeter_bundle.charts.index import (
    MAX_INDEX_BYTES,
    ChartVersions,
    index_url,
    read_index,
)
from perimeter_bundle.charts.vendor import Brought
from perimeter_bundle.charts.versions import Range, Version
from perimeter_bundle.collect.sourcing import GONE
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.oci import Descriptor, ImageManifest
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import (
    InputError,
    IntegrityError,
    NetworkError,
    PerimeterError,
)
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.lock import oci_tag
from perimeter_bundle.model.locked_dependency import LockedDependency
from perimeter_bundle.model.reference import ImageReference

CHART_CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER_TYPE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
OCI_SCHEME = "oci://"
# tags that Helm takes for versions: https://pkg.go.dev/github.com/Masterminds/semver/v3#StrictNewVersion
_STRICT = re.compile(
    r"(?:(?:0|[1-9]\d*)\.){2}(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
)

Alternates = Mapping[str, tuple[str, ...]]  # other addresses, by repository as charts name it
Pins = Mapping[tuple[str, str, str, str], LockedDependency]  # by LockedDependency.key


@dataclass(slots=True)
class ChartFetcher:
    """Archives of charts for one chart of the catalog; not for several threads.

    ``alternates`` are other addresses of repositories; ``pins`` what a lock says about
    dependencies, None while locking. ``used`` tells which alternates were of any use.
    """

    upstream: Upstream
    alternates: Alternates = field(default_factory=dict)
    pins: Pins | None = None
    used: set[str] = field(default_factory=set)
    _indexes: dict[tuple[str, str], ChartVersions] = field(default_factory=dict)

    def bring(self, wanted: Requirement, folder: str, what: str) -> Brought:
        """A dependency; a ``vendor.Bringer``. Every error names ``what`` and the dependency.

        Raises NetworkError[chart-gone] with what each place said, InputError[no-such-chart],
        [chart-repository], IntegrityError[digest-mismatch], [lock-contradicted].
        """
        label = f"{what}: {wanted.text}"
        pin: LockedDependency | None = None
        if self.pins is not None:
            pin = self.pins.get((folder, wanted.name, wanted.asked, wanted.repository))
            if pin is None:
                raise IntegrityError(
                    "lock-contradicted",
                    f"{label} from {wanted.repository} is not in the lock",
                    hint="the lock was edited, or the catalog changed: lock again",
                )
        exact = pin.version if pin else wanted.locked
        addresses = self._addresses(wanted.repository, label)
        return self._first(wanted.name, exact, wanted.asked, addresses, label, pin)

    def fetch(self, name: str, version: str, repository: str) -> Brought:
        """A chart of the catalog at exactly this version; raises as ``bring``."""
        label = f"chart {name} {version}"
        addresses = self._addresses(repository, label)
        return self._first(name, version, version, addresses, label, None)

    def fetch_locked(self, name: str, version: str, repository: str, url: str) -> Brought:
        """As ``fetch``, from the address in the lock first; its bytes are the caller's to check."""
        label = f"chart {name} {version}"
        try:
            return Brought(self._download(url), version, url)
        except NetworkError as error:
            if error.code not in GONE or repository not in self.alternates:
                _name(error, label)
                raise
        return self.fetch(name, version, repository)

    def _addresses(self, repository: str, label: str) -> tuple[str, ...]:
        self.used.add(repository)
        if "@" in repository.partition("//")[2].partition("/")[0]:
            raise InputError(
                "chart-repository",
                f"{label}: the address of its repository holds a login",
                hint="everybody who has the chart has it: upstream must take it out; logins are "
                "those of docker login",
            )
        others = self.alternates.get(repository, ())
        if repository.startswith(("https://", OCI_SCHEME)):
            return (repository, *others)
        if repository.startswith(("@", "alias:")) and others:
            return others
        raise InputError(
            "chart-repository",
            f"{label}: {repository[:200]!r} is no address that charts are fetched from",
            context={"expected": "https://…, oci://… or file://…"},
            hint=f'name its address in component.yaml: alternates: {{"{repository[:200]}": '
            "[https://…]}",
        )

    def _first(
        self,
        name: str,
        exact: str,
        asked: str,
        addresses: tuple[str, ...],
        label: str,
        pin: LockedDependency | None,
    ) -> Brought:
        said: list[str] = []
        for place, look in self._places(name, exact, asked, addresses, pin):
            try:
                found = look()
            except NetworkError as error:
                if error.code not in GONE or (len(addresses) == 1 and pin is None):
                    _name(error, label)
                    raise
                said.append(f"{place}: {error.message}: {error.context.get('found', error.code)}")
                continue
            except PerimeterError as error:
                _name(error, label)
                raise
            if said:
                self._say(label, place, said[0])
            return found
        raise NetworkError(
            "chart-gone",
            f"{label} is at none of the {len(said)} places that are known",
            problems=said,
            hint="name another address of the repository in component.yaml: "
            f'alternates: {{"{addresses[0]}": [https://…]}}, or a --mirror',
        )

    def _places(
        self,
        name: str,
        exact: str,
        asked: str,
        addresses: tuple[str, ...],
        pin: LockedDependency | None,
    ) -> Iterator[tuple[str, Callable[[], Brought]]]:
        """Where it may be, in the order in which it is looked for."""
        if pin:
            yield pin.url, partial(self._pinned, pin)
        for address in addresses:
            look = self._in_registry if address.startswith(OCI_SCHEME) else self._in_repository
            yield address, partial(look, address, name, exact, asked, pin)

    def _pinned(self, pin: LockedDependency) -> Brought:
        data = self._download(pin.url)
        _refuse_other(data, pin.digest, pin.name, pin.version, pin.url, "the lock says")
        return Brought(data, pin.version, pin.url)

    def _in_repository(
        self, repository: str, name: str, exact: str, asked: str, pin: LockedDependency | None
    ) -> Brought:
        if (repository, name) not in self._indexes:
            index = self.upstream.files.fetch_small(
                index_url(repository), MAX_INDEX_BYTES, page_is_fine=True
            )
            self._indexes[repository, name] = read_index(index, repository, name)
        known = self._indexes[repository, name]
        version = exact or _newest(asked, known.versions, f"{repository}: chart {name}")
        location = known.locate(version)
        data = self._download(location.url)
        for digest, who in ((location.digest, "its index promises"), (_of(pin), "the lock says")):
            _refuse_other(data, digest, name, version, location.url, who)
        return Brought(data, version, location.url)

    def _in_registry(
        self, repository: str, name: str, exact: str, asked: str, pin: LockedDependency | None
    ) -> Brought:
        base = f"{repository.removeprefix(OCI_SCHEME)}/{name}"
        version = exact or self._tag(base, asked, f"{repository}: chart {name}")
        reference = ImageReference.parse(f"{base}:{oci_tag(version)}")
        url = f"{OCI_SCHEME}{reference}"
        data = self._download(url)
        _refuse_other(data, _of(pin), name, version, url, "the lock says")
        return Brought(data, version, url)

    def _tag(self, base: str, asked: str, what: str) -> str:
        """An exact version is a tag; a range is looked for among the tags, as Helm does."""
        try:
            return Version.parse(asked).text
        except InputError:
            tags = self.upstream.images.list_tags(ImageReference.parse(f"{base}:x"))
            strict = (tag.replace("_", "+") for tag in sorted(tags))
            return _newest(asked, [tag for tag in strict if _STRICT.fullmatch(tag)], what)

    def _download(self, url: str) -> bytes:
        if not url.startswith(OCI_SCHEME):
            return self.upstream.files.fetch_small(url, MAX_CHART_BYTES)
        reference = ImageReference.parse(url.removeprefix(OCI_SCHEME))
        layer = find_oci_chart(self.upstream, reference)
        return self.upstream.images.fetch_small_blob(reference, layer, MAX_CHART_BYTES)

    def _say(self, label: str, place: str, reason: str) -> None:
        text = f"{label} was found at {place} ({reason})"
        self.upstream.files.on_event(Event(EventKind.WARNING, label, text))


def find_oci_chart(upstream: Upstream, reference: ImageReference) -> Descriptor:
    """The layer that is the archive of a chart in a registry.

    https://helm.sh/docs/topics/registries/
    Raises NetworkError, IntegrityError[not-a-chart].
    """
    manifest = upstream.images.fetch_manifest(reference).parsed
    layers = [
        layer
        for layer in (manifest.layers if isinstance(manifest, ImageManifest) else ())
        if layer.media_type == CHART_LAYER_TYPE
    ]
    if (
        not isinstance(manifest, ImageManifest)
        or manifest.config.media_type != CHART_CONFIG_TYPE
        or len(layers) != 1
    ):
        raise IntegrityError("not-a-chart", f"{reference} is not a Helm chart")
    return layers[0]


def _newest(asked: str, versions: Sequence[str], what: str) -> str:
    found = Range.parse(asked).newest(versions)
    if not found:
        raise InputError(
            "no-such-chart",
            f"{what} has no version in the range {asked!r}",
            context={"there are": ", ".join(versions[:10]) or "none"},
            hint="upstream must ask for a version that there is; use another version of the chart",
        )
    return found


def _of(pin: LockedDependency | None) -> Digest | None:
    return pin.digest if pin else None


def _refuse_other(
    data: bytes, expected: Digest | None, name: str, version: str, url: str, who: str
) -> None:
    found = Digest.of_bytes(data)
    if expected and expected != found:
        raise IntegrityError(
            "digest-mismatch",
            f"refused chart {name} {version}: it is not what {who}",
            context={"expected": expected, "got": found, "from": url},
            hint="the repository is inconsistent or changed a version, or a proxy changed the "
            "download",
        )


def _name(error: PerimeterError, label: str) -> None:
    """Lets the error name the chart and the dependency that it is about."""
    if not error.message.startswith(label):
        error.context = {"needed by": label, **error.context}
