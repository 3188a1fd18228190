"""What an apply will do: bundle, site and history to an ordered list of steps. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from perimeter_bundle.format.manifest import BundleComponent, BundleManifest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.phases import CARRIED, Phase, is_installed
from perimeter_installer.site.model import Site


@dataclass(frozen=True, slots=True)
class Step:
    """One playbook run; ``why`` says it to people in the plan."""

    name: str
    playbook: str  # below the bundle's playbooks
    hosts: tuple[str, ...]
    title: str
    why: str
    done: bool = False  # finished by the run that was interrupted

    def to_dict(self) -> dict[str, object]:
        """The step as ``--json`` prints it."""
        return {
            "name": self.name,
            "playbook": self.playbook,
            "hosts": list(self.hosts),
            "title": self.title,
            "why": self.why,
            "done": self.done,
        }


@dataclass(frozen=True, slots=True)
class History:
    """What the journal knows of this site."""

    newest_number: int | None = None  # of the newest release that was applied, or begun
    newest_release: str = ""
    finished_steps: frozenset[str] = frozenset()  # by an interrupted run of this bundle and site

    def forgetting_steps(self) -> History:
        """The same for a run that skips nothing."""
        return replace(self, finished_steps=frozenset())


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    title: str
    where: str  # a group of the inventory, kubernetes, or jump
    always: bool = False
    needs_cluster: bool = False


# The order of installation. A step runs when the release has a component that its role installs.
_KINDS = (
    _Kind("registry", "Registry serves the bundle's images, charts and files", "registry"),
    _Kind("node", "Hosts are prepared for Kubernetes", "kubernetes", always=True),
    _Kind("containerd", "Containers run, and images come from the site's registry", "kubernetes"),
    _Kind("kubernetes", "Control plane and workers are joined", "kubernetes"),
    _Kind("network", "Pods reach each other", "jump", needs_cluster=True),
    _Kind("storage", "Volumes are made on request", "jump", needs_cluster=True),
    _Kind("minio", "Object storage answers", "jump", needs_cluster=True),
)
STEP_NAMES = tuple(kind.name for kind in _KINDS)
STEPS_WITH_CLUSTER = frozenset(kind.name for kind in _KINDS if kind.needs_cluster)


def plan(
    manifest: BundleManifest,
    site: Site,
    history: History,
    *,
    only: Collection[str] = (),
    allow_older: bool = False,
) -> tuple[Step, ...]:
    """The steps in order; what is only carried has none, see ``carried``.

    Raises InputError: older-release, unknown-step, unknown-phase (the bundle needs a newer
    installer), and carried-only when a step is asked for whose components are only carried.
    """
    _refuse_older(manifest, history, allow_older=allow_older)
    unknown = sorted({one.phase for one in manifest.components} - {one.value for one in Phase})
    if unknown:
        raise InputError(
            "unknown-phase",
            f"release {manifest.release} has phases that this installer does not know",
            context={
                "found": ", ".join(unknown),
                "known": ", ".join(phase.value for phase in Phase),
            },
            hint="install the perimeter that the bundle brings along (bootstrap.sh)",
        )
    steps = tuple(
        step
        for kind in _KINDS
        if (kind.always or _installed(manifest, kind.name))
        and (step := _step(kind, manifest, site, history)) is not None
    )
    names = [step.name for step in steps]
    wrong = sorted(set(only) - set(names))
    only_carried = [one for one in carried(manifest) if one.phase in wrong]
    if only_carried:
        raise _carried_only(manifest, only_carried)
    if wrong:
        raise InputError(
            "unknown-step",
            f"there is no step {', '.join(wrong)} in this plan",
            hint=f"steps are: {', '.join(names)}",
        )
    return tuple(step for step in steps if not only or step.name in only)


def carried(manifest: BundleManifest) -> tuple[BundleComponent, ...]:
    """Components that the bundle brings to the site's registries, and no role installs yet."""
    return tuple(one for one in manifest.components if not is_installed(one.name, one.phase))


def refuse_carried(manifest: BundleManifest, only: Collection[str]) -> None:
    """Nothing is passed over in silence: all steps means every component of the release.

    Raises InputError[carried-only] with each component, unless single steps are asked for.
    """
    components = carried(manifest)
    if components and not only:
        raise _carried_only(manifest, components)


def _carried_only(manifest: BundleManifest, components: Sequence[BundleComponent]) -> InputError:
    steps = [kind.name for kind in _KINDS if kind.always or _installed(manifest, kind.name)]
    return InputError(
        "carried-only",
        f"parts of release {manifest.release} are {CARRIED}",
        problems=[f"{one.name} {one.version} (phase {one.phase}): {CARRIED}" for one in components],
        hint="load brings them to the site's registries; apply the rest by "
        + " ".join(f"--step {name}" for name in steps),
    )


def _installed(manifest: BundleManifest, phase: str) -> list[BundleComponent]:
    """Components of a phase that are installed."""
    return [
        one
        for one in manifest.components
        if one.phase == phase and is_installed(one.name, one.phase)
    ]


def _refuse_older(manifest: BundleManifest, history: History, *, allow_older: bool) -> None:
    installed = history.newest_number
    if installed is not None and manifest.number < installed and not allow_older:
        raise InputError(
            "older-release",
            f"release {manifest.release} is older than what this site runs",
            context={
                "installed": f"{history.newest_release} (number {installed})",
                "bundle": f"{manifest.release} (number {manifest.number})",
            },
            hint="going back can lose data; --allow-older does it all the same",
        )


def _step(kind: _Kind, manifest: BundleManifest, site: Site, history: History) -> Step | None:
    if kind.where == "registry":
        if site.registry.mode == "external":
            return None
        hosts = tuple(host.name for host in site.group("registry"))
    elif kind.where == "kubernetes":
        hosts = tuple(host.name for host in site.nodes)
    else:
        hosts = ("localhost",)
    parts = ", ".join(f"{one.name} {one.version}" for one in _installed(manifest, kind.name))
    return Step(
        name=kind.name,
        playbook=f"{kind.name}.yml",
        hosts=hosts,
        title=kind.title,
        why=f"release {manifest.release} has {parts}" if parts else "every site needs it",
        done=kind.name in history.finished_steps,
    )
