#!/bin/sh
# Links the real Redis into .venv/bin for the tests; installs it where it is missing.
set -eu
cd "$(dirname "$0")/../.."

has() { command -v "$1" >/dev/null; }

# In Debian's redis-tools is the server too: one program, which goes by the name it is called by. The package
# redis-server only adds a service, and that would run on from now on.
server() { command -v redis-server || command -v redis-check-rdb; }
if ! server >/dev/null || ! has redis-cli; then
    sh tests/e2e/apt.sh redis-tools
fi
mkdir -p .venv/bin
ln -sf "$(command -v redis-cli)" .venv/bin/redis-cli
ln -sf "$(server)" .venv/bin/redis-server
version=$(.venv/bin/redis-server --version)
case $version in
*v=[0-6].*)
    rm .venv/bin/redis-server
    echo "Redis 7 or newer is needed, and this is $version: install a newer one before it in PATH" >&2
    exit 1
    ;;
esac
