#!/bin/sh
# apt.sh PACKAGE: installs it, as root or by sudo; where neither is there, says what to type.
set -eu
install="apt-get install -y --no-install-recommends $1"

if ! command -v apt-get >/dev/null; then
    echo "$1 is missing, as Debian calls it: install it with this system's own means" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "$1 is missing, and there is no sudo to install it; as root: $install" >&2
    exit 1
fi
$sudo apt-get update -q
$sudo $install
