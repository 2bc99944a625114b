#!/bin/sh
# Every figure that needs a GPU, in one run on one machine: sh recipes/benchmarks/gpu.sh
#
# It writes recipes/benchmarks/reports/gpu_NAME/report.json, and fills the tables of README.md:
#   gpu_size     seconds and memory of one adapter, 1 M to 400 M values; the bar is 2 s for the
#                row llama-3.1-8b/16 (42 M values, 20 steps), and growth_exponent at most 1.05
#   gpu_peers    the same beside RPG-, DnD- and T2L-style networks; the bar is 10 times RPG
#   gpu_steps    1, 2, 4 and 20 steps over a one-pass hypernetwork
#   gpu_compile  ratio of torch.compile; where it is above 1.1, compiling is worth an option
# About ten minutes on one H200. First the test that a GPU samples what a CPU samples.
set -eu
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1
python -m pytest -q -m gpu tests/test_pipeline_stream.py
for suite in size peers steps compile; do
    python -m training "recipes/benchmarks/$suite.yaml" task.device=cuda \
        "output_dir=recipes/benchmarks/reports/gpu_$suite"
done
python -m recipes.benchmarks.tables
