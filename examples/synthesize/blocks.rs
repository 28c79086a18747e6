//! Random blocks of each format whose decoded weights have mean 0 and a chosen
//! standard deviation `sigma`.
//!
//! Codes are uniform, so a code of n values has the standard deviation
//! √((n² − 1) / 12): 4.61 for 16 values, 9.23 for 32, 18.5 for 64, 73.9 for 256.
//! Where a format has sub-block scales they are uniform too, with root mean square
//! 48.4 for 32..=63 and 11.7 for 8..=15. The float scale d is sigma over the product;
//! a minimum takes away the mean of the codes.

use half::{bf16, f16};
use tramontane::quant::Format;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Uniform with mean 0 and standard deviation `sigma`.
    fn uniform(&mut self, sigma: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * sigma * 3f32.sqrt()
    }
}

/// Fills `bytes`, whole blocks of `format`.
pub fn fill(format: Format, sigma: f32, random: &mut Random, bytes: &mut [u8]) {
    match format {
        Format::F32 => each(bytes, |out: &mut [u8; 4]| *out = random.uniform(sigma).to_le_bytes()),
        Format::F16 => each(bytes, |out: &mut [u8; 2]| {
            *out = f16::from_f32(random.uniform(sigma)).to_le_bytes();
        }),
        Format::BF16 => each(bytes, |out: &mut [u8; 2]| {
            *out = bf16::from_f32(random.uniform(sigma)).to_le_bytes();
        }),
        _ => {
            random.fill(bytes);
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                set_scales(format, sigma, block);
            }
        }
    }
}

fn each<const N: usize>(bytes: &mut [u8], mut make: impl FnMut(&mut [u8; N])) {
    bytes.as_chunks_mut().0.iter_mut().for_each(&mut make);
}

/// Puts the scales of a block of random bytes in order; its codes stay random.
fn set_scales(format: Format, sigma: f32, block: &mut [u8]) {
    let mut put = |at: usize, value: f32| {
        block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    };
    match format {
        Format::Q8_0 => put(0, sigma / 73.9),
        Format::Q4_0 => put(0, sigma / 4.61),
        // Codes −4..=3 (2.29), scales −32..=31 (18.5).
        Format::Q3_K => put(108, sigma / (2.29 * 18.5)),
        Format::Q2_K => {
            let d = sigma / (11.7 * 1.118);
            put(80, d);
            put(82, 1.5 * d);
            // Scale = minimum = 8..=15.
            block[..16].iter_mut().for_each(|byte| *byte = (*byte & 7 | 8) * 0x11);
        }
        Format::Q4_K | Format::Q5_K => {
            let (deviation, mean) = if format == Format::Q4_K { (4.61, 7.5) } else { (9.23, 15.5) };
            let d = sigma / (48.4 * deviation);
            put(0, d);
            put(2, mean * d);
            equal_six_bit_scales(&mut block[4..16]);
        }
        Format::Q6_K => {
            put(208, sigma / (48.4 * 18.5));
            // Magnitude 32..=63, random sign: the codes' mean of −½ cancels.
            for byte in &mut block[192..208] {
                let magnitude = (*byte & 31 | 32) as i8;
                *byte = if *byte & 64 == 0 { magnitude as u8 } else { (-magnitude) as u8 };
            }
        }
        _ => {}
    }
}

/// Eight 6-bit scales of 32..=63 and eight equal minimums, packed as in Q4_K.
fn equal_six_bit_scales(scales: &mut [u8]) {
    for i in 0..4 {
        let (first, second) = (scales[i] & 31 | 32, scales[4 + i] & 31 | 32);
        scales[i] = first | second >> 4 << 6;
        scales[4 + i] = scales[i];
        scales[8 + i] = (second & 15) * 0x11;
    }
}
