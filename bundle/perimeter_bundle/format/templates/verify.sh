#!/bin/sh
# Checks the bundle this script lies in, with openssl and sha256sum alone.
#
#   sh DIR/verify.sh [--threshold N] TRUSTED.pub...      keys you trust, from elsewhere
#   sh DIR/verify.sh [--threshold N] FOLDER              every *.pub file in it
#
#   --volumes FOLDER   blobs that the bundle's folder lacks are read out of the volumes in FOLDER
#                      (RELEASE.v001.tar ...); needs tar, and no room
#   --no-blobs         blobs may be missing: enough for bootstrap.sh when only volume 1 is here;
#                      perimeter-install unpack and verify do the rest
#
# What must hold, in this order:
#   1. the given keys are ECDSA P-256 public keys, and do not come out of this bundle
#   2. SHA256SUMS is there and strictly written: sorted, each path once, nothing climbs out
#   3. at least N (1) of the given keys signed its exact bytes, and none of their signatures is bad
#   4. exactly the listed files are there: none missing, none added, no links, no special files
#   5. every file has the SHA-256 that is listed
# Yours to see to: that the keys are the right ones, and that this script is (VERIFY.md says how).
# Roles and thresholds of a trust.toml are checked by perimeter-install verify.
#
# Exit status: 0 it holds; 2 wrong usage or a tool is missing; 4 bytes are not the signed ones;
#              5 no trusted signature, or a bad one.
# When it holds, that is written down for bootstrap.sh under
#   ${XDG_STATE_HOME:-/var/lib}/perimeter/verified      (root)
#   ${XDG_STATE_HOME:-$HOME/.local/state}/perimeter/verified
set -eu
LC_ALL=C
export LC_ALL
unset CDPATH OPENSSL_CONF 2>/dev/null || :
umask 077

say() { printf '%s\n' "$*"; }
refuse() { # status, code, message, hint
    printf 'error[%s]: %s\n' "$2" "$3" >&2
    [ -z "${4:-}" ] || printf '  hint: %s\n' "$4" >&2
    exit "$1"
}
usage() { refuse 2 usage "$1" "sh verify.sh [--threshold N] [--volumes FOLDER] TRUSTED.pub... | FOLDER"; }
sha256() { sha256sum <"$1" | cut -b 1-64; }
some() { # the first lines of a list, indented, the rest counted
    sed -n '1,20s/^/  /p' "$1" >&2
    count=$(wc -l <"$1")
    [ "$count" -le 20 ] || printf '  ... and %s more\n' "$((count - 20))" >&2
}

threshold=1
volumes=
blobs=yes
while [ $# -gt 0 ]; do
    case $1 in
    --threshold)
        [ $# -ge 2 ] || usage "--threshold needs a number"
        threshold=$2
        shift 2
        ;;
    --volumes)
        [ $# -ge 2 ] && [ -d "$2" ] || usage "--volumes needs the folder that holds them"
        volumes=$(cd -- "$2" && pwd -P) || usage "cannot enter $2"
        shift 2
        ;;
    --no-blobs)
        blobs=
        shift
        ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    --)
        shift
        break
        ;;
    -*) usage "unknown option $1" ;;
    *) break ;;
    esac
