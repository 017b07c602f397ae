#!/usr/bin/env bash
# Pretraining on several machines without a scheduler: the same line on each of them, once the first is up:
#   NODES=3 DEVICES=4 FIRST=host-a bash configs/cluster/torchrun.sh configs/pretrain.yaml cohort/ pretrained/
# A worker that fails is started again, with all others, from the last checkpoint.
set -euo pipefail

config=${1:?"the settings, such as configs/pretrain.yaml"}
cohort=${2:?"what anamnesis prepare made"}
output=${3:?"the run to be made"}
shift 3

exec torchrun --nnodes "${NODES:?machines}" --nproc-per-node "${DEVICES:?accelerators of each}" \
    --max-restarts "${RESTARTS:-3}" --rdzv-backend c10d --rdzv-endpoint "${FIRST:?name of the first machine}:${PORT:-29400}" \
    -m pipelines.cli pretrain --config "$config" --cohort "$cohort" --output "$output" \
    --trainer.num_nodes "$NODES" --trainer.devices "$DEVICES" --trainer.strategy "${STRATEGY:-ddp}" "$@"
