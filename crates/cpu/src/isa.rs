//! Which instruction set the kernels use: found once at run time, stored, and called through a table.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// An instruction set that the kernels are written for.
///
/// Every one gives the same bits for quantized weights, so choosing a lesser one changes speed and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust: runs everywhere, and is what the others are tested against.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// [`Isa::Avx512`] and AMX tiles (`AMX-TILE`, `AMX-INT8`, `AMX-BF16`), the operating system permitting.
    Amx,
    /// AArch64 Advanced SIMD, with the dot-product instructions where the processor has them.
    Neon,
}

impl Isa {
    /// Every instruction set, the least first.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The best instruction set that this machine can run.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar))
    }

    /// Those that this machine can run, the least first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine can run it. For [`Isa::Amx`] that includes the operating system's permission, which the
    /// first call requests for the whole process.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::has_avx512(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => x86::has_amx(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Whether it comes with products of BF16 numbers outside of tiles (`AVX512-BF16`) on this machine.
    pub fn has_bf16_products(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => std::arch::is_x86_feature_detected!("avx512bf16"),
            _ => false,
        }
    }

    /// Whether it is worth training with 8-bit integers on this machine: tiles of BF16 numbers are faster still.
    pub fn has_int8_training(self) -> bool {
        self == Isa::Avx512
    }

    /// The name that flags take: `scalar`, `avx2`, `avx512`, `amx` or `neon`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a name is not an instruction set that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No instruction set has this name.
    #[error("unknown instruction set '{0}' (known: scalar, avx2, avx512, amx, neon)")]
    Unknown(String),
    /// The name is known but this machine cannot run it.
    #[error("this machine cannot run the {0} kernels (it can run: {1})")]
    Unavailable(Isa, String),
}

impl FromStr for Isa {
    type Err = IsaError;

    /// The instruction set of that name, in any case; an error if this machine cannot run it.
    fn from_str(name: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
        if isa.is_available() {
            Ok(isa)
        } else {
            let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
            Err(IsaError::Unavailable(isa, names.join(", ")))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    pub(super) fn has_avx2() -> bool {
        has!("avx2") && has!("fma") && has!("f16c")
    }

    pub(super) fn has_avx512() -> bool {
        has_avx2()
            && has!("avx512f")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("avx512vnni")
    }

    pub(super) fn has_amx() -> bool {
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        has_avx512() && *PERMITTED.get_or_init(|| processor_has_amx() && request_tile_data())
    }

    /// CPUID leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE, bit 25 AMX-INT8 (Intel SDM, volume 2A, CPUID).
    /// `is_x86_feature_detected!` does not know them on stable Rust.
    fn processor_has_amx() -> bool {
        const NEEDED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
    }

    /// Asks Linux for the 8 KiB of tile state, which it saves only for processes that asked
    /// (`Documentation/arch/x86/xstate.rst`). False when it refuses or does not know the request.
    #[cfg(target_os = "linux")]
    fn request_tile_data() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: arch_prctl with this request takes two integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn request_tile_data() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for isa in Isa::ALL {
            match isa.name().to_uppercase().parse::<Isa>() {
                Ok(parsed) => assert_eq!(parsed, isa),
                Err(error) => assert_eq!(error, IsaError::Unavailable(isa, available())),
            }
        }
        assert_eq!("sse9".parse::<Isa>(), Err(IsaError::Unknown("sse9".into())));
    }

    fn available() -> String {
        Isa::available().into_iter().map(Isa::name).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_best_is_available_and_scalar_always_is() {
        assert!(Isa::available().contains(&Isa::detect()));
        assert_eq!(Isa::available()[0], Isa::Scalar);
    }
}
