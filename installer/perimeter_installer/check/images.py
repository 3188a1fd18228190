"""Is what runs what was reviewed? Compares the digest of each running container with the bundle.

Pure. A runtime reports either the digest a tag resolved to (an index) or that of the manifest for
its platform; the bundle knows both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference
from perimeter_installer.check.kube import PodState

Allowed = Mapping[str, Collection[str]]  # reference as the bundle names it → digests


@dataclass(frozen=True, slots=True)
class RunningImage:
    """An image, the digest under which it runs, and in which containers."""

    reference: str
    digest: str
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageJudgement:
    """Images that are the bundle's, and one line for each that is not."""

    right: tuple[RunningImage, ...]
    wrong: tuple[str, ...]


def judge_images(pods: Iterable[PodState], allowed: Allowed) -> ImageJudgement:
    """Compares every container that was started; what waits for its image is not running yet."""
    seen: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        for container in (*pod.init_containers, *pod.containers):
            if container.image_id:
                key = (container.image, container.image_id)
                seen.setdefault(key, []).append(f"{pod.full_name}/{container.name}")
    right, wrong = [], []
    for (image, image_id), containers in sorted(seen.items()):
        reference, digest = normal_name(image), image_id.rpartition("@")[2]
        problem = _problem(reference, digest, allowed)
        if problem:
            more = f" and {len(containers) - 1} more" if len(containers) > 1 else ""
            wrong.append(f"{containers[0]}{more} runs {reference}: {problem}")
        else:
            right.append(RunningImage(reference, digest, tuple(containers)))
    return ImageJudgement(tuple(right), tuple(wrong))


def normal_name(image: str) -> str:
    """``image`` written in full, as the bundle names it; unchanged when it is no reference."""
    try:
        reference = ImageReference.parse(image)
    except InputError:
        return image
    return str(reference)


def _problem(reference: str, digest: str, allowed: Allowed) -> str:
    """Why this is not the bundle's image; empty when it is."""
    wanted = allowed.get(reference)
    if wanted is None:
        # named by digest: any image of the bundle with that digest will do
        everything = {one for digests in allowed.values() for one in digests}
        if "@" in reference and digest in everything:
            return ""
        return "it is not in the bundle"
    try:
        Digest.parse(digest)
    except InputError:
        return f"the runtime names no digest for it ({digest[:80]})"
    if digest not in wanted:
        return f"found {digest}, the bundle has {' or '.join(sorted(wanted))}"
    return ""
