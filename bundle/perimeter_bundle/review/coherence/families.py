"""Parts of one product at versions that do not belong together.

A product's images mostly lie side by side (``gcr.io/istio-release/pilot`` and ``…/proxyv2``) and
share a version. That, and not a list of products, is what is looked for: the version that several
repositories of a folder share is the product's, and whatever is near it but not it is odd. Where a
folder holds many products (a bare host, official images) only repositories that begin with the
same word are taken together. What no rule can see is written beside a component: ``coherence:``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from perimeter_bundle.model.reference import DOCKER_HUB
from perimeter_bundle.review.coherence.facts import Use
from perimeter_bundle.review.coherence.rules import Product, Same
from perimeter_bundle.review.coherence.values import Finding, Severity, Spot
from perimeter_bundle.review.coherence.versions import TagVersion, tag_version

OFFICIAL_IMAGES = f"{DOCKER_HUB}/library"  # tools of everybody's; not one product
MANY = 3  # so many repositories at one version are no accident

Uses = Sequence[Use]
Versions = Mapping[TagVersion, Uses]

_WHY = (
    "parts of one product are tested together at one version; others may not understand each "
    "other, and which parts are affected shows only when they run"
)


@dataclass(frozen=True, slots=True)
class _Odd:
    repository: str
    version: TagVersion
    severity: Severity


def mixed_versions(uses: Uses) -> Iterator[Finding]:
    """One finding for each family of repositories that is at several near versions."""
    for family, repositories in sorted(_families(uses).items()):
        together = _shared_version(repositories)
        if together is None:
            odd = list(_near_without_agreement(repositories))
        else:
            odd = list(_near_but_other(repositories, together))
        if odd:
            yield _mixed_finding(family, repositories, together, odd)


def several_versions(uses: Uses) -> Iterator[Finding]:
    """Repositories at several versions, as far as ``mixed_versions`` has not found them."""
    found = {finding.subject for finding in mixed_versions(uses)}
    by_name: dict[str, dict[str, list[Use]]] = defaultdict(lambda: defaultdict(list))
    for use in uses:
        if use.reference.tag:
            version = tag_version(use.reference.tag)
            by_name[use.reference.name][str(version or use.reference.tag)].append(use)
    for name, versions in sorted(by_name.items()):
        if len(versions) == 1 or _family_of(name) in found:
            continue
        components = [{use.component for use in some} for some in versions.values()]
        is_one_component = any(
            one & other for index, one in enumerate(components) for other in components[:index]
        )
        is_tool = _folder_of(name) == OFFICIAL_IMAGES
        yield Finding(
            rule="several-versions",
            subject=name,
            severity=Severity.WARNING if is_one_component and not is_tool else Severity.NOTE,
            title=f"{name} is asked for at {len(versions)} versions: {', '.join(sorted(versions))}",
            why="each is carried and scanned; an old one may have been forgotten",
            spots=tuple(use.spot for some in versions.values() for use in some),
            what_to_do="nothing when each is meant; else set the version where it is asked for",
        )


def product_versions(products: Sequence[tuple[str, Product]], uses: Uses) -> Iterator[Finding]:
    """What the catalog says about products (with its component): each at one version, and there."""
    for component, product in products:
        parts: dict[str, list[Use]] = defaultdict(list)
        for use in uses:
            version = tag_version(use.reference.tag)
            if any(fnmatchcase(use.reference.name, image) for image in product.images):
                parts[_shared_part(version, product.same, use.reference.tag)].append(use)
        missing = [
            image
            for image in product.images
            if not any(fnmatchcase(use.reference.name, image) for use in uses)
        ]
        if missing:
            yield Finding(
                rule="product-unused",
                subject=product.name,
                severity=Severity.ERROR,
                title=f"coherence: {product.name} names what the release does not have: "
                + ", ".join(missing),
                why="a rule that looks at nothing protects from nothing",
                spots=(Spot(component, "component.yaml", "coherence", product.name),),
                what_to_do="mend the names, or take the rule out",
            )
        if len(parts) > 1:
            yield Finding(
                rule="product-versions",
                subject=product.name,
                severity=Severity.ERROR,
                title=f"{product.name} is at several versions: {', '.join(sorted(parts))}; "
                f"its parts share the {product.same.value}",
                why=product.evidence,
                spots=tuple(use.spot for some in parts.values() for use in some),
                what_to_do="bring the parts to one version, or accept it in the release",
            )


def _families(uses: Uses) -> dict[str, dict[str, Versions]]:
    """Family → repository → version → uses."""
    found: dict[str, dict[str, dict[TagVersion, list[Use]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for use in uses:
        version = tag_version(use.reference.tag)
        if version is not None:
            name = use.reference.name
            found[_family_of(name)][name][version].append(use)
    return {
        family: {name: dict(versions) for name, versions in repositories.items()}
        for family, repositories in found.items()
        if len(repositories) > 1
    }


def _family_of(name: str) -> str:
    folder = _folder_of(name)
    if "/" not in folder or folder == OFFICIAL_IMAGES:
        return f"{folder}/{_first_word(name)}-*"
    return folder


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _first_word(name: str) -> str:
    return name.rpartition("/")[2].partition("-")[0]


def _shared_version(repositories: Mapping[str, Versions]) -> TagVersion | None:
    """The version that most repositories have, the older one when two are even."""
    having: dict[TagVersion, set[str]] = defaultdict(set)
    for name, versions in repositories.items():
        for version in versions:
            having[version].add(name)
    best = min(having, key=lambda version: (-len(having[version]), version))
    return best if len(having[best]) > 1 else None


def _near_but_other(repositories: Mapping[str, Versions], together: TagVersion) -> Iterator[_Odd]:
    agreeing = {name for name, versions in repositories.items() if together in versions}
    components = {
        use.component for name in agreeing for use in repositories[name].get(together, ())
    }
    words = {_first_word(name) for name in agreeing}
    for name, versions in sorted(repositories.items()):
        for version, uses in sorted(versions.items()):
            if version == together or not version.is_near(together):
                continue
            is_certain = (
                name in agreeing
                or len(words) == 1 == len(words | {_first_word(name)})
                or (len(agreeing) >= MANY and 2 * len(agreeing) > len(repositories))
            )
            severity = Severity.ERROR if is_certain else Severity.WARNING
            if version.differs_in_patch_only(together):
                severity = Severity.WARNING
            if not components & {use.component for use in uses}:
                severity = severity.lower()
            yield _Odd(name, version, severity)


def _near_without_agreement(repositories: Mapping[str, Versions]) -> Iterator[_Odd]:
    """No two repositories agree; told of those that run side by side and are near each other.

    Near are all of a folder, or, when it holds more, those whose names begin with the same word.
    """
    near: dict[tuple[str, int], dict[str, dict[TagVersion, Uses]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for name, versions in repositories.items():
        for version, uses in versions.items():
            near[_first_word(name), version.numbers[0]][name][version] = uses
    groups: list[Mapping[str, Versions]] = list(near.values())
    if _are_near(repositories):
        groups = [repositories]
    for group in groups:
        if len(group) > 1 and _are_near(group) and _run_together(group):
            for name, versions in sorted(group.items()):
                for version in sorted(versions):
                    yield _Odd(name, version, Severity.WARNING)


def _are_near(group: Mapping[str, Versions]) -> bool:
    """Before version 1 the second number says what belongs together, and here it differs."""
    versions = [version for some in group.values() for version in some]
    return all(version.is_near(versions[0]) and version.numbers[0] for version in versions)


def _run_together(group: Mapping[str, Versions]) -> bool:
    """Whether there is a component and namespace in which all of them are."""
    places = [
        {(use.component, use.namespace) for uses in some.values() for use in uses}
        for some in group.values()
    ]
    return bool(set.intersection(*places))


def _mixed_finding(
    family: str,
    repositories: Mapping[str, Versions],
    together: TagVersion | None,
    odd: Sequence[_Odd],
) -> Finding:
    names = sorted(f"{one.repository.rpartition('/')[2]} {one.version}" for one in odd)
    if together is None:
        title = f"{family}: no two parts are at one version: {', '.join(names)}"
        others: list[Use] = []
    else:
        others = [
            versions[together][0] for versions in repositories.values() if together in versions
        ]
        title = f"{family}: {len(others)} parts are at {together}, but {', '.join(names)}"
    spots = [use.spot for one in odd for use in repositories[one.repository][one.version]]
    return Finding(
        rule="mixed-versions",
        subject=family,
        severity=min((one.severity for one in odd), key=lambda severity: severity.rank),
        title=title,
        why=_WHY,
        spots=(*spots, *(use.spot for use in others)),
        what_to_do="bring the parts to one version where they are asked for; when upstream means "
        "it so, accept it in the release and say why it works",
    )


def _shared_part(version: TagVersion | None, same: Same, tag: str) -> str:
    if version is None:
        return tag or "a digest"
    length = {Same.VERSION: len(version.numbers), Same.MINOR: 2, Same.MAJOR: 1}[same]
    if same is Same.VERSION:
        return str(version)
    return ".".join(str(number) for number in version.numbers[:length])
