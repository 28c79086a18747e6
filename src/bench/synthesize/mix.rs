//! Which format each matrix gets: the mixes of llama.cpp's quantizer (without
//! an importance matrix), whose names end in a size: `q4_k_m`.

use crate::quant::Format;

/// A mix by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// As in `--type`.
    pub name: &'static str,
    /// `general.file_type`.
    pub file_type: u32,
    /// What a matrix gets if no rule says otherwise.
    pub base: Format,
}

const fn mix(name: &'static str, file_type: u32, base: Format) -> Mix {
    Mix { name, file_type, base }
}

/// The mixes that there are.
pub const MIXES: [Mix; 18] = [
    mix("f32", 0, Format::F32),
    mix("f16", 1, Format::F16),
    mix("bf16", 32, Format::BF16),
    mix("q4_0", 2, Format::Q4_0),
    mix("q4_1", 3, Format::Q4_1),
    mix("q5_0", 8, Format::Q5_0),
    mix("q5_1", 9, Format::Q5_1),
    mix("q8_0", 7, Format::Q8_0),
    mix("q2_k", 10, Format::Q2_K),
    mix("q3_k_m", 12, Format::Q3_K),
    mix("q4_k_s", 14, Format::Q4_K),
    mix("q4_k_m", 15, Format::Q4_K),
    mix("q5_k_s", 16, Format::Q5_K),
    mix("q5_k_m", 17, Format::Q5_K),
    mix("q6_k", 18, Format::Q6_K),
    mix("iq4_nl", 25, Format::IQ4_NL),
    mix("iq4_xs", 30, Format::IQ4_XS),
    mix("mxfp4_moe", 38, Format::Q8_0),
];

impl Mix {
    /// The mix called `name`.
    ///
    /// # Errors
    /// Which mixes there are.
    pub fn find(name: &str) -> Result<Mix, String> {
        let found = MIXES.into_iter().find(|mix| mix.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("possible types: {}", MIXES.map(|mix| mix.name).join(", ")))
    }

    /// Whether weights are stored in blocks.
    pub fn is_quantized(&self) -> bool {
        !matches!(self.base, Format::F32 | Format::F16 | Format::BF16)
    }

    /// `format`, or what takes its place where rows of `cols` weights are no whole blocks.
    pub fn fitting(format: Format, cols: u64) -> Format {
        if cols.is_multiple_of(format.block_len() as u64) {
            return format;
        }
        match format {
            Format::Q2_K | Format::Q3_K => Format::Q4_0,
            Format::Q4_K => Format::Q5_0,
            Format::Q5_K => Format::Q5_1,
            Format::Q6_K => Format::Q8_0,
            Format::IQ4_XS => Format::IQ4_NL,
            other => other,
        }
    }

    /// The format of the matrices of experts, where it is not that of others.
    pub fn of_experts(&self) -> Option<Format> {
        (self.name == "mxfp4_moe").then_some(Format::MXFP4)
    }

    /// The format of matrix `part` in layer `i` of `n`; `gqa` query heads share
    /// a key/value head. What is most sensitive (values, the way back into the
    /// residual stream) gets more bits, mostly in the first and last layers.
    pub fn format(&self, part: &str, i: usize, n: usize, gqa: u64) -> Format {
        match (self.name, part) {
            ("q2_k", "attn_v") if gqa >= 4 => Format::Q4_K,
            ("q2_k", "attn_v" | "attn_output" | "ffn_down") => Format::Q3_K,
            ("q3_k_m", "attn_v") if i < 2 => Format::Q5_K,
            ("q3_k_m", "ffn_down") if i < n / 16 => Format::Q5_K,
            ("q3_k_m", "attn_v" | "attn_output" | "ffn_down") => Format::Q4_K,
            ("q4_k_s", "attn_v") if i < 4 => Format::Q5_K,
            ("q4_k_s", "ffn_down") if i < n / 8 => Format::Q5_K,
            ("q4_k_m" | "q5_k_m", "attn_v" | "ffn_down") if use_more_bits(i, n) => Format::Q6_K,
            ("iq4_nl" | "iq4_xs", "attn_v") if gqa >= 4 => Format::Q5_K,
            ("iq4_nl" | "iq4_xs", "ffn_down") if i < n / 8 => Format::Q5_K,
            _ => self.base,
        }
    }
}

/// The first and the last eighth of the layers, and every third between.
fn use_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}
