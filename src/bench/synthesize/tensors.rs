//! One tensor after the other into the writer, a few megabytes at a time.

use std::io::Write;

use crate::error::Result;
use crate::gguf::{TensorSpec, Writer};

use super::shape::Shape;
use super::weights::{STEP, fill, seed_of};

/// About how many bytes are made at a time.
const CHUNK: usize = 8 << 20;

/// Writes the next tensor, calling `progress` with each number of bytes.
pub fn write(
    writer: &mut Writer<impl Write>,
    shape: &Shape,
    seed: u64,
    tensor: &TensorSpec,
    progress: impl Fn(usize),
) -> Result<()> {
    let size = tensor.byte_len()?;
    if tensor.dims.len() == 1 {
        let values = match &*tensor.name {
            name if name.starts_with("rope_f") => shape.rope_freqs(),
            name if name.ends_with(".bias") || name.ends_with("attn_sinks.weight") => {
                vec![0.0; tensor.dims[0] as usize]
            }
            // What decays must not grow.
            name if name.ends_with("ssm_a") => vec![-0.5; tensor.dims[0] as usize],
            _ => vec![1.0f32; tensor.dims[0] as usize], // norms
        };
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        progress(size);
        return writer.write(&bytes);
    }
    let deviation = 1.0 / (tensor.dims[0] as f64).sqrt();
    let seed = seed_of(seed, &tensor.name);
    let block = tensor.format.block_bytes();
    let blocks = (CHUNK / block).next_multiple_of(STEP);
    let mut buffer = vec![0; size.min(blocks * block)];
    let mut done = 0;
    while done < size {
        let chunk = &mut buffer[..(size - done).min(blocks * block)];
        fill(tensor.format, seed, deviation, done / block, chunk);
        writer.write(chunk)?;
        progress(chunk.len());
        done += chunk.len();
    }
    Ok(())
}
