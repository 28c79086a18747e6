//! candle on a GGUF file, measured as `../run.py` measures the others.
//!
//! ```text
//! candle-peer MODEL ROW        ROW: pp512, tg64, tg64@2048
//! ```
//!
//! prints tokens per second as JSON. RAYON_NUM_THREADS sets the threads. Random
//! tokens, one repetition after a short one to warm up; loading is not measured.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

/// The tokens per forward pass of a prompt, as the others have them.
const BATCH: usize = 512;

struct Row {
    prompt: bool,
    n: usize,
    depth: usize,
}

impl Row {
    fn parse(name: &str) -> Option<Row> {
        let (test, depth) = match name.split_once('@') {
            Some((test, depth)) => (test, depth.parse().ok()?),
            None => (name, 0),
        };
        let (kind, n) = test.split_at_checked(2)?;
        let n: usize = n.parse().ok()?;
        let known = matches!(kind, "pp" | "tg") && n > 0 && depth + n <= MAX_SEQ_LEN;
        known.then_some(Row { prompt: kind == "pp", n, depth })
    }
}

struct Peer {
    model: ModelWeights,
    n_vocab: usize,
    state: u64,
}

impl Peer {
    fn open(path: &str) -> std::result::Result<Peer, Box<dyn Error>> {
        let mut file = BufReader::new(File::open(path)?);
        let content = Content::read(&mut file)?;
        let embedding = content.tensor_infos.get("token_embd.weight");
        let n_vocab = embedding.ok_or("no token_embd.weight")?.shape.dims()[0];
        let model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        Ok(Peer { model, n_vocab, state: 0x9e37_79b9_7f4a_7c15 })
    }

    /// Runs `n` random tokens in one pass; position 0 forgets what was before.
    fn pass(&mut self, position: usize, n: usize) -> Result<()> {
        let tokens: Vec<u32> = (0..n)
            .map(|_| {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                ((self.state >> 32) as usize % self.n_vocab) as u32
            })
            .collect();
        let tokens = Tensor::new(&tokens[..], &Device::Cpu)?.unsqueeze(0)?;
        std::hint::black_box(self.model.forward(&tokens, position)?);
        Ok(())
    }

    fn passes(&mut self, start: usize, n: usize, batch: usize) -> Result<()> {
        for position in (start..start + n).step_by(batch) {
            self.pass(position, batch.min(start + n - position))?;
        }
        Ok(())
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, name] = &args[..] else { return Err("usage: candle-peer MODEL ROW".into()) };
    let row = Row::parse(name)
        .ok_or(format!("row {name:?}: pp or tg, one sequence, at most {MAX_SEQ_LEN} positions"))?;
    let mut peer = Peer::open(path)?;
    let batch = if row.prompt { BATCH } else { 1 };
    peer.passes(0, row.n.min(16), batch)?;
    if row.depth > 0 {
        peer.passes(0, row.depth, BATCH)?;
    }
    let start = Instant::now();
    peer.passes(row.depth, row.n, batch)?;
    println!("{}", serde_json::json!(row.n as f64 / start.elapsed().as_secs_f64()));
    Ok(())
}
