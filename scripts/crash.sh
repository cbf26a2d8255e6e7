#!/usr/bin/env bash
# Kills a run of the fraud pipeline with SIGKILL at random moments, lets it go on each time from its
# newest checkpoint (one every 100 ms), and holds what it put out, sorted, byte for byte against one
# run that nobody killed.
#   scripts/crash.sh [KILLS] [ROWS_PER_SECOND]      default 100 kills, 100000 rows a second
# SEED chooses the moments, UNALIGNED (never, always, 20ms ...) how barriers go. Leaves nothing behind; on a difference the folder is kept and named.
set -euo pipefail
cd "$(dirname "$0")/.."
kills="${1:-100}" pace="${2:-100000}" out="$(mktemp -d)" profile="${PROFILE:-release}"
RANDOM="${SEED:-1}"
cargo build --quiet --profile "$profile"
bin="$PWD/${CARGO_TARGET_DIR:-target}/$profile/cutwater"
# A kill every 0.3 s or so of running time.
rows=$((pace * kills * 3 / 10))
set=(--set "sources.transactions.rows=$rows" --set "sources.transactions.rate=278" --quiet)
ckpt=(--set "checkpoint={interval=\"100ms\", unaligned=\"${UNALIGNED:-never}\"}")
config="$PWD/configs/fraud.toml"
mkdir "$out/one" "$out/killed"
# Becomes the command: to be called in a subshell, whose process is then the one to kill.
become() { cd "$1" && shift && exec "$bin" run "$config" "${set[@]}" "$@" >>alerts.jsonl 2>>log; }

echo "reference: $rows rows without a crash"
(become "$out/one")
done_kills=0
while ((done_kills < kills)); do
  become "$out/killed" "${ckpt[@]}" --set "sources.transactions.rows_per_second=$pace" &
  pid=$!
  sleep "0.$(printf '%03d' $((50 + RANDOM % 500)))"
  if ! kill -KILL "$pid" 2>/dev/null; then
    wait "$pid" || { tail -n 5 "$out/killed/log"; echo "the run failed ($out)"; exit 1; }
    break
  fi
  wait "$pid" 2>/dev/null || true
  done_kills=$((done_kills + 1))
done
(become "$out/killed" "${ckpt[@]}") || { tail -n 5 "$out/killed/log"; echo "the run failed ($out)"; exit 1; }
for sink in alerts scores late; do
  for side in one killed; do
    find "$out/$side/out/fraud/$sink" -name 'part-*' -not -path '*/.*' -exec cat {} + | LC_ALL=C sort >"$out/$side.$sink"
  done
  cmp "$out/one.$sink" "$out/killed.$sink" || { echo "$sink differs after $done_kills kills ($out)"; exit 1; }
  echo "$sink: $(wc -l <"$out/one.$sink") rows, the same"
done
echo "$done_kills kills, same output"
rm -rf "$out"
