"""Images whose tag depends on the hosts of a site, as frozen values, and the tags made of them.

Such a tag is made up at run time from labels of a node; here the same is done from site facts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

from perimeter_bundle.format.site_facts import Machine

PLACEHOLDERS = ("version", "branch", "kernel", "os_id", "os_version", "os_tag")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SAMPLE = Machine((), "ubuntu", "22.04", "5.15.0-78-generic", "amd64")


@dataclass(frozen=True, slots=True)
class SystemPackages:
    """Packages of the system that an image installs when it starts.

    Names may hold {kernel}, and its two parts as SUSE writes it: 5.14.21-150500.55.19-default is
    {kernel_version}, a dash, {kernel_flavour}.
    """

    install: tuple[str, ...] = ()  # with all they depend on
    download: tuple[str, ...] = ()  # alone
    download_if_there: tuple[str, ...] = ()

    def for_kernel(self, kernel: str) -> SystemPackages:
        """The same with the names of one kernel."""
        version, _, flavour = kernel.rpartition("-")
        words = {"kernel": kernel, "kernel_version": version, "kernel_flavour": flavour}
        return SystemPackages(
            *(
                tuple(name.format(**words) for name in names)
                for names in (self.install, self.download, self.download_if_there)
            )
        )

    @property
    def needed(self) -> tuple[str, ...]:
        """Names that must be there."""
        return (*self.install, *self.download)


@dataclass(frozen=True, slots=True)
class SiteTag:
    """One entry of ``site_tags``; docs/catalog.md says what each key means."""

    name: str
    image: str  # host and repository
    version: str
    tag: str  # template
    precompiled_tag: str  # template; empty: there is no such image
    choice: str  # gpu: follows what the site says under gpu; empty: follows nothing
    only_groups: tuple[str, ...]  # hosts that count; empty: every node of the cluster
    why: str
    evidence: str  # what the template rests on
    asked_by: str  # Kind/name, a glob: the rendered object that asks for it
    path: str  # of its repository, image, version and enabled in there
    not_precompiled_with: tuple[str, ...]  # paths of switches in there
    values: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # by outcome
    packages: Mapping[str, SystemPackages] = field(default_factory=dict)  # by ID of the system

    def tag_for(self, machine: Machine) -> str:
        """The tag a node like ``machine`` asks for; empty when none can be made."""
        return make_tag(self.tag, self.version, machine)

    def precompiled_tag_for(self, machine: Machine) -> str:
        """The same with modules compiled for its kernel; empty when none can be made."""
        return make_tag(self.precompiled_tag, self.version, machine)

    def could_make(self, tag: str) -> bool:
        """Whether ``tag`` can come out of this version's templates for some host."""
        return any(
            re.fullmatch(_pattern(template, self.version), tag)
            for template in (self.tag, self.precompiled_tag)
            if template
        )

    @property
    def branch(self) -> str:
        """The driver branch: the part of the version before the first dot."""
        return self.version.partition(".")[0]


def make_tag(template: str, version: str, machine: Machine) -> str:
    """``template`` filled in; empty when that gives no tag."""
    text = template.format(
        version=version,
        branch=version.partition(".")[0],
        kernel=machine.kernel,
        os_id=machine.os_id,
        os_version=machine.os_version,
        os_tag=os_tag(machine),
    )
    return text if template and machine.os_version and TAG.fullmatch(text) else ""


def _pattern(template: str, version: str) -> str:
    """``template`` as a regular expression: version and branch stand fast, the host is open."""
    parts = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(re.escape(literal))
        if name is not None:
            fixed = {"version": version, "branch": version.partition(".")[0]}
            parts.append(re.escape(fixed[name]) if name in fixed else "[A-Za-z0-9_.-]+")
    return "".join(parts)


def os_tag(machine: Machine) -> str:
    """``ubuntu22.04``, ``rhel9.6``; only the major version for Rocky and for RHEL from 10 on.

    As the GPU operator does it: getOSTag in internal/state/nodepool.go of NVIDIA/gpu-operator.
    """
    major = machine.os_version.partition(".")[0]
    only_major = machine.os_id == "rocky" or (
        machine.os_id == "rhel" and major.isdigit() and int(major) >= 10
    )
    return machine.os_id + (major if only_major else machine.os_version)


def template_problem(template: str) -> str | None:
    """Why ``template`` cannot make tags; None when it can."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        return f"is not a template: {error}"
    unknown = [name for name in names if name not in PLACEHOLDERS]
    if unknown:
        known = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        return f"unknown placeholder {{{unknown[0]}}}; there are {known}"
    if not {"os_tag", "os_id", "kernel"}.intersection(names):
        return "depends on no host; name such an image under images"
    if not make_tag(template, "1.2.3", _SAMPLE):
        return "does not give a tag: letters, digits and . _ -, at most 128"
    return None
