//! Real files with random damage: whatever the parser says, it does not panic,
//! stays within the memory bound, and hands out only tensors that can be read.

use rayon::prelude::*;

use super::{parse, real_files};

const MUTANTS: u64 = 24_000;

/// splitmix64: the whole state is a counter.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbers that break arithmetic.
const NASTY: [u64; 10] = [
    0,
    1,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 32,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

fn mutate(bytes: &mut Vec<u8>, state: &mut u64) {
    for _ in 0..=random(state) % 4 {
        let at = random(state) as usize % bytes.len();
        match random(state) % 5 {
            0 => bytes[at] ^= 1 << (random(state) % 8),
            1 => bytes[at] = random(state) as u8,
            2 => {
                let nasty = NASTY[random(state) as usize % NASTY.len()].to_le_bytes();
                let width = 8.min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&nasty[..width]);
            }
            3 => {
                let end = (at + random(state) as usize % 40).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + random(state) as usize % 40).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn mutants_never_panic() {
    // The front of each file is what the parser reads; the tensors of most
    // lie past the end then, so that one complete file comes on top.
    let fronts: Vec<Vec<u8>> = real_files()
        .iter()
        .map(|(_, bytes)| bytes[..16_384.min(bytes.len())].to_vec())
        .chain([directory_only()])
        .collect();
    let accepted: u64 = (0..MUTANTS)
        .into_par_iter()
        .map(|seed| {
            let mut state = seed;
            let mut bytes = fronts[seed as usize % fronts.len()].clone();
            mutate(&mut bytes, &mut state);
            let Ok(file) = parse(bytes) else { return 0 };
            for tensor in file.tensors() {
                assert!(tensor.bytes().len() < 1 << 20);
                assert!(tensor.bytes().starts_with(tensor.row(0)));
            }
            1
        })
        .sum();
    // Mutants of the small complete file often stay legal: both sides are seen.
    assert!((MUTANTS / 100..MUTANTS / 2).contains(&accepted), "{accepted} were accepted");
}

/// A small complete file, so that mutants reach the checks after the directory.
fn directory_only() -> Vec<u8> {
    super::build::File::new()
        .pair("general.alignment", 4, &32u32.to_le_bytes())
        .pair("flag", 7, &[1])
        .pair("floats", 9, &[&super::build::File::array_head(6, 2)[..], &[0; 8]].concat())
        .tensor("a", &[32, 2], 8, 0)
        .tensor("b", &[4], 0, 96)
        .data(112)
        .bytes()
}
