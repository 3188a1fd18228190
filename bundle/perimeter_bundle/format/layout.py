"""Every file name inside a bundle; nothing else in perimeter spells one.

A bundle is a folder. It is also an OCI image layout, so any tool that reads one reads it.
https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

from perimeter_bundle.model.digest import Digest

BUNDLE_FORMAT = "perimeter-bundle/1"
BASE_FORMAT = "perimeter-base/1"

# the OCI image layout
OCI_LAYOUT = "oci-layout"
INDEX = "index.json"
BLOBS = "blobs"

# what is inside, for reviewers and for the installer
BUNDLE_MANIFEST = "manifest/bundle.json"
BASE = "manifest/base.json"  # only in a delta: what it leaves out, and where that is held
LOCK = "manifest/images.lock"
RENDERED = "manifest/rendered"
DISCOVERY = "manifest/discovery.json"
COHERENCE = "manifest/coherence.json"
SITE_VALUES = "manifest/site-values"  # only in a bundle that was locked with site facts
SBOM = "sbom"  # what is in images that were compiled, and how they were made; by component

# what runs on the closed side
CONTENT = "content"
ROLES = "content/roles"
PLAYBOOKS = "content/playbooks"
CATALOG = "content/manifests"
WHEELHOUSE = "content/wheelhouse"
PYTHON_INDEX = "content/python-index"  # wheels of a site's own; pip reads it, served or not
COLLECTIONS = "content/collections"
INSTALL_REQUIREMENTS = "content/requirements/install.txt"

# what makes it checkable
SUMS = "SHA256SUMS"
SIGNATURES = "signatures"
VERIFY_SCRIPT = "verify.sh"
VERIFY_README = "VERIFY.md"
BOOTSTRAP_SCRIPT = "bootstrap.sh"

# beside the bundle while it is being built; never inside a finished one
BUILD_FOLDER = ".perimeter-build"
# the same while it is put together out of volumes
UNPACK_FOLDER = ".perimeter-unpack"

# annotations on index.json entries
REF_NAME_ANNOTATION = "org.opencontainers.image.ref.name"  # always the full reference


def blob_path(digest: Digest) -> str:
    """Where a blob lies, relative to the bundle."""
    return f"{BLOBS}/{digest.algorithm.value}/{digest.hex}"


def site_values_path(component: str) -> str:
    """Values of a component's chart that hold for the site the bundle was locked for."""
    return f"{SITE_VALUES}/{component}.yaml"


def site_packages_path(component: str) -> str:
    """Which packages of the hosts' systems are carried for a component, and under which names."""
    return f"{SITE_VALUES}/{component}-packages.json"


def site_repository_path(component: str, system: str) -> str:
    """Indexes and keys of a repository that those packages of a system make up."""
    return f"{SITE_VALUES}/{component}-repositories/{system}"


def python_package_path(filename: str) -> str:
    """A wheel of the site's own Python packages."""
    return f"{PYTHON_INDEX}/{filename}"


def signature_path(key_id: str) -> str:
    """The raw DER signature made by the key with this id."""
    return f"{SIGNATURES}/{key_id}.sig"


def sigstore_path(key_id: str) -> str:
    """The same signature as a Sigstore v0.3 bundle."""
    return f"{SIGNATURES}/{key_id}.sigstore.json"
