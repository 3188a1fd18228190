"""Made tests/vectors/bundle-1, once; every later version of perimeter must open it.

Do not run it again to make a failing test pass: a bundle that somebody carries about already cannot
be made again either. For a new format write bundle-2 beside it.

    PYTHONPATH=bundle:. python -m tests.vectors.make_bundle_1
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.bundles import make_bundle

TARGET = Path(__file__).parent / "bundle-1"


def main() -> None:
    """Writes the bundle and its trust folder; the private key is thrown away."""
    if TARGET.exists():
        sys.exit(f"{TARGET} is there already, and stays as it is")
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
        shutil.copytree(bundle.root, TARGET / "2026.11")
        shutil.copytree(bundle.trust_folder, TARGET / "trust")


if __name__ == "__main__":
    main()
