#!/bin/sh
# image.sh [TAG]: builds the image with buildah or Docker, whichever is there. PREBUILT=FILE puts that static binary
# into it, and the CA certificates of this machine, instead of compiling; SOURCE_DATE_EPOCH is the time of everything in it.
set -eu
cd "$(dirname "$0")/.."
tag=${1:-keystile:dev}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
context=.
binary=compiled
if [ -n "${PREBUILT:-}" ]; then
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    install -D -m 0755 "$PREBUILT" "$context/usr/bin/keystile"
    install -D -m 0644 "${CA_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" "$context/etc/ssl/certs/ca-certificates.crt"
    install -d -m 0700 "$context/var/lib/keystile"
    binary=prebuilt
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
revision=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
set -- --build-arg "BINARY=$binary" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "CREATED=$created" ${PLATFORM:+--platform "$PLATFORM"} -f docker/Dockerfile -t "$tag" "$context"

if [ -z "${BUILDER:-}" ]; then
    if command -v buildah >/dev/null; then BUILDER=buildah; else BUILDER=docker; fi
fi
case $BUILDER in
buildah)
    # In the form of OCI, which has no place for HEALTHCHECK: in Docker's form buildah writes a name that it makes up,
    # and no two images would be the same.
    buildah bud ${ISOLATION:+--isolation "$ISOLATION"} --format oci --layers=false --timestamp "$epoch" "$@"
    ;;
docker)
    command -v docker >/dev/null || {
        echo "neither buildah nor docker is here; on Debian: apt-get install buildah" >&2
        exit 1
    }
    SOURCE_DATE_EPOCH=$epoch docker buildx build --provenance=false \
        --output "type=docker,rewrite-timestamp=true" "$@"
    ;;
*)
    echo "BUILDER is buildah or docker, not $BUILDER" >&2
    exit 1
    ;;
esac
