# Sourced by the other scripts: .venv with the package, made once and quick afterwards.
# usage: environment EXTRAS, where EXTRAS is "" or "[dev]"; leaves the shell in the repository root with .venv first on PATH.
environment() {
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    local extras="$1" stamp
    # The environment is rebuilt only when what it is made of changes.
    stamp="$(cat pyproject.toml scripts/environment.sh | cksum | tr ' ' '-')"
    if [ ! -x .venv/bin/python ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed" >&2; return 1; }
        python3 -m venv .venv
    fi
    if [ ! -e ".venv/done$extras-$stamp" ]; then
        echo "setting up .venv (once, some minutes) ..."
        # First a fixed torch, so that the resolver does not wander through gigabytes of other builds.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$extras"
        touch ".venv/done$extras-$stamp"
    fi
    PATH="$PWD/.venv/bin:$PATH"
}
