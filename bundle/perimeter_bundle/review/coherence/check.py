"""Every rule over everything that is known."""

from __future__ import annotations

from perimeter_bundle.model.lock import WORKLOADS
from perimeter_bundle.review.coherence.facts import Facts
from perimeter_bundle.review.coherence.families import (
    mixed_versions,
    product_versions,
    several_versions,
)
from perimeter_bundle.review.coherence.kubernetes import kubernetes_ranges, removed_apis
from perimeter_bundle.review.coherence.locked import missing_platforms, old_manifests
from perimeter_bundle.review.coherence.objects import always_pulled, twice_defined, version_labels
from perimeter_bundle.review.coherence.references import digest_only, floating_tags, two_digests
from perimeter_bundle.review.coherence.values import Finding, in_order

RULES = (
    "mixed-versions",
    "several-versions",
    "product-versions",
    "product-unused",
    "floating-tag",
    "short-version",
    "digest-only",
    "two-digests",
    "always-pulled",
    "twice-defined",
    "twice-the-same",
    "version-label",
    "removed-api",
    "kubernetes-range",
    "missing-platform",
    "old-manifest",
)


def find_incoherence(facts: Facts) -> tuple[Finding, ...]:
    """What does not fit in ``facts``, the worst first. Pure; raises InputError[bad-version] when
    the release's own Kubernetes has no version that can be read."""
    # what a site brings itself may be at any version, and its release file is not the site's
    shipped = tuple(use for use in facts.uses if use.component != WORKLOADS)
    findings = [
        *mixed_versions(shipped),
        *several_versions(shipped),
        *product_versions(facts.products, shipped),
        *floating_tags(facts.uses),
        *digest_only(facts.uses),
        *two_digests(shipped),
        *always_pulled(facts.objects),
        *twice_defined(facts.objects),
        *version_labels(facts.objects, facts.charts, facts.uses),
    ]
    if facts.kubernetes:
        findings += removed_apis(facts.objects, facts.kubernetes)
        findings += kubernetes_ranges(facts.charts, facts.kubernetes)
    if facts.lock is not None:
        findings += missing_platforms(facts.lock)
        findings += old_manifests(facts.lock)
    return in_order(findings)
