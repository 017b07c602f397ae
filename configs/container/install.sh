#!/usr/bin/env bash
# Install from a wheelhouse without a network; a wheel that is missing or changed is refused:
#   configs/container/install.sh WHEELHOUSE ENVIRONMENT
set -euo pipefail

wheelhouse=${1:?wheelhouse, made by wheelhouse.sh}
environment=${2:?folder of the environment to be made}
python=${PYTHON:-python3}

if [ ! -f "$wheelhouse/requirements.txt" ]; then
    echo "install: $wheelhouse holds no requirements.txt; make it with wheelhouse.sh" >&2
    exit 2
fi
"$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --no-index --find-links "$wheelhouse" --require-hashes \
    --only-binary :all: --requirement "$wheelhouse/requirements.txt"
"$environment/bin/anamnesis" --version
