"""The Ansible collections that the playbooks use, unpacked once, for linting and for trying roles.

The very package that the bundle takes them from, by the hash in requirements/collections.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from perimeter_bundle.collect.collections import unpack_collections
from perimeter_bundle.format.layout import COLLECTIONS

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = REPOSITORY / "requirements" / "collections.txt"
DOWNLOAD_TIMEOUT_S = 600


def cache_folder() -> Path:
    """Where what is downloaded once is kept; the same variable as the lab's."""
    default = Path("/var/cache/perimeter-lab")
    if not os.access(default.parent, os.W_OK):
        default = Path.home() / ".cache" / "perimeter"
    return Path(os.environ.get("PERIMETER_LAB_CACHE", default))


def collections_path() -> Path:
    """A folder for ANSIBLE_COLLECTIONS_PATH; downloaded (54 MB) when not in the cache."""
    pin = REQUIREMENTS.read_text().split("sha256:")[1].split()[0]
    target = cache_folder() / f"collections-{pin[:16]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".collections-", dir=target.parent))
        try:
            unpack_collections(_wheel(work, pin), work / "bundle")
            (work / "bundle" / COLLECTIONS).rename(target)
        except FileExistsError:
            pass  # another run was quicker
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _wheel(work: Path, pin: str) -> Path:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"),
            *("--dest", str(work), "-r", str(REQUIREMENTS)),
        ],
        check=True,
        timeout=DOWNLOAD_TIMEOUT_S,
    )
    return next(work.glob("ansible-*.whl"))
