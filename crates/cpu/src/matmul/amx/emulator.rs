//! AMX for machines that have none: a handler of SIGILL that does what the instruction would have done.
//!
//! It knows the instructions and addressing forms that Intel's manual defines for tiles and no others; on anything
//! else, and on operands that the processor would refuse, it lets the signal end the test.

use crate::isa::Isa;
use std::cell::UnsafeCell;
use std::sync::Once;

/// Whether AMX kernels can run in this test, natively or, from now on, emulated. False where neither can be.
pub(super) fn tiles_can_run() -> bool {
    static INSTALL: Once = Once::new();
    if Isa::Amx.is_available() {
        return true;
    }
    if !Isa::Avx512.is_available() || !cfg!(target_os = "linux") {
        return false;
    }
    INSTALL.call_once(install);
    true
}

fn install() {
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for and touches no memory but the tile file and the
    // operands of the instruction.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
    }
}

const TILES: usize = 8;
const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

struct TileFile {
    config: [u8; 64],
    tiles: [[[u8; ROW_BYTES]; ROWS]; TILES],
}

thread_local! {
    static TILE_FILE: UnsafeCell<TileFile> =
        const { UnsafeCell::new(TileFile { config: [0; 64], tiles: [[[0; ROW_BYTES]; ROWS]; TILES] }) };
}

