#!/usr/bin/env bash
# Builds llama.cpp, through the PyPI package llama-cpp-python, for a choice of x86 instruction sets, each into an
# environment of its own below target/peers:
#
#   setup.sh         venv         everything that it has kernels for; it notices by itself where matrix units are missing
#   setup.sh avx512  venv-avx512  AVX-512 with VNNI, without matrix units
#   setup.sh avx2    venv-avx2    AVX2 with FMA
#
# Each takes about five minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.3.36 # llama.cpp at commit 0c1e57098, by the package's change log
case ${1:-all} in
all) venv=target/peers/venv avx512=ON amx=ON ;;
avx512) venv=target/peers/venv-avx512 avx512=ON amx=OFF ;;
avx2) venv=target/peers/venv-avx2 avx512=OFF amx=OFF ;;
*) echo "usage: $0 [avx512|avx2]" >&2 && exit 2 ;;
esac

# gcc 12's code for the matrix units dies of an illegal instruction; clang 19's works.
if ! { command -v clang-19 && command -v cmake && command -v ninja; } >/dev/null; then
  apt-get update -q
  apt-get install -y -q --no-install-recommends clang-19 cmake ninja-build python3-venv
fi

flags="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
flags+=" -DGGML_AVX512=$avx512 -DGGML_AVX512_VNNI=$avx512 -DGGML_AVX512_VBMI=$avx512 -DGGML_AVX512_BF16=$avx512"
flags+=" -DGGML_AMX_TILE=$amx -DGGML_AMX_INT8=$amx -DGGML_AMX_BF16=$amx -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF"

[ -x $venv/bin/pip ] || python3 -m venv $venv
CC=clang-19 CXX=clang++-19 CMAKE_ARGS=$flags \
  $venv/bin/pip install --no-cache-dir --force-reinstall --no-binary llama-cpp-python "llama-cpp-python==$version" numpy
echo "clang-19 $flags" >$venv/llama_cpp.flags
$venv/bin/python -c 'import llama_cpp; print(llama_cpp.llama_print_system_info().decode())'
