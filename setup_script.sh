#!/usr/bin/env bash
# Sets the project up: makes .venv with the pinned packages, then does what the mode says.
set -euo pipefail

# A process for each core, but not so many that they wait for each other's compiled kernels.
TEST_FLAGS=(-n 3 --dist worksteal --durations 10)
DEMO_FLAGS=(-d IN -i 1 --recipe fast --overwrite --out results/demo)

usage() {
    cat <<'USAGE'
usage: bash setup_script.sh [demo | test [PYTEST ARGUMENTS]]

  (none)  make .venv and fetch the scenes IN, UP, KSC and SV into dataset/
  demo    make .venv and train A2S2K-ResNet on Indian Pines for a few minutes; fetches no scene
  test    make .venv with the test requirements and run the linter and the tests

PYTHON=/path/to/python chooses the interpreter that a new .venv is made with.
USAGE
}

fail() {
    echo "setup_script.sh: $*" >&2
    exit 1
}

# is_usable PYTHON: it runs, is recent enough and can make virtual environments.
is_usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if is_usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 with the venv module (tried ${candidates[*]}); install one," \
        "or name it: PYTHON=/path/to/python bash setup_script.sh"
}

# checksum FILE: of what .venv must hold for this requirements file, which may include the base.
checksum() {
    { .venv/bin/python --version && cat requirements.txt "$1"; } | cksum
}

# Also where no network comes after it, the user is to know what works.
say_ready() {
    local note=
    if [[ -n ${PYTHON:-} && -z ${made_now:-} ]]; then
        note="; it was there already, so PYTHON=$PYTHON was not used: rm -r .venv to make it anew"
    fi
    echo ".venv is ready, with $(.venv/bin/python --version): source .venv/bin/activate$note"
}

# make_venv FILE: .venv with what this requirements file lists. The stamps are written last, so
# that what an interrupted call left behind is finished by the next one.
make_venv() {
    local requirements=$1 stamp=.venv/installed-$1 log=.venv/pip.log python file
    if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$(checksum "$requirements")" ]]; then
        say_ready
        return
    fi
    if ! { is_usable .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python)
        echo "Making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv || fail "$python could not make .venv"
        made_now=yes
    fi
    rm -f .venv/installed-*
    echo "Installing $requirements into .venv (the first time this takes some minutes)"
    .venv/bin/python -m pip install --disable-pip-version-check -r "$requirements" >"$log" 2>&1 ||
        fail "pip could not install $requirements: $({ grep '^ERROR' "$log" || cat "$log"; } |
            tail -n 1) (all it said: $log)"
    for file in requirements.txt "$requirements"; do
        checksum "$file" >".venv/installed-$file"
    done
    say_ready
}

mode=${1:-}
case $mode in
-h | --help)
    usage
    exit
    ;;
test) shift ;;
*)
    if (($# > 1)) || [[ -n $mode && $mode != demo ]]; then
        echo "setup_script.sh: error: '$*': demo, test or nothing may stand here (see --help)" >&2
        exit 2
    fi
    ;;
esac

if [[ ${PYTHON:-} == */* && $PYTHON != /* ]]; then
    PYTHON=$PWD/$PYTHON # before the working directory changes
fi
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

case $mode in
"")
    make_venv requirements.txt
    .venv/bin/python -m common download
    ;;
demo)
    make_venv requirements.txt
    .venv/bin/python A2S2KResNet/A2S2KResNet.py "${DEMO_FLAGS[@]}"
    echo "Look at results/demo/report.html."
    ;;
test)
    make_venv requirements-test.txt
    .venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check . &&
        .venv/bin/python -m pytest "${TEST_FLAGS[@]}" "$@"
    ;;
esac