done
case $threshold in
'' | *[!0-9]* | 0*) usage "--threshold needs a number from 1 up" ;;
esac
[ $# -gt 0 ] || usage "name the key you trust; a key that came with the bundle proves nothing"

for tool in openssl sha256sum find sort comm cut tr sed grep od wc tail readlink mktemp; do
    command -v "$tool" >/dev/null 2>&1 || refuse 2 missing-tool "$tool is not installed" \
        "it is part of openssl, coreutils, findutils, grep or sed"
done

[ -z "$volumes" ] || command -v tar >/dev/null 2>&1 || refuse 2 missing-tool "tar is not installed"
root=$(cd -- "$(dirname -- "$0")" && pwd -P) || refuse 2 usage "cannot enter the bundle"
work=$(mktemp -d) || refuse 2 no-room "cannot make a temporary folder"
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# 1. the keys
say "1. keys"
: >"$work/keys"
add_key() {
    file=$(readlink -f -- "$1") && [ -f "$file" ] || refuse 5 bad-key "$1 is not a file"
    case $file in
    "$root"/*) refuse 5 bundled-key "$1 lies in the bundle itself" \
        "a key proves something only if it reached you by another way" ;;
    esac
    if grep -q 'PRIVATE KEY' "$file"; then
        refuse 5 private-key "$1 holds a private key where a public one belongs"
    fi
    [ "$(grep -c -e '-----BEGIN' "$file")" = 1 ] || refuse 5 bad-key "$1 is not one PEM public key"
    openssl pkey -pubin -in "$file" -outform DER -out "$work/der" 2>/dev/null ||
        refuse 5 bad-key "$1 cannot be read as a PEM public key"
    # the fixed beginning of every P-256 key: named curve, uncompressed point
    case $(od -An -v -tx1 "$work/der" | tr -d ' \n') in
    3059301306072a8648ce3d020106082a8648ce3d03010703420004*) ;;
    *) refuse 5 bad-key "$1 is not an ECDSA P-256 key" ;;
    esac
    id=$(sha256 "$work/der")
    if [ ! -e "$work/$id.pem" ]; then
        openssl pkey -pubin -in "$file" -out "$work/$id.pem"
        printf '%s\n' "$id" >>"$work/keys"
        say "   $id  $1"
    fi
}
for name in "$@"; do
    if [ -d "$name" ]; then
        found=
        for file in "$name"/*.pub; do
            [ -e "$file" ] || continue
            found=yes
            add_key "$file"
        done
        [ -n "$found" ] || refuse 5 empty-trust "$name holds no .pub file, so nothing can be verified"
        [ ! -e "$name/trust.toml" ] ||
            say "   its trust.toml is not read here: perimeter-install verify checks roles and thresholds"
    else
        add_key "$name"
    fi
done

# 2. the list
cd -- "$root"
say "2. SHA256SUMS"
bad_sums() { refuse 4 bad-sums "SHA256SUMS cannot be used: $1" "carry the bundle over again"; }
[ ! -L SHA256SUMS ] && [ -f SHA256SUMS ] && [ -s SHA256SUMS ] || bad_sums "it is missing"
[ "$(tail -c 1 SHA256SUMS | od -An -tu1 | tr -d ' ')" = 10 ] || bad_sums "its last line does not end"
[ "$(tr -cd '\000-\011\013-\037\177\\' <SHA256SUMS | wc -c)" -eq 0 ] ||
    bad_sums "it holds control characters or backslashes"
if grep -aEvq '^[0-9a-f]{64}  .' SHA256SUMS; then
    bad_sums "a line is not a SHA-256, two spaces and a path"
fi
cut -b 67- SHA256SUMS >"$work/listed"
if grep -aEq '(^|/)\.{0,2}(/|$)|^-$' "$work/listed"; then
    bad_sums "a path is not a plain relative path"
fi
if grep -aEq '^(SHA256SUMS$|signatures/)' "$work/listed"; then
    bad_sums "it lists itself or a signature"
fi
sort -c -u "$work/listed" 2>/dev/null || bad_sums "its lines are not sorted, or a path stands twice"
sums=$(sha256 SHA256SUMS)

# 3. the signatures
say "3. signatures"
find signatures ! -type d >"$work/signatures" 2>/dev/null || :
if grep -aEv '^signatures/[0-9a-f]{64}\.(sig|sigstore\.json)$' "$work/signatures" >"$work/odd"; then
    some "$work/odd"
    refuse 4 unlisted-file "signatures/ holds something that is not a signature"
fi
: >"$work/signers"
while read -r id; do
    sig=signatures/$id.sig
    sigstore=signatures/$id.sigstore.json
    if [ ! -e "$sig" ] && [ ! -L "$sig" ]; then
        [ ! -e "$sigstore" ] || refuse 5 bad-signature "$sigstore stands there without $sig"
        continue
    fi
    [ ! -L "$sig" ] && [ -f "$sig" ] || refuse 4 odd-file "$sig is not a plain file"
    openssl dgst -sha256 -verify "$work/$id.pem" -signature "$sig" SHA256SUMS >/dev/null 2>&1 ||
        refuse 5 bad-signature "$sig is not this key's signature over SHA256SUMS" \
            "the bundle was changed after it was signed, or the signature belongs to another one"
    if [ -e "$sigstore" ] || [ -L "$sigstore" ]; then
        [ ! -L "$sigstore" ] && [ -f "$sigstore" ] || refuse 4 odd-file "$sigstore is not a plain file"
        printf '{"mediaType":"%s","verificationMaterial":{"publicKey":{"hint":"%s"}},' \
            application/vnd.dev.sigstore.bundle.v0.3+json "$id" >"$work/sigstore"
        printf '"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"%s"},"signature":"%s"}}\n' \
            "$(openssl dgst -sha256 -binary SHA256SUMS | openssl base64 -A)" \
            "$(openssl base64 -A -in "$sig")" >>"$work/sigstore"
        [ "$(sha256 "$work/sigstore")" = "$(sha256 "$sigstore")" ] ||
            refuse 5 bad-signature "$sigstore does not hold the same signature as $sig"
    fi
    printf '%s\n' "$id" >>"$work/signers"
    say "   good: $id"
done <"$work/keys"
signed=$(wc -l <"$work/signers")
if [ "$signed" -lt "$threshold" ]; then
    sed -n 's|^signatures/\(.*\)\.sig$|  signed by \1|p' "$work/signatures" >&2
    refuse 5 not-trusted "$((signed)) of the given keys signed this bundle; $threshold must" \
        "get the key from its owner by a way you trust, never out of the bundle"
fi

# 4. the files
say "4. files"
find . ! -type d ! -type f >"$work/odd"
find . \( -name '*[[:cntrl:]]*' -o -name '*\\*' \) >>"$work/odd"
if [ -s "$work/odd" ]; then
    some "$work/odd"
    refuse 4 odd-file "the bundle holds something that is not a plain file"
fi
find . -type f | sed 's|^\./||' | grep -aEv '^(SHA256SUMS$|signatures/)' | sort >"$work/found"
comm -23 "$work/listed" "$work/found" >"$work/missing"
cp SHA256SUMS "$work/here"
: >"$work/elsewhere"
: >"$work/numbers" # of the volumes that are here, and after an s how many there are
absent_volumes() {
    number=1
    last=$(sed -n 's/^s //p' "$work/numbers" | sort -n | tail -n 1)
    while [ "$number" -le "${last:-0}" ]; do
        grep -qxF " $number" "$work/numbers" || printf ' %s' "$number"
        number=$((number + 1))
    done
}
if [ -n "$volumes" ] || [ -z "$blobs" ]; then
    # Names of members decide nothing: what comes out under one must have the signed digest.
    for volume in "$volumes"/*.v[0-9][0-9][0-9].tar; do
        [ -n "$volumes" ] && [ -f "$volume" ] || continue
        # names from a medium reach sed and tar below: plain ones only, none that is an option
        case ${volume##*/} in
        [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) refuse 4 bad-volume "the volume $volume has an odd name" ;;
        esac
        tar tf - <"$volume" >"$work/names" 2>/dev/null ||
            refuse 4 bad-volume "$volume is truncated or damaged" "carry it over again"
        sed -n "s|^[A-Za-z0-9][A-Za-z0-9._-]*/\\(blobs/sha256/[0-9a-f]\\{64\\}\\)\$|\\1 ${volume##*/} &|p
            s|^[A-Za-z0-9][A-Za-z0-9._-]*\\.pieces/\\(blobs/sha256/[0-9a-f]\\{64\\}\\)/[0-9]\\{4\\}\$|\\1 ${volume##*/} &|p" \
            "$work/names" >>"$work/members"
        tar xOf - volume.json <"$volume" 2>/dev/null |
            sed -n 's/^  "volume\(s\{0,1\}\)": \([0-9]\{1,3\}\),\{0,1\}$/\1 \2/p' >>"$work/numbers"
    done
    grep -aE '^blobs/sha256/[0-9a-f]{64}$' "$work/missing" >"$work/elsewhere" || :
    sed 's|^blobs/sha256/\(.*\)|\1  &|' "$work/elsewhere" >"$work/lines"
    grep -avxF -f "$work/lines" SHA256SUMS >"$work/here" || :
    grep -avE '^blobs/sha256/[0-9a-f]{64}$' "$work/missing" >"$work/still" || :
    if [ -n "$blobs" ]; then
        cut -d ' ' -f 1 "$work/members" 2>/dev/null | sort -u >"$work/inside" || :
        comm -23 "$work/elsewhere" "$work/inside" >>"$work/still"
    fi
    mv -- "$work/still" "$work/missing"
fi
if [ -s "$work/missing" ]; then
    some "$work/missing"
    absent=$(absent_volumes)
    [ -z "$absent" ] || refuse 4 missing-file "listed files are missing; volumes that are not here:$absent" \
        "bring them too; with parity volumes, perimeter-install repair makes them anew"
    refuse 4 missing-file "listed files are missing" "the copy is not complete; carry it over again"
fi
comm -13 "$work/listed" "$work/found" >"$work/extra"
if [ -s "$work/extra" ]; then
    some "$work/extra"
    refuse 4 unlisted-file "there are files that SHA256SUMS does not list"
fi

# 5. every byte
total=$(($(wc -l <"$work/here")))
size=$(du -sk . 2>/dev/null | cut -f 1)
say "5. bytes: reading $total files, $((${size:-0} / 1024)) MiB"
: >"$work/checked"
: >"$work/running"
# A flag ends the reporter, not a signal: one that comes while the shell forks would be lost.
(
    naps=0
    while [ -e "$work/running" ]; do
        { sleep 0.2 || sleep 1; } 2>/dev/null
        naps=$((naps + 1))
        [ $((naps % 25)) -ne 0 ] ||
            say "   $(($(wc -l <"$work/checked"))) of $total files" 2>/dev/null || break
    done
) </dev/null &
reporter=$!
status=0
if command -v stdbuf >/dev/null 2>&1; then # without it the count above lags behind
    stdbuf -oL sha256sum -c "$work/here" >"$work/checked" 2>/dev/null || status=$?
else
    sha256sum -c "$work/here" >"$work/checked" 2>/dev/null || status=$?
fi
rm -f "$work/running"
wait "$reporter" || :
if [ "$status" -ne 0 ] || [ "$(grep -ac ': OK$' "$work/checked")" -ne "$total" ]; then
    grep -av ': OK$' "$work/checked" >"$work/failed" || :
    some "$work/failed"
    refuse 4 digest-mismatch "files are not the bytes that were signed" \
        "the copy is damaged or was changed; carry the bundle over again"
fi

if [ -n "$blobs" ] && [ -s "$work/elsewhere" ]; then
    say "   and $(($(wc -l <"$work/elsewhere"))) blobs in volumes"
    absent=$(absent_volumes)
    one_volume_or_pieces() { # prints a blob; the same volume may be there twice
        grep -aF "$1 " "$work/members" | sort -t ' ' -k 3,3 -u | while read -r _ volume member; do
            tar xOf - "$member" <"$volumes/$volume" 2>/dev/null || :
        done
    }
    done=0
    while read -r path; do
        [ "$(one_volume_or_pieces "$path" </dev/null | sha256sum | cut -b 1-64)" = "${path##*/}" ] ||
            refuse 4 digest-mismatch "$path in $(grep -aF "$path " "$work/members" | cut -d ' ' -f 2 |
                tr '\n' ' ')is not what was signed" \
            "${absent:+volumes that are not here:$absent; }carry that volume over again, or have it cut again alone"
        done=$((done + 1))
        [ $((done % 50)) -ne 0 ] || say "   $done blobs"
    done <"$work/elsewhere"
fi

# what bootstrap.sh asks for; outside the bundle, so that a bundle cannot bring it along
if [ "$(id -u)" = 0 ]; then
    state=${XDG_STATE_HOME:-/var/lib}/perimeter/verified
else
    state=${XDG_STATE_HOME:-${HOME:-/nonexistent}/.local/state}/perimeter/verified
fi
total=$(($(wc -l <"$work/listed")))
without=
if [ -z "$blobs" ] && [ -s "$work/elsewhere" ]; then
    total=$(($(wc -l <"$work/here")))
    without=" but for $(($(wc -l <"$work/elsewhere"))) blobs that are not here"
fi
if mkdir -p -- "$state" 2>/dev/null && cp -- "$work/signers" "$state/.$sums.part" 2>/dev/null &&
    mv -f -- "$state/.$sums.part" "$state/$sums"; then
    say "The bundle holds$without: $total files, signed by $((signed)) of the given keys."
    say "Next: sh $root/bootstrap.sh"
else
    say "The bundle holds$without: $total files, signed by $((signed)) of the given keys."
    printf 'warning: this could not be written down in %s; bootstrap.sh will refuse\n' "$state" >&2
fi
