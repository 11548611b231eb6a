#!/usr/bin/env bash
# Run plugin tests with the oldest napari that is supported, on top of the environment in .venv, which stays as it is.
# Arguments go to pytest; without any, all tests of the plugin are run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
place=.napari-oldest/site-packages # napari refuses to be imported from a folder of another name beside a newer one
[ -d "$place/napari" ] || "$python" -m pip install -q --no-deps --target "$place" "napari==0.7.1" "vispy<0.17"
[ $# -gt 0 ] || set -- tests/plugin
run() { PYTHONPATH=$place "$python" -m pytest -q "$@"; }
# Software drawing crashes now and then in windows that come and go (glDrawArrays): a run that dies of a signal has told
# nothing, and is given a second chance. Failed tests are not.
run "$@" || {
    status=$?
    [ "$status" -gt 128 ] || exit "$status"
    echo "The run died of signal $((status - 128)); once more."
    run "$@"
}
