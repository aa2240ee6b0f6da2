#!/bin/sh
# From a fresh clone to a result, in one command:
#
#     sh cmake/bootstrap.sh demo     builds the programs, quantizes the bundled model, compares the two layer by layer
#                                    and by their perplexity, and writes a paragraph
#     sh cmake/bootstrap.sh test     builds everything, GPU kernels too where CMake finds nvcc, and runs the tests
#
# Installs what is missing where there is apt-get (as root, or through sudo); elsewhere it names what it
# needs. Builds into build/, or the folder that FLOATX_BUILD_DIR names; FLOATX_CMAKE_OPTIONS has more options for
# CMake.
#
# SPDX-License-Identifier: Apache-2.0
set -eu

packages="g++ cmake ninja-build pkg-config libhwy-dev libfmt-dev catch2 nlohmann-json3-dev libcli11-dev
  libsentencepiece-dev"

usage() {
  echo "usage: sh cmake/bootstrap.sh demo|test" >&2
  exit 2
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

install_missing() {
  if ! command -v apt-get >/dev/null; then
    echo "no apt-get here; needed, by their Debian names: $packages" >&2
    return
  fi
  missing=
  for package in $packages; do
    is_installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "installing:$missing"
  as_root apt-get update -qq
  # One word for each package.
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# configure FOLDER OPTION...: a folder that is configured already keeps its generator.
configure() {
  folder=$1
  shift
  if [ ! -f "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null; then
    set -- -G Ninja "$@"
  fi
  # One word for each option.
  # shellcheck disable=SC2086
  cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DFLOATX_BUILD_BENCH=OFF ${FLOATX_CMAKE_OPTIONS-} "$@"
}

demo() {
  # It runs on the CPU; the kernels for GPUs would take minutes more.
  configure "$build/demo" -DFLOATX_CUDA=OFF -DFLOATX_BUILD_TESTS=OFF
  cmake --build "$build/demo" --parallel "$jobs"
  program=$build/demo/bin/floatx
  llama=$build/demo/bin/floatx-llama
  text=examples/llama/data/portrait-of-a-lady.txt
  model=examples/llama/models/gutenberg-3m
  quantized=$build/demo/gutenberg-3m-e3m2
  rm -rf "$quantized"
  "$program" quantize "$model" "$quantized" --format e3m2
  "$program" compare "$model" "$quantized"
  echo
  "$llama" perplexity "$model" --text "$text"
  "$llama" perplexity "$quantized" --text "$text"
  echo
  "$llama" generate "$quantized" --prompt "It was" --max-tokens 120 --temperature 0.7 --top-p 0.9 --seed 3
}

run_tests() {
  configure "$build/test"
  cmake --build "$build/test" --parallel "$jobs"
  ctest --test-dir "$build/test" --output-on-failure --parallel "$jobs"
}

[ $# -eq 1 ] || usage
cd "$(dirname "$0")/.."
build=${FLOATX_BUILD_DIR:-build}
jobs=$(nproc)
case $1 in
  demo | test) install_missing ;;
  *) usage ;;
esac
case $1 in
  demo) demo ;;
  test) run_tests ;;
esac
