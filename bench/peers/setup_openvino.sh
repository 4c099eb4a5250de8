#!/usr/bin/env bash
# Installs OpenVINO into target/peers/venv-openvino, and writes an int4 model of Llama-3.2-1B's shape into the folder that
# is given, or target/peers/models. The export needs PyTorch, several gigabytes, in an environment that is removed again.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=2026.4.1
venv=target/peers/venv-openvino
model=${1:-target/peers/models}/llama3.2-1b-openvino-int4

if [ ! -f "$model/openvino_model.xml" ]; then
  export_venv=target/peers/venv-openvino-export
  python3 -m venv $export_venv
  $export_venv/bin/pip install -q --no-cache-dir "openvino==$version" nncf==3.4.0 optimum-intel==2.2.0 "transformers<5.6"
  $export_venv/bin/python bench/peers/make_openvino.py "$model"
  rm -r $export_venv
fi
[ -x $venv/bin/pip ] || python3 -m venv $venv
$venv/bin/pip install -q --no-cache-dir "openvino==$version" numpy
$venv/bin/python -c 'import openvino; print(openvino.__version__)'
