#!/usr/bin/env bash
# Sets up .venv with the tools of development, then style, types and the tests that need no further data.
# usage: scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
environment "[dev]"
ruff check .
ruff format --check .
mypy
if ! command -v chromium chromium-browser google-chrome >/dev/null; then
    echo "browser: no Chromium found, the tests that open report.html are left out (apt-get install chromium)"
fi
python -m pytest -q -m "not real" "$@"
