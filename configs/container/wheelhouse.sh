#!/usr/bin/env bash
# Gather every wheel that scoring and serving need, with checksums, on a machine that has a network:
#   configs/container/wheelhouse.sh [FOLDER] [EXTRAS]
# EXTRAS is cpu,serve by default; gpu,serve for a GPU, never both runtimes. The interpreter (PYTHON) must be of the version
# and platform that the hospital has.
set -euo pipefail

folder=${1:-wheelhouse}
extras=${2:-cpu,serve}
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)

case ",$extras," in
    *,cpu,*gpu*|*,gpu,*cpu*) echo "wheelhouse: cpu and gpu were both given; expected one of them" >&2; exit 2 ;;
esac
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "wheelhouse: $folder is not empty; name another folder" >&2
    exit 2
fi
mkdir -p "$folder"
"$python" -m pip wheel --quiet --prefer-binary --constraint "$root/constraints.txt" --wheel-dir "$folder" "$root[$extras]"

# One line a wheel: name, version and SHA-256, as pip reads them with --require-hashes.
"$python" - "$folder" > "$folder/requirements.txt.partial" <<'PYTHON'
import hashlib
import pathlib
import sys

for wheel in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
    name, version = wheel.name.split("-")[:2]
    print(f"{name.replace('_', '-')}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}")
PYTHON
mv "$folder/requirements.txt.partial" "$folder/requirements.txt"
echo "wheelhouse: $(ls "$folder"/*.whl | wc -l) wheels in $folder" >&2
