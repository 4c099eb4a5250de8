//! The suite that every device must pass, on every instruction set of this machine.

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_graph::conformance;

fn check(isa: Isa, threads: usize) {
    let options = CpuOptions { isa: Some(isa), threads: Some(threads), ..CpuOptions::default() };
    let cpu = Cpu::new(options).expect("the instruction set is available");
    let report = conformance::run(&cpu, 7 + threads as u64);
    assert!(report.passed(), "{isa}, {threads} threads: {report}");
}

#[test]
fn every_instruction_set_conforms() {
    for isa in Isa::available() {
        check(isa, 1);
    }
}

#[test]
fn threads_conform() {
    check(Isa::detect(), 2);
}
