#!/usr/bin/env bash
# A Ray cluster of several machines: first on the one that leads, then on each of the others, then the verb anywhere:
#   bash configs/cluster/ray.sh lead
#   FIRST=host-a bash configs/cluster/ray.sh join
#   anamnesis score release/ records/ predictions/ --engine ray
#   bash configs/cluster/ray.sh leave
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0
case ${1:?"lead, join or leave"} in
    lead) ray start --head --port "${PORT:-6379}" --include-dashboard=false ;;
    join) ray start --address "${FIRST:?name of the leading machine}:${PORT:-6379}" ;;
    leave) ray stop ;;
    *) echo "ray.sh $1: expected lead, join or leave" >&2; exit 2 ;;
esac
