#!/usr/bin/env bash
# Sets up .venv, registers a phantom whose true deformation is known, and says where the report lies.
# usage: scripts/demo.sh [DIR]    (default: demo-output; replaced if it is there)
set -euo pipefail
here="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
environment ""
target="${1:-demo-output}"
case "$target" in /*) ;; *) [ $# -eq 0 ] || target="$here/$target" ;; esac
registration demo "$target" --overwrite
