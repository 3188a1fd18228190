"""Site facts put to the registries: which tags exist, and what to do when none fits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.complete import Rendered
from perimeter_bundle.collect.site_choice import (
    NO_SITE_CHOICE,
    AskedTag,
    ChosenImage,
    MissingTag,
    SiteChoice,
    asked_tags,
    candidates,
    check_platforms,
    choose,
    values_lines,
)
from perimeter_bundle.collect.upstream import Upstream, run_all
from perimeter_bundle.collect.wanted import WantedImage
from perimeter_bundle.discover.stream import read_documents
from perimeter_bundle.format.site_facts import PrecompiledChoice, VerifiedSiteFacts
from perimeter_bundle.model.errors import InputError, NetworkError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.model.locked_site import (
    LockedSite,
    LockedSiteComponent,
    SitePackage,
    SystemKeys,
)
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.ospackages.repositories import OsRepository

SHOWN_TAGS = 8


@dataclass(frozen=True, slots=True)
class SiteRequest:
    """The facts a lock is written with; ``precompiled`` replaces what the site asks for."""

    verified: VerifiedSiteFacts
    precompiled: PrecompiledChoice | None = None
    repositories: tuple[OsRepository, ...] = ()  # of the hosts' systems

    @property
    def wish(self) -> PrecompiledChoice:
        """What holds; raises InputError[site-refuses-precompiled] when both contradict."""
        asked = self.verified.facts.precompiled
        if asked is PrecompiledChoice.NEVER and self.precompiled not in (None, asked):
            raise InputError(
                "site-refuses-precompiled",
                "--precompiled asks for modules that the site does not take",
                context={"site.yaml says": "gpu.precompiled: never"},
            )
        return self.precompiled or asked


def resolve_site(
    release: Release,
    rendered: Sequence[Rendered],
    request: SiteRequest | None,
    upstream: Upstream,
) -> SiteChoice:
    """What the site of ``request`` gets; without one nothing, and a warning where that matters.

    Raises InputError[site-tag-mismatch], [no-driver-for-kernel], [precompiled-impossible],
    [site-refuses-precompiled] or [platform-missing], and NetworkError.
    """
    if not any(component.site_tags for component in release.components):
        return NO_SITE_CHOICE
    asked = asked_tags(release, _objects(rendered))
    if request is None:
        for one in asked:
            upstream.files.on_event(
                Event(
                    EventKind.WARNING,
                    one.component,
                    f"{one.tag.image} depends on the hosts of a site: no such image is locked"
                    " without --site-facts",
                )
            )
        return NO_SITE_CHOICE
    facts = request.verified.facts
    check_platforms(facts, release.platforms)
    exists = _which_exist(candidates(asked, facts), upstream)
    choice = choose(asked, facts, request.wish, exists)
    if choice.missing:
        raise _no_driver(choice.missing, upstream)
    for note in choice.notes:
        upstream.files.on_event(Event(EventKind.WARNING, "site-facts", note))
    return choice


def with_site_images(
    wanted: Iterable[WantedImage], choice: SiteChoice, plain: frozenset[ImageReference]
) -> tuple[WantedImage, ...]:
    """``wanted`` without what no registry has (``plain``), and with the site's own images."""
    kept = [image for image in wanted if image.reference not in plain]
    grouped: dict[ImageReference, list[ChosenImage]] = {}
    for image in choice.images:
        grouped.setdefault(image.reference, []).append(image)
    added = [
        WantedImage(
            reference,
            tuple(sorted({one.component for one in images})),
            tuple(sorted({f"{one.component}: {one.why}" for one in images})),
        )
        for reference, images in grouped.items()
    ]
    return tuple(sorted([*kept, *added], key=lambda image: str(image.reference)))


def locked_site(
    request: SiteRequest | None,
    choice: SiteChoice,
    packages: Mapping[str, tuple[SitePackage, ...]],
    keys: Mapping[str, tuple[SystemKeys, ...]],
) -> LockedSite | None:
    """The part of the lock that names the site; None without site facts."""
    if request is None:
        return None
    verified = request.verified
    names = sorted({image.component for image in choice.images} | set(choice.values))
    return LockedSite(
        name=verified.facts.site,
        facts=verified.digest,
        signed_by=verified.signer.key.key_id,
        components=tuple(
            LockedSiteComponent(
                name,
                tuple(sorted({i.reference for i in choice.images if i.component == name})),
                values_lines(choice.values[name]) if name in choice.values else (),
                packages.get(name, ()),
                keys.get(name, ()),
            )
            for name in names
        ),
    )


def _objects(rendered: Iterable[Rendered]) -> Mapping[str, Sequence[object]]:
    found: dict[str, list[object]] = {}
    for one in rendered:
        if one.component.site_tags:
            # scalars stay text: a version 1.10 is no number
            documents = read_documents(f"{one.component.name}/{one.name}", one.data)
            found.setdefault(one.component.name, []).extend(each.tree for each in documents)
    return found


def _which_exist(
    references: Sequence[ImageReference], upstream: Upstream
) -> Mapping[ImageReference, bool]:
    """Asked by name and not looked up in a list: a mirror lists only what it has fetched."""
    jobs = {str(reference): partial(_exists, reference, upstream) for reference in references}
    return dict(zip(references, run_all(jobs, upstream, "tags for the site"), strict=True))


def _exists(reference: ImageReference, upstream: Upstream) -> bool:
    try:
        upstream.images.fetch_manifest(reference)
    except NetworkError as error:
        if error.code == "not-found":
            return False
        raise
    return True


def _no_driver(missing: Sequence[MissingTag], upstream: Upstream) -> InputError:
    tags: dict[str, frozenset[str]] = {}
    problems = []
    for one in missing:
        tag = one.asked.tag
        if tag.image not in tags:
            tags[tag.image] = _tags_of(tag.image, upstream)
        machine = one.profile.machine
        problems.append(
            f"{one.asked.component}: profile {one.profile.name} ({one.profile.host_names}):"
            f" {machine.text}\n"
            f"looked for {', '.join(f'{tag.image}:{text}' for text in one.wanted) or 'no tag'}\n"
            f"there are {_nearest(one, tags[tag.image])}"
        )
    return InputError(
        "no-driver-for-kernel",
        "no image fits the system or kernel of some hosts",
        problems=problems,
        hint="give these hosts a system and kernel that there is an image for and write the site"
        " facts again; or install the driver on them (gpu.driver: host); with"
        " precompiled: require, prefer also takes images that compile at the site",
    )


def _tags_of(image: str, upstream: Upstream) -> frozenset[str]:
    """For a message only: a registry that lists nothing shall not hide what is wrong."""
    try:
        return upstream.images.list_tags(ImageReference.parse(f"{image}:x"))
    except NetworkError:
        return frozenset()


def _nearest(one: MissingTag, tags: frozenset[str]) -> str:
    """The tags most like the one that is missing: same version or same system first."""
    wanted = next(iter(one.wanted), one.asked.tag.version)
    likely = [tag for tag in tags if _shares(tag, one.asked, one)] or list(tags)
    near = difflib.get_close_matches(wanted, sorted(likely), SHOWN_TAGS, 0.0)
    return ", ".join(near) or "no tags that the registry would tell"


def _shares(tag: str, asked: AskedTag, one: MissingTag) -> bool:
    machine = one.profile.machine
    same_os = tag.endswith(f"-{machine.os_id}{machine.os_version}")
    return tag.startswith((f"{asked.tag.version}-", f"{asked.tag.branch}-")) or same_os
