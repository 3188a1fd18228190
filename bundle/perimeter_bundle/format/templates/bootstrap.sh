#!/bin/sh
# Installs perimeter-install from this bundle's own wheelhouse. Needs Python 3.11 or newer; no pip,
# no network. Run verify.sh first, as the same user: without its record for this very bundle
# nothing is installed.
#
#   sh DIR/bootstrap.sh [--prefix FOLDER] [--no-link]
#
#   --prefix FOLDER   where to install; /opt/perimeter/RELEASE for root,
#                     $HOME/.local/share/perimeter/RELEASE for others
#   --no-link         no link to perimeter-install in /usr/local/bin ($HOME/.local/bin)
#   PYTHON=...        which Python to use; otherwise the first of python3, python3.14 ... python3.11
#
# Exit status: 0 installed, or was already; 2 wrong usage; 4 bytes are not the verified ones;
#              5 not verified; 6 this machine lacks something or the installation failed.
set -eu
LC_ALL=C
export LC_ALL
unset CDPATH 2>/dev/null || :
umask 022

say() { printf '%s\n' "$*"; }
refuse() { # status, code, message, hint
    printf 'error[%s]: %s\n' "$2" "$3" >&2
    [ -z "${4:-}" ] || printf '  hint: %s\n' "$4" >&2
    exit "$1"
}
usage() { refuse 2 usage "$1" "sh bootstrap.sh [--prefix FOLDER] [--no-link]"; }

prefix=
link=yes
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] && [ -n "$2" ] || usage "--prefix needs a folder"
        prefix=$2
        shift 2
        ;;
    --no-link)
        link=
        shift
        ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) usage "unknown argument $1" ;;
    esac
