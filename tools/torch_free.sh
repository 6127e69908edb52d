#!/usr/bin/env bash
# Fit with one environment, inspect with another that has no PyTorch: tools/torch_free.sh FIT_BIN LINE_BIN
set -euo pipefail
fit=$(cd "$1" && pwd) line=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if "$line/python" -c "import torch" 2>/dev/null; then
  echo "torch is installed in $line: this check proves nothing" >&2
  exit 1
fi
"$fit/andon" data draw "$work/line" --train 16 --test-good 2 --per-defect 1 --size 192x256 --quiet
"$fit/andon" fit "$work/line/bracket_line" -o "$work/part.andon" --quiet
cd "$work"  # away from the source tree
status=0
"$line/andon" inspect part.andon line/bracket_line/test --save-maps maps --csv verdicts.csv --jsonl verdicts.jsonl || status=$?
if [ "$status" -gt 1 ]; then
  echo "inspecting without torch ended with status $status" >&2
  exit 1
fi
"$line/andon" evaluate part.andon line/bracket_line --bootstrap 50
"$line/andon" doctor --seconds 0.2
images=$(find line/bracket_line/test -name '*.png' | wc -l)
maps=$(find maps -name '*.png' | wc -l)
rows=$(wc -l < verdicts.jsonl)
[ "$maps" -eq "$images" ] && [ "$rows" -eq "$images" ]
"$fit/andon" inspect part.andon line/bracket_line/test --jsonl again.jsonl --quiet || true
"$fit/python" - <<'PY'
import json
def scores(name):
    return [json.loads(line)["image_score"] for line in open(name)]
here, line = scores("again.jsonl"), scores("verdicts.jsonl")
assert here == line or max(abs(a - b) / abs(a) for a, b in zip(here, line)) < 1e-5, (here, line)
PY
size=$(du -sm "$line/../lib" | cut -f1)
pip=$(du -smc "$line"/../lib/python*/site-packages/{pip,setuptools,pkg_resources}* 2>/dev/null | tail -1 | cut -f1)
echo "torch-free: $images images inspected, the same scores as where it was fitted; installed size $((size - pip)) MB without pip"
