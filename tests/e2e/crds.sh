#!/bin/sh
# Installs the types of the CRDs that the chart has manifests of into .venv/crds, for tests/e2e/crds/check.mjs.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v npm >/dev/null; then
    sh tests/e2e/apt.sh npm
fi
mkdir -p .venv/crds
cp tests/e2e/crds/package.json tests/e2e/crds/package-lock.json .venv/crds
cd .venv/crds
npm ci --silent --no-audit --no-fund --ignore-scripts
touch node_modules