done
case $prefix in
'' | /*) ;;
*) prefix=$(pwd -P)/$prefix ;;
esac

root=$(cd -- "$(dirname -- "$0")" && pwd -P) || refuse 2 usage "cannot enter the bundle"
cd -- "$root"
if [ "$(id -u)" = 0 ]; then
    state=${XDG_STATE_HOME:-/var/lib}/perimeter/verified
    home=/opt/perimeter
    bin=/usr/local/bin
else
    state=${XDG_STATE_HOME:-${HOME:-/nonexistent}/.local/state}/perimeter/verified
    home=${HOME:-/nonexistent}/.local/share/perimeter
    bin=${HOME:-/nonexistent}/.local/bin
fi
work=$(mktemp -d) || refuse 6 no-room "cannot make a temporary folder"
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# verified, this very bundle, and what is installed from it is still the same
[ -f SHA256SUMS ] || refuse 4 bad-sums "SHA256SUMS is missing"
sums=$(sha256sum <SHA256SUMS | cut -b 1-64)
[ -s "$state/$sums" ] || refuse 5 not-verified "this bundle was not verified by this user" \
    "sh $root/verify.sh TRUSTED.pub"
listed='^[0-9a-f]{64}  (content/|manifest/bundle\.json$|bootstrap\.sh$)'
grep -aE "$listed" SHA256SUMS >"$work/sums" || refuse 4 missing-file "the bundle holds no installer"
sha256sum -c "$work/sums" >"$work/checked" 2>/dev/null || {
    grep -av ': OK$' "$work/checked" | sed -n '1,20s/^/  /p' >&2
    refuse 4 digest-mismatch "files changed since verify.sh passed" "run verify.sh again"
}
cut -b 67- "$work/sums" | grep -a '^content/' >"$work/listed" || :
find content ! -type d | sort >"$work/found"
comm -13 "$work/listed" "$work/found" >"$work/extra"
if [ -s "$work/extra" ]; then
    sed -n '1,20s/^/  /p' "$work/extra" >&2
    refuse 4 unlisted-file "files were added since verify.sh passed" "run verify.sh again"
fi

# a Python that is new enough
python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -I -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || refuse 6 no-python \
    "Python 3.11 or newer is needed; found $("${PYTHON:-python3}" --version 2>&1 || echo none)" \
    "install it from this machine's own system medium, or set PYTHON=/path/to/python3.11"

# the wheels that are needed, each exactly once
one_of() {
    grep -aE "^content/wheelhouse/$1-[^/]*\\.whl\$" "$work/listed" >"$work/wheels" || :
    [ "$(wc -l <"$work/wheels")" -eq 1 ] ||
        refuse 4 no-wheel "the bundle holds $(($(wc -l <"$work/wheels"))) wheels of $1; one is needed"
    cat "$work/wheels"
}
pip=$(one_of pip) || exit
wheel=$(one_of perimeter) || exit
[ -f content/requirements/install.txt ] ||
    refuse 4 missing-file "content/requirements/install.txt is missing"

release=$("$python" -I -c 'import json; print(json.load(open("manifest/bundle.json"))["release"])') ||
    refuse 4 bad-manifest "manifest/bundle.json names no release"
case $release in
'' | .* | *[!A-Za-z0-9._-]*) refuse 4 bad-manifest "the release name cannot name a folder: $release" ;;
esac
prefix=${prefix:-$home/$release}

# the same bundle is installed already, or an older or broken installation makes room
stamp=$prefix/.perimeter-bundle
if [ "$(cat "$stamp" 2>/dev/null)" = "$sums" ] && [ -x "$prefix/bin/perimeter-install" ]; then
    say "perimeter $release is installed in $prefix already"
else
    if [ -e "$prefix" ]; then
        [ -e "$stamp" ] || [ -z "$(ls -A "$prefix")" ] || refuse 6 occupied \
            "$prefix is in use by something else" "choose another folder with --prefix"
        rm -rf -- "$prefix"
    fi
    say "Installing perimeter $release into $prefix"
    mkdir -p -- "$prefix" || refuse 6 no-permission "cannot make $prefix" "run it as root, or use --prefix"
    : >"$stamp" # ours, but not finished
    "$python" -I -m venv --without-pip "$prefix" ||
        refuse 6 no-venv "$python cannot make a virtual environment in $prefix"
    run_pip() {
        env -i PATH="$PATH" HOME="$work" TMPDIR="$work" LANG=C.UTF-8 PYTHONPATH="$root/$pip" \
            "$prefix/bin/python" -m pip --isolated --disable-pip-version-check --no-input \
            --no-cache-dir install --quiet --no-index --no-warn-script-location "$@" </dev/null ||
            refuse 6 pip-failed "installing from the wheelhouse failed" \
                "the wheels are for another Python or processor; see the lines above"
    }
    run_pip --find-links content/wheelhouse --only-binary :all: --require-hashes \
        -r content/requirements/install.txt
    run_pip --no-deps "$root/$wheel"
    if [ -d content/collections/ansible_collections ]; then
        # ansible looks for collections beside its own modules, so nothing needs configuring
        site=$("$prefix/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        mkdir -p -- "$site/ansible_collections"
        cp -R content/collections/ansible_collections/. "$site/ansible_collections/" ||
            refuse 6 no-room "cannot copy the Ansible collections into $site"
        chmod -R u=rwX,go=rX -- "$site/ansible_collections" # a medium may hold other modes
    fi
    "$prefix/bin/perimeter-install" --version >"$work/version" ||
        refuse 6 broken-install "perimeter-install does not start"
    printf '%s\n' "$sums" >"$stamp"
    say "Installed: $(cat "$work/version")"
fi

command=$prefix/bin/perimeter-install
if [ -n "$link" ]; then
    if [ -e "$bin/perimeter-install" ] && [ ! -L "$bin/perimeter-install" ]; then
        printf 'warning: %s is not a link and stays as it is\n' "$bin/perimeter-install" >&2
    elif mkdir -p -- "$bin" 2>/dev/null && ln -sfn -- "$command" "$bin/perimeter-install" 2>/dev/null; then
        command=$bin/perimeter-install
    else
        printf 'warning: cannot write the link %s\n' "$bin/perimeter-install" >&2
    fi
fi
say "Next: $command init"
