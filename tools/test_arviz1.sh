#!/usr/bin/env bash
# Runs tests/arviz with ArviZ 1.x in a virtual environment of its own: tools/test_arviz1.sh [environment]
# The environment is temporary unless one is named; PYTHON chooses the interpreter. ArviZ 1.x declares Python 3.12, but
# works on 3.11, where it is installed without that check and without its dependencies, which follow by name.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=${1:-$(mktemp -d)}
[[ $# -gt 0 ]] || trap 'rm -rf "${environment}"' EXIT
python="${environment}/bin/python"

if [[ ! -x "${python}" ]]; then
    "${PYTHON:-python3}" -m venv "${environment}"
fi
"${python}" -m pip install --quiet --constraint constraints.txt \
    numpy torch pyro-ppl networkx tqdm pytest matplotlib xarray xarray-einstats h5netcdf h5py scipy typing_extensions lazy_loader platformdirs
sed -n 's/^\(arviz[a-z-]*==[1-9][^ ;]*\).*/\1/p' constraints.txt >"${environment}/arviz1.txt"
"${python}" -m pip install --quiet --ignore-requires-python --no-deps --requirement "${environment}/arviz1.txt"
"${python}" -c 'import arviz; assert int(arviz.__version__[0]) >= 1; print("ArviZ", arviz.__version__)'
"${python}" -m pytest -q -p no:cacheprovider tests/arviz
