#!/usr/bin/env bash
# Measures the two workloads of docs/performance.md with the release binary: writes their input
# with loadgen, runs each RUNS times on one core, and prints rows per CPU-second (user + system of
# the whole process, start and end included), the median and the range.
#   scripts/measure.sh [ROWS]          default 5000000
set -euo pipefail
cd "$(dirname "$0")/.."
rows="${1:-5000000}" runs="${RUNS:-5}" out="${OUT:-$(mktemp -d)}"
export OUT="$out"
profile="${PROFILE:-release}"
cargo build --quiet --profile "$profile" --workspace
bin="${CARGO_TARGET_DIR:-target}/$profile"
# An hour of event time a million rows, 100,000 users, 3 % late: the set that Flink was measured on.
load=(--rows "$rows" --users 100000 --seed 7 --rate 278 --late 0.03)
for format in native json; do
  "$bin/loadgen" transactions "${load[@]}" --format "$format" -o "$out/tx.$format"
  "$bin/loadgen" profiles --users 100000 --seed 7 --format "$format" -o "$out/profiles.$format"
done
for workload in w1 w2; do
  for format in native json; do
    for _ in $(seq "$runs"); do
      TRANSACTIONS="$out/tx.$format" PROFILES="$out/profiles.$format" FORMAT="$format" \
        "$bin/cutwater" run "benches/pipelines/$workload.toml" --quiet --report "$out/report.json" "${@:2}"
      python3 - "$out/report.json" <<'P'
import json, sys
r = json.load(open(sys.argv[1]))
print(r["sources"]["transactions"]["rows"] / r["cpu_s"] / 1e6, r["peak_rss_bytes"] / 1e6, r["events_per_s"] / 1e6)
P
    done | sort -n | awk -v name="$workload $format" '{a[NR]=$1; m=$2; w[NR]=$3} END {
      printf "%-10s %6.2f M rows per CPU-second (%.2f to %.2f of %d runs), peak RSS %.0f MB\n",
        name, a[int((NR+1)/2)], a[1], a[NR], NR, m }'
  done
done
