#!/bin/sh
# Builds orders.wasm, or the file that is named, by the componentize-py of PATH or of .venv.
set -eu
cd "$(dirname "$0")"
PATH="$PATH:$PWD/.venv/bin"
componentize-py --wit-path ../wit --world order-queue \
    componentize orders --output "${1:-orders.wasm}"
