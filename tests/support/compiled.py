"""Locks as they are when something was compiled, without compiling."""

from __future__ import annotations

from dataclasses import replace

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import GO_BUILD_SCHEME, GoBuild, ImageOrigin, Lock, LockedImage


def as_compiled(lock: Lock) -> Lock:
    """The lock with a recipe at each image that files of it explain."""

    def one(image: LockedImage) -> LockedImage:
        made = f"{GO_BUILD_SCHEME}{image.reference}/"
        if not any(file.url.startswith(made) for file in lock.files):
            return image
        recipe = Digest.of_bytes(str(image.reference).encode())
        return replace(image, origin=ImageOrigin.GO_BUILD, built=GoBuild(recipe, "go1.26.8"))

    return replace(lock, images=tuple(map(one, lock.images)))
