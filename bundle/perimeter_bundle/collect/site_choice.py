"""Site facts and a release → images with exact tags, and values for charts. Pure.

1. What the rendered objects ask for is what the catalog says (image and version).
2. Hosts that count: those of the groups the catalog names, and every node with a GPU, since the
   operator looks at GPUs, not at groups.
3. A driver the host brings itself needs no image at all.
4. Precompiled or not is one answer for the whole cluster: the operator has one switch. So with
   ``prefer`` every profile must have its precompiled tag, else all take the ordinary ones.
5. Every tag must exist; what is missing is given back, all of it, and refused by the caller.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import yaml

from perimeter_bundle.catalog.site_tags import SiteTag, SystemPackages, os_tag
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.format.site_facts import (
    DriverChoice,
    HostProfile,
    PrecompiledChoice,
    SecureBoot,
    SiteFacts,
)
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

_NODES = ("control_plane", "worker")


@dataclass(frozen=True, slots=True)
class AskedTag:
    """A site tag that the rendered objects really ask for.

    ``conflicts`` are the switches that are on and do not go with precompiled modules.
    """

    component: str
    tag: SiteTag
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """An image for some hosts, and why."""

    reference: ImageReference
    component: str
    why: str


@dataclass(frozen=True, slots=True)
class MissingTag:
    """Nothing for a profile: ``wanted`` are the tags that were looked for."""

    asked: AskedTag
    profile: HostProfile
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompilingHosts:
    """Hosts whose image compiles there, and so needs packages of their system."""

    asked: AskedTag
    profile: HostProfile
    packages: SystemPackages


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """What one site gets beyond the catalog."""

    images: tuple[ChosenImage, ...]
    values: Mapping[str, Mapping[str, object]]  # by component
    missing: tuple[MissingTag, ...] = ()
    compiling: tuple[CompilingHosts, ...] = ()
    notes: tuple[str, ...] = field(default=())  # for people; nothing is refused for them


def asked_tags(release: Release, objects: Mapping[str, Sequence[object]]) -> tuple[AskedTag, ...]:
    """Every site tag that is switched on in the rendered ``objects`` (by component).

    Raises InputError[site-tag-mismatch] with every place where catalog and render differ.
    """
    asked, problems = [], []
    for component in release.components:
        for tag in component.site_tags:
            found = _find(tag, objects.get(component.name, ()))
            if isinstance(found, str):
                problems.append(f"{component.name}: site tag {tag.name}: {found}")
                continue
            whole, place = found
            if _is_on(place.get("enabled", True)):
                conflicts = [path for path in tag.not_precompiled_with if _is_on(_at(whole, path))]
                asked.append(AskedTag(component.name, tag, tuple(conflicts)))
    if problems:
        raise InputError(
            "site-tag-mismatch",
            "what the catalog says of site-dependent images is not what is rendered",
            problems=problems,
            hint="correct site_tags in the component.yaml; docs/catalog.md describes them",
        )
    return tuple(asked)


def candidates(asked: Iterable[AskedTag], facts: SiteFacts) -> tuple[ImageReference, ...]:
    """Every image that might be taken; whether it exists must be known before choosing."""
    found = {
        _reference(one.tag, text)
        for one in asked
        if not _host_brings(one.tag, facts)
        for profile in profiles_of(one.tag, facts)
        for text in _both_tags(one.tag, profile)
        if text
    }
    return tuple(sorted(found))


def profiles_of(tag: SiteTag, facts: SiteFacts) -> tuple[HostProfile, ...]:
    """The profiles whose hosts will pull the image."""
    return tuple(profile for profile in facts.profiles if _counts(tag, profile))


def choose(
    asked: Sequence[AskedTag],
    facts: SiteFacts,
    precompiled: PrecompiledChoice,
    exists: Mapping[ImageReference, bool],
) -> SiteChoice:
    """The images and values for the site; ``exists`` must know every one of ``candidates``.

    Raises InputError[precompiled-impossible] when the site requires what the release rules out.
    """
    images: list[ChosenImage] = []
    missing: list[MissingTag] = []
    compiling: list[CompilingHosts] = []
    notes: list[str] = []
    values: dict[str, dict[str, object]] = {}
    compiled = {
        one.component: _use_precompiled(one, facts, precompiled, exists, notes)
        for one in asked
        if one.tag.precompiled_tag and not _host_brings(one.tag, facts)
    }
    for one in asked:
        profiles = profiles_of(one.tag, facts)
        outcomes = ["container"]
        if _host_brings(one.tag, facts):  # 3
            outcomes = ["host"]
        elif profiles:
            is_compiled = compiled.get(one.component, False) and bool(one.tag.precompiled_tag)
            outcomes = ["precompiled" if is_compiled else "container"]
            if len({os_tag(profile.machine) for profile in profiles}) > 1:
                outcomes.append("several_os")
            for profile in profiles:
                ordinary, special = _both_tags(one.tag, profile)
                text = special if is_compiled else ordinary
                reference = _reference(one.tag, text) if text else None
                if reference is None or not exists[reference]:  # 5
                    missing.append(MissingTag(one, profile, (text,) if text else ()))
                    continue
                packages = one.tag.packages.get(profile.machine.os_id)
                if packages and not is_compiled:
                    named = packages.for_kernel(profile.machine.kernel)
                    compiling.append(CompilingHosts(one, profile, named))
                why = f"site-facts profile {profile.name} ({profile.machine.text}): {one.tag.why}"
                images.append(ChosenImage(reference, one.component, why))
        notes += _warnings(one.tag, profiles, facts)
        for outcome in outcomes:
            filled = _fill(one.tag.values.get(outcome, {}), one.tag)
            _merge(values.setdefault(one.component, {}), filled)
    return SiteChoice(
        tuple(images),
        {name: table for name, table in values.items() if table},
        tuple(missing),
        tuple(compiling),
        tuple(dict.fromkeys(notes)),
    )


def check_platforms(facts: SiteFacts, platforms: Sequence[Platform]) -> None:
    """Raises InputError[platform-missing] when hosts have a processor that is not collected for."""
    problems = [
        f"profile {profile.name} ({profile.host_names}): linux/{profile.machine.architecture}"
        for profile in facts.profiles
        if not any(one.architecture == profile.machine.architecture for one in platforms)
    ]
    if problems:
        raise InputError(
            "platform-missing",
            "the site has hosts that the release is not collected for",
            context={"collected for": ", ".join(map(str, platforms))},
            problems=problems,
            hint="add their platform with --platform",
        )


def values_lines(values: Mapping[str, object]) -> tuple[str, ...]:
    """Values as lines of YAML, sorted, always the same."""
    text = yaml.safe_dump(dict(values), default_flow_style=False, sort_keys=True, width=400)
    return tuple(text.splitlines())


def with_packages(choice: SiteChoice) -> SiteChoice:
    """The choice with the values that tell programs of packages the site has."""
    values = {name: copy.deepcopy(dict(table)) for name, table in choice.values.items()}
    for one in choice.compiling:
        filled = _fill(one.asked.tag.values.get("packages", {}), one.asked.tag)
        _merge(values.setdefault(one.asked.component, {}), filled)
    return replace(choice, values={name: table for name, table in values.items() if table})


NO_SITE_CHOICE = SiteChoice((), {})


def plain_references(release: Release) -> frozenset[ImageReference]:
    """What the renders name in place of site-dependent images; no registry has these."""
    return frozenset(
        ImageReference.parse(f"{tag.image}:{tag.version}")
        for component in release.components
        for tag in component.site_tags
    )


def _counts(tag: SiteTag, profile: HostProfile) -> bool:  # 2
    groups, machine = set(profile.machine.groups), profile.machine
    is_node = bool(groups.intersection(_NODES))
    if tag.choice == "gpu" and is_node and machine.gpus:
        return True
    return bool(groups.intersection(tag.only_groups)) if tag.only_groups else is_node


def _host_brings(tag: SiteTag, facts: SiteFacts) -> bool:
    return tag.choice == "gpu" and facts.driver is DriverChoice.HOST


def _use_precompiled(
    one: AskedTag,
    facts: SiteFacts,
    wish: PrecompiledChoice,
    exists: Mapping[ImageReference, bool],
    notes: list[str],
) -> bool:  # 4
    if wish is PrecompiledChoice.NEVER:
        return False
    if one.conflicts and wish is PrecompiledChoice.REQUIRE:
        raise InputError(
            "precompiled-impossible",
            f"{one.component}: precompiled modules are required, and do not go with what is on",
            problems=[f"{one.tag.asked_by}: {path}" for path in one.conflicts],
            hint="switch it off in the component's values, or set precompiled to prefer",
        )
    if one.conflicts:
        notes.append(
            f"{one.component}: no precompiled modules, since {', '.join(one.conflicts)} is on"
        )
        return False
    if wish is PrecompiledChoice.REQUIRE:
        return True
    profiles = profiles_of(one.tag, facts)
    lacking = [
        profile.name
        for profile in profiles
        for text in [one.tag.precompiled_tag_for(profile.machine)]
        if not text or not exists[_reference(one.tag, text)]
    ]
    if lacking and len(lacking) < len(profiles):
        notes.append(
            f"{one.component}: no precompiled modules anywhere, since there are none for"
            f" {', '.join(lacking)}"
        )
    return bool(profiles) and not lacking


def _warnings(tag: SiteTag, profiles: Iterable[HostProfile], facts: SiteFacts) -> list[str]:
    if tag.choice != "gpu":
        return []
    notes = []
    for profile in profiles:
        machine, where = profile.machine, f"profile {profile.name} ({profile.host_names})"
        if facts.driver is DriverChoice.HOST:
            if not machine.nvidia_driver:
                notes.append(f"{where}: gpu.driver is host, and no driver is loaded there yet")
        elif machine.nvidia_driver:
            notes.append(
                f"{where}: driver {machine.nvidia_driver} is loaded already; the operator leaves"
                " such a node to its own driver"
            )
        elif machine.secure_boot == SecureBoot.ON.value:
            notes.append(
                f"{where}: secure boot is on; modules compiled in a container are not signed and"
                " will not load"
            )
        if not machine.gpus:
            notes.append(f"{where}: in the group gpu, and no NVIDIA GPU was seen there")
    return notes


def _both_tags(tag: SiteTag, profile: HostProfile) -> tuple[str, str]:
    return tag.tag_for(profile.machine), tag.precompiled_tag_for(profile.machine)


def _reference(tag: SiteTag, text: str) -> ImageReference:
    return ImageReference.parse(f"{tag.image}:{text}")


def _find(
    tag: SiteTag, objects: Iterable[object]
) -> tuple[Mapping[str, object], Mapping[str, object]] | str:  # 1
    """The object and the place in it that ask for the image; else what is wrong."""
    for each in objects:
        if not isinstance(each, dict) or not fnmatchcase(_name_of(each), tag.asked_by):
            continue
        place = _at(each, tag.path)
        if not isinstance(place, dict):
            return f"{_name_of(each)} has nothing at {tag.path}"
        found = f"{place.get('repository')}/{place.get('image')}:{place.get('version')}"
        if found != f"{tag.image}:{tag.version}":
            return (
                f"{_name_of(each)}: {tag.path} asks for {found}, the catalog says"
                f" {tag.image}:{tag.version}"
            )
        return each, place
    return f"no rendered object is called {tag.asked_by}"


def _name_of(each: Mapping[str, object]) -> str:
    metadata = each.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else ""
    return f"{each.get('kind')}/{name}"


def _at(each: object, path: str) -> object:
    for part in path.split("."):
        each = each.get(part) if isinstance(each, dict) else None
    return each


def _is_on(value: object) -> bool:
    """Whether a switch or a name in a rendered object says yes; YAML's words may still be text."""
    return str(value or "").lower() not in ("", "false", "no", "off", "null", "~")


def _fill(value: Mapping[str, object], tag: SiteTag) -> dict[str, object]:
    return {key: _filled(inner, tag) for key, inner in value.items()}


def _filled(value: object, tag: SiteTag) -> object:
    if isinstance(value, dict):
        return _fill(value, tag)
    if isinstance(value, list):
        return [_filled(inner, tag) for inner in value]
    if isinstance(value, str):
        return value.replace("{version}", tag.version).replace("{branch}", tag.branch)
    return value


def _merge(into: dict[str, object], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        before = into.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value)
        else:
            into[key] = value
