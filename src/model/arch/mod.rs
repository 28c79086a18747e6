//! Metadata and tensor names → [`Plan`]: the only place that knows names of
//! architectures.
//!
//! | file | |
//! |---|---|
//! | `keys.rs` | typed access to `{architecture}.{name}` |
//! | `unread.rs` | keys that no reader reads: refused, or warned of |
//! | `tensors.rs` | tensors by name, shapes checked; all must be claimed |
//! | `rope.rs` | rotary frequencies and their scalings |
//! | `decoder.rs` | the parts that most decoders have in common |
//! | `ollama/` | files of Ollama's own converter |
//! | `encoder.rs` | the same of encoders |
//! | one per family | what is particular to it |
//!
//! What each key means is described in the GGUF specification.

mod bert;
mod cohere;
mod decoder;
mod deepseek;
mod encoder;
mod exaone;
mod experts;
mod gemma;
mod gemma4;
mod gpt_oss;
mod granite;
mod hunyuan;
mod jina;
mod keys;
mod lfm;
mod llama;
mod mamba;
mod mistral;
mod nemotron;
pub(crate) mod ollama;
mod olmo;
mod phi;
mod qwen;
mod qwen_next;
mod rope;
mod smollm;
mod starcoder;
mod tensors;
mod unread;

use std::cell::RefCell;
use std::collections::HashSet;

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::Gguf;

use super::plan::Plan;
use keys::Keys;
use tensors::Tensors;

/// An architecture.
struct Architecture {
    /// In `general.architecture`.
    name: &'static str,
    /// How a file of it becomes a plan.
    reader: fn(&mut Source<'_>) -> Result<Plan>,
    /// Keys that change what a network computes, and that its reader reads: see `unread.rs`.
    computes: &'static [&'static str],
}

/// Every architecture, by name.
const ARCHITECTURES: &[Architecture] = &{
    const fn of(
        name: &'static str,
        reader: fn(&mut Source<'_>) -> Result<Plan>,
        computes: &'static [&'static str],
    ) -> Architecture {
        Architecture { name, reader, computes }
    }
    const GRANITE: [&str; 5] =
        ["attention.scale", "embedding_scale", "residual_scale", "logit_scale", "expert_count"];
    const NEXT: [&str; 2] = ["expert_count", "nextn_predict_layers"];
    const CAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];
    const GEMMA4: [&str; 3] = ["rope.freq_base_swa", "final_logit_softcapping", "expert_count"];
    [
        of("bert", bert::bert, &["attention.causal"]),
        of("cohere2", cohere::cohere2, &["logit_scale"]),
        of("deepseek2", deepseek::deepseek2, &["expert_count"]),
        of("ernie4_5", llama::plan, &[]),
        of("exaone4", exaone::exaone4, &[]),
        of("gemma2", gemma::gemma2, &CAPS),
        of(
            "gemma3",
            gemma::gemma3,
            &["attention.causal", "rope.freq_base_swa", "final_logit_softcapping"],
        ),
        of("gemma4", gemma4::gemma4, &GEMMA4),
        of("gpt-oss", gpt_oss::gpt_oss, &["expert_count"]),
        of("gemma-embedding", gemma::embedding, &["attention.causal", "rope.freq_base_swa"]),
        of("granite", granite::granite, &GRANITE),
        of("granitemoe", granite::granite, &GRANITE),
        of("granitehybrid", granite::hybrid, &GRANITE),
        of("hunyuan-dense", hunyuan::dense, &[]),
        of("jina-bert-v2", jina::jina_bert_v2, &["attention.causal", "attention.max_alibi_bias"]),
        of("lfm2", lfm::lfm2, &[]),
        of("lfm2moe", lfm::lfm2, &["expert_count"]),
        of("llama", llama::plan, &["expert_count"]),
        of("mistral3", mistral::mistral3, &["attention.temperature_scale"]),
        of(
            "modern-bert",
            bert::modern_bert,
            &["attention.causal", "rope.freq_base_swa", "hidden_activation"],
        ),
        of("nemotron_h", nemotron::nemotron_h, &[]),
        of("nemotron_h_moe", nemotron::nemotron_h, &["expert_count"]),
        of("nomic-bert", bert::nomic_bert, &["attention.causal"]),
        of(
            "nomic-bert-moe",
            bert::nomic_bert_moe,
            &["attention.causal", "expert_count", "moe_every_n_layers"],
        ),
        of("olmo2", olmo::olmo2, &["rope.freq_base_swa"]),
        of("olmoe", olmo::olmoe, &["expert_count"]),
        of("phi3", phi::phi3, &[]),
        of("qwen2", qwen::qwen2, &[]),
        of("qwen2moe", qwen::qwen2moe, &["expert_count"]),
        of("qwen3", qwen::qwen3, &[]),
        of("qwen35", qwen_next::qwen35, &["nextn_predict_layers"]),
        of("qwen35moe", qwen_next::qwen35moe, &NEXT),
        of("qwen3moe", qwen::qwen3moe, &["expert_count"]),
        of("qwen3next", qwen_next::qwen3next, &NEXT),
        of("smollm3", smollm::smollm3, &[]),
        of("starcoder2", starcoder::starcoder2, &[]),
    ]
};

/// Those whose networks make vectors of whole texts, and no text.
const ENCODERS: [&str; 6] =
    ["bert", "gemma-embedding", "jina-bert-v2", "modern-bert", "nomic-bert", "nomic-bert-moe"];

/// Whether networks of the architecture are encoders.
pub(super) fn is_encoder(name: &str) -> bool {
    ENCODERS.contains(&name)
}

/// What a file says about a network.
#[derive(Debug)]
pub(crate) struct Network {
    pub plan: Plan,
    /// Positions that the model was trained for.
    pub context_length: usize,
    /// What is odd about its keys, and what was assumed.
    pub warnings: Vec<Warning>,
}

/// What a reader reads from.
struct Source<'a> {
    keys: Keys<'a>,
    tensors: Tensors<'a>,
}

/// Reads the network of `file`. A tensor that nothing claims is refused: ignoring it
/// would give wrong text, not less text. So is a key that changes the result and that nothing
/// computes; of other keys that nothing reads there is a warning.
pub(crate) fn read(file: &Gguf) -> Result<Network> {
    let metadata = file.metadata();
    let name = metadata.str("general.architecture")?;
    let Some(arch) = ARCHITECTURES.iter().find(|known| known.name == name) else {
        let shown: String = name.chars().take(40).collect();
        let known: Vec<&str> = ARCHITECTURES.iter().map(|arch| arch.name).collect();
        let known = known.join(", ");
        let problem = format!("architecture {shown:?} is not supported; supported: {known}");
        return Err(Error::unsupported(Place::Key("general.architecture".into()), problem));
    };
    let read = RefCell::new(HashSet::new());
    let keys = Keys { metadata, arch: arch.name, read: &read };
    // Before tensors are looked for: one that is missing may come of such a key.
    unread::refuse(&keys, arch.computes)?;
    let context_length = keys.required("context_length", 1..=keys::limit::CONTEXT)? as usize;
    let mut source = Source { keys, tensors: Tensors::new(file) };
    let plan = (arch.reader)(&mut source)?;
    source.tensors.all_claimed(plan.layers.len())?;
    Ok(Network { plan, context_length, warnings: unread::warnings(&keys) })
}
