#!/bin/sh
# The chart runs "docker-entrypoint.sh minio server …"; others give only what follows "minio".
set -eu
if [ "${1:-}" != minio ]; then
    set -- minio "$@"
fi
exec "$@"
