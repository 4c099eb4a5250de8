//! What the tests share.
#![allow(dead_code)] // Each test file uses some of it.

use std::path::{Path, PathBuf};

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_format::safetensors::File;
use autarky_graph::Device;
use autarky_graph::reference::Reference;

/// A tiny checkpoint of the tree.
pub(crate) fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../family/tests/fixtures").join(name)
}

/// The tokens for which another implementation said what a checkpoint makes of them.
pub(crate) fn input(checkpoint: &Path) -> Vec<u32> {
    let file = File::open(checkpoint.join("expected.safetensors")).unwrap();
    file.raw("input_ids").unwrap().ints().unwrap().iter().map(|&i| i as u32).collect()
}

/// The CPU device with an instruction set.
pub(crate) fn cpu(isa: Isa, threads: usize) -> Cpu {
    Cpu::new(CpuOptions { isa: Some(isa), threads: Some(threads), ..CpuOptions::default() }).unwrap()
}

/// Every device that trains: the reference, and the CPU on every instruction set of this machine.
pub(crate) fn devices() -> Vec<(String, Box<dyn Device>)> {
    let cpus =
        Isa::available().into_iter().map(|isa| (isa.to_string(), Box::new(cpu(isa, 2)) as Box<dyn Device>));
    [("reference".to_owned(), Box::new(Reference) as Box<dyn Device>)].into_iter().chain(cpus).collect()
}

/// Fails unless every number is as expected, to 1e-4 of the largest.
pub(crate) fn compare(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-4 * largest, "{what}[{i}]: {a}, and {b} by PyTorch");
    }
}