extern "C" fn handle(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted thread's context, and the code at its instruction pointer is readable.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as usize as *const u8;
        let done = TILE_FILE.with(|file| execute(&mut *file.get(), at, registers));
        match done {
            Some(length) => registers[libc::REG_RIP as usize] += length,
            None => {
                // Not ours: the instruction runs again and ends the process.
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// The general registers in the order of their encoding.
const ENCODING: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// A decoded VEX instruction of map 0F38, 128-bit, W0 (Intel SDM, volume 2A, 2.3).
struct Instruction {
    /// Mandatory prefix: 0 none, 1 66, 2 F3, 3 F2.
    prefix: u8,
    opcode: u8,
    /// ModRM.reg.
    reg: usize,
    /// ModRM.rm when it is a register.
    rm: Option<usize>,
    /// VEX.vvvv.
    vvvv: usize,
    /// Base plus displacement of a memory operand.
    address: usize,
    /// Index times scale of a memory operand: the stride of tile loads and stores.
    stride: usize,
    length: i64,
}

/// # Safety
/// `at` points to code.
unsafe fn decode(at: *const u8, registers: &[i64; 23]) -> Option<Instruction> {
    // SAFETY: an instruction that the processor has decoded is readable to its end.
    let byte = |i: usize| unsafe { *at.add(i) };
    // R, X, B are stored inverted; map 2 is 0F38; W and L must be 0.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let extend = |bit: u8| if byte(1) & bit == 0 { 8usize } else { 0 };
    let register = |number: usize| registers[ENCODING[number] as usize] as usize;
    let modrm = byte(4);
    let mut instruction = Instruction {
        prefix: byte(2) & 3,
        opcode: byte(3),
        reg: usize::from(modrm >> 3 & 7) + extend(0x80),
        rm: None,
        vvvv: usize::from(!byte(2) >> 3 & 15),
        address: 0,
        stride: 0,
        length: 5,
    };
    let (mode, rm) = (modrm >> 6, usize::from(modrm & 7));
    if mode == 3 {
        instruction.rm = Some(rm + extend(0x20));
        return Some(instruction);
    }
    if rm == 4 {
        let sib = byte(5);
        instruction.length += 1;
        let index = usize::from(sib >> 3 & 7) + extend(0x40);
        if index != 4 {
            instruction.stride = register(index) << (sib >> 6);
        }
        if sib & 7 == 5 && mode == 0 {
            return None;
        }
        instruction.address = register(usize::from(sib & 7) + extend(0x20));
    } else if rm == 5 && mode == 0 {
        return None;
    } else {
        instruction.address = register(rm + extend(0x20));
    }
    let displacement = instruction.length as usize;
    match mode {
        1 => {
            instruction.address = instruction.address.wrapping_add_signed(byte(displacement) as i8 as isize);
            instruction.length += 1;
        }
        2 => {
            let bytes = [0, 1, 2, 3].map(|i| byte(displacement + i));
            instruction.address = instruction.address.wrapping_add_signed(i32::from_le_bytes(bytes) as isize);
            instruction.length += 4;
        }
        _ => {}
    }
    Some(instruction)
}

impl TileFile {
    fn rows(&self, tile: usize) -> usize {
        usize::from(self.config[48 + tile])
    }

    fn row_bytes(&self, tile: usize) -> usize {
        usize::from(u16::from_le_bytes([self.config[16 + 2 * tile], self.config[17 + 2 * tile]]))
    }

    fn configured(&self, tile: usize) -> bool {
        tile < TILES && self.config[0] == 1 && self.rows(tile) > 0 && self.row_bytes(tile) > 0
    }
}

/// Executes the instruction at `at` and returns its length, or `None` when it is no tile instruction or would fault.
///
/// # Safety
/// `at` points to code; its memory operands are valid, as they must be on a processor with AMX.
unsafe fn execute(file: &mut TileFile, at: *const u8, registers: &[i64; 23]) -> Option<i64> {
    // SAFETY: the caller's promise.
    unsafe {
        let i = decode(at, registers)?;
        match (i.opcode, i.prefix, i.rm) {
            (0x49, 0, Some(0)) if i.reg == 0 => {
                *file = TileFile { config: [0; 64], tiles: [[[0; ROW_BYTES]; ROWS]; TILES] };
            }
            (0x49, 0, None) if i.reg == 0 => {
                let config = *(i.address as *const [u8; 64]);
                *file = TileFile { config, tiles: [[[0; ROW_BYTES]; ROWS]; TILES] };
                let valid = (0..TILES).all(|t| file.rows(t) <= ROWS && file.row_bytes(t) <= ROW_BYTES);
                if config[0] != 1 || !valid || config[2..16] != [0; 14] {
                    return None;
                }
            }
            (0x49, 1, None) if i.reg == 0 => *(i.address as *mut [u8; 64]) = file.config,
            (0x49, 3, Some(0)) if file.configured(i.reg) => file.tiles[i.reg] = [[0; ROW_BYTES]; ROWS],
            // tileloadd, tileloaddt1
            (0x4b, 3 | 1, None) if file.configured(i.reg) => {
                let (rows, bytes) = (file.rows(i.reg), file.row_bytes(i.reg));
                file.tiles[i.reg] = [[0; ROW_BYTES]; ROWS];
                for (row, to) in file.tiles[i.reg][..rows].iter_mut().enumerate() {
                    let from = (i.address + row * i.stride) as *const u8;
                    to[..bytes].copy_from_slice(std::slice::from_raw_parts(from, bytes));
                }
            }
            // tilestored
            (0x4b, 2, None) if file.configured(i.reg) => {
                let (rows, bytes) = (file.rows(i.reg), file.row_bytes(i.reg));
                for (row, from) in file.tiles[i.reg][..rows].iter().enumerate() {
                    let to = (i.address + row * i.stride) as *mut u8;
                    from.as_ptr().copy_to_nonoverlapping(to, bytes);
                }
            }
            (0x5e, _, Some(a)) => multiply(file, i.reg, a, i.vvvv, |a, b, old| {
                let widen = |byte: u8, signed: bool| {
                    if signed { i32::from(byte as i8) } else { i32::from(byte) }
                };
                // F2 ss, F3 su, 66 us, none uu: first the A tile, then the B tile.
                let (a_signed, b_signed) = (i.prefix >= 2, matches!(i.prefix, 1 | 3));
                let mut sum = i32::from_le_bytes(old);
                for (a, b) in a.iter().zip(b) {
                    for (a, b) in a.iter().zip(b) {
                        sum = sum.wrapping_add(widen(*a, a_signed) * widen(*b, b_signed));
                    }
                }
                sum.to_le_bytes()
            })?,
            (0x5c, 2, Some(a)) => multiply(file, i.reg, a, i.vvvv, |a, b, old| {
                let mut chains = [0.0f32; 2];
                for (a, b) in a.iter().zip(b) {
                    for (half, chain) in chains.iter_mut().enumerate() {
                        let widen = |v: &[u8; 4]| {
                            daz(f32::from_bits(u32::from_le_bytes([0, 0, v[2 * half], v[2 * half + 1]])))
                        };
                        *chain = daz(widen(a).mul_add(widen(b), *chain));
                    }
                }
                daz(daz(f32::from_le_bytes(old)) + daz(chains[0] + chains[1])).to_le_bytes()
            })?,
            _ => return None,
        }
        Some(i.length)
    }
}

/// Subnormal numbers as zeros of their sign.
fn daz(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// `C[m][n] = f(row m of A, column n of B, C[m][n])`, elements of 32 bits; `None` when the shapes do not fit.
fn multiply(
    file: &mut TileFile,
    c: usize,
    a: usize,
    b: usize,
    f: impl Fn(&[[u8; 4]], &[[u8; 4]], [u8; 4]) -> [u8; 4],
) -> Option<()> {
    let fits = [a, b, c].into_iter().all(|tile| file.configured(tile))
        && a != b
        && a != c
        && b != c
        && file.row_bytes(a) / 4 == file.rows(b)
        && file.rows(c) == file.rows(a)
        && file.row_bytes(c) == file.row_bytes(b);
    if !fits {
        return None;
    }
    let steps = file.rows(b);
    for m in 0..file.rows(c) {
        let row = file.tiles[a][m];
        let row = &row.as_chunks::<4>().0[..steps];
        for n in 0..file.row_bytes(c) / 4 {
            let mut column = [[0u8; 4]; ROWS];
            for (k, element) in column[..steps].iter_mut().enumerate() {
                *element = file.tiles[b][k].as_chunks::<4>().0[n];
            }
            let element = &mut file.tiles[c][m].as_chunks_mut::<4>().0[n];
            *element = f(row, &column[..steps], *element);
        }
    }
    Some(())
}
