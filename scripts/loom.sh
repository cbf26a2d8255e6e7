#!/usr/bin/env bash
# Checks the ring between shards under loom: every interleaving of its two ends.
set -euo pipefail
cd "$(dirname "$0")/../tests/loom"
RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" \
  exec cargo test --release --quiet --target-dir "${CARGO_TARGET_DIR:-../../target}/loom" "$@"
