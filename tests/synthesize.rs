//! The synthesized shapes have exactly the tensors of the real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

#[path = "../examples/synthesize/shape.rs"]
mod shape;

use shape::{MIXES, SHAPES, tensors};
use tramontane::quant::Format;

/// Sizes and types of Mistral-7B-Instruct-v0.3 Q4_K_M as published.
#[test]
fn mistral_7b_q4_k_m_is_the_real_mix() {
    let all = tensors(&SHAPES[0], &MIXES[0]);
    let bytes: usize = all.iter().map(|tensor| tensor.byte_len().unwrap()).sum();
    assert_eq!(bytes, 4_372_054_016);
    let count = |format| all.iter().filter(|tensor| tensor.format == format).count();
    assert_eq!((count(Format::Q6_K), count(Format::F32)), (33, 65));
    let more: Vec<usize> = (0..32)
        .filter(|i| {
            let name = format!("blk.{i}.ffn_down.weight");
            all.iter().any(|t| t.name == name && t.format == Format::Q6_K)
        })
        .collect();
    assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    assert_eq!(all[0].format, Format::Q4_K, "the embedding is untied");
}

#[test]
fn every_shape_and_type_is_whole_blocks() {
    for shape in &SHAPES {
        for mix in &MIXES {
            for tensor in tensors(shape, mix) {
                tensor.byte_len().unwrap_or_else(|e| panic!("{} {}: {e}", shape.name, mix.name));
            }
        }
    }
}
