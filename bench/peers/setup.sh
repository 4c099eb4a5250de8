#!/usr/bin/env bash
# Builds llama.cpp, through the PyPI package llama-cpp-python, into target/peers/venv, with every x86 instruction set
# that it has kernels for, matrix units included. Where the processor lacks the matrix units, llama.cpp notices when it
# starts and uses the others. Takes about five minutes on two cores. AMX=OFF leaves the matrix units out.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.3.36 # llama.cpp at commit 0c1e57098, by the package's change log
venv=target/peers/venv
amx=${AMX:-ON}

# gcc 12's code for the matrix units dies of an illegal instruction; clang 19's works.
if ! { command -v clang-19 && command -v cmake && command -v ninja; } >/dev/null; then
  apt-get update -q
  apt-get install -y -q --no-install-recommends clang-19 cmake ninja-build python3-venv
fi

flags="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
flags+=" -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_BF16=ON"
flags+=" -DGGML_AMX_TILE=$amx -DGGML_AMX_INT8=$amx -DGGML_AMX_BF16=$amx -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF"

[ -x $venv/bin/pip ] || python3 -m venv $venv
CC=clang-19 CXX=clang++-19 CMAKE_ARGS=$flags \
  $venv/bin/pip install --no-cache-dir --force-reinstall --no-binary llama-cpp-python "llama-cpp-python==$version" numpy
echo "clang-19 $flags" >$venv/llama_cpp.flags
$venv/bin/python -c 'import llama_cpp; print(llama_cpp.llama_print_system_info().decode())'
