#!/usr/bin/env bash
# bench/gpu.sh [OUT.json]: everything that needs a card, in one go. Builds with CUDA, runs the tests labelled gpu, times
# every kernel with events against what this card reaches in copies and products, serves SmolLM2 and counts tokens.
# Writes one JSON. Where there is no device it says so and ends with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu.json}
jobs=$(nproc)

say() { printf 'gpu: %s\n' "$*" >&2; }
die() {
  printf 'gpu: %s\n' "$*" >&2
  exit "${code:-1}"
}

nvcc=$(command -v nvcc || true)
[ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
[ -n "$nvcc" ] || code=3 die "no nvcc: install the CUDA 13 toolkit"
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  code=3 die "no device: there is no /dev/nvidia0, so nothing was measured"
fi

say "building"
cmake -S . -B build/gpu -G Ninja -D CMAKE_BUILD_TYPE=Release -D SLUICE_CUDA=ON >build-gpu.log 2>&1 || die "cmake failed; log: build-gpu.log"
cmake --build build/gpu --parallel "$jobs" --target sluice bench_gpu gpu_tests >>build-gpu.log 2>&1 || die "the build failed; log: build-gpu.log"

say "tests"
tests=0
ctest --test-dir build/gpu -L gpu --output-on-failure --no-tests=error >build/gpu/tests.log 2>&1 || tests=$?
tail -n 3 build/gpu/tests.log >&2

say "kernels"
build/gpu/bench/bench_gpu >build/gpu/kernels.json || die "bench_gpu failed"

say "serve"
model=${SLUICE_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -e "$model" ] || die "no model at $model: ./dev test fetches it"
python3 bench/gpu_serve.py build/gpu/sluice "$model" >build/gpu/serve.json || die "the server run failed"

python3 - "$out" "$tests" <<'PY'
import json, subprocess, sys
out, tests = sys.argv[1], int(sys.argv[2])
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
result = {
    "commit": commit,
    "tests_passed": tests == 0,
    "kernels": json.load(open("build/gpu/kernels.json")),
    "serve": json.load(open("build/gpu/serve.json")),
}
json.dump(result, open(out, "w"), indent=1)
PY
say "written: $out"
[ "$tests" -eq 0 ] || die "gpu tests failed; log: build/gpu/tests.log"
