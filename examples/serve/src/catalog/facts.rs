//! What a GGUF file says about itself, in Ollama's words.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use tramontane::gguf::{Array, Metadata, Value};
use tramontane::{Gguf, Model, ModelOptions};

use crate::schedule::Source;
use crate::wire::{ApiError, Result};

/// The object `details` of lists.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Details {
    /// Always empty for what has no parent.
    pub parent_model: String,
    /// `gguf`
    pub format: String,
    /// The architecture.
    pub family: String,
    /// Architectures.
    pub families: Option<Vec<String>>,
    /// `7.2B`
    pub parameter_size: String,
    /// `Q4_K_M`
    pub quantization_level: String,
    /// Positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Width of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
}

/// An open GGUF file.
pub struct Facts(Gguf);

/// Elements of an array that `show` prints without `verbose`.
const SHOWN: usize = 1024;

impl Facts {
    /// Opens the file; reads no weights.
    ///
    /// # Errors
    /// 500 with the library's sentence.
    pub fn read(source: &Source) -> Result<Self> {
        let opened = match source {
            Source::File(path) => Gguf::open(path),
            Source::Builtin => crate::builtin::file(),
        };
        opened.map(Facts).map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Whether this version runs what the file says it is. A file that is damaged passes:
    /// it is refused when it is loaded.
    ///
    /// # Errors
    /// That of [`Model::open`].
    pub fn check_supported(&self) -> tramontane::Result<()> {
        match self.model() {
            Err(error @ tramontane::Error::Unsupported { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// The model, to ask it about its vocabulary and template; not to run it.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn model(&self) -> tramontane::Result<Model> {
        // No thread is needed to find out.
        Model::from_gguf(self.0.clone(), &ModelOptions::default().with_threads(1))
    }

    fn metadata(&self) -> &Metadata {
        self.0.metadata()
    }

    /// `general.architecture`
    pub fn architecture(&self) -> &str {
        self.metadata().opt_str("general.architecture").ok().flatten().unwrap_or("unknown")
    }

    /// A number under the architecture's name.
    pub fn of_architecture(&self, key: &str) -> Option<u64> {
        let key = format!("{}.{key}", self.architecture());
        self.metadata().opt_u32(&key).ok().flatten().map(u64::from)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        let count = |dims: &[u64]| dims.iter().fold(1u64, |all, &dim| all.saturating_mul(dim));
        self.0.tensors().iter().map(|tensor| count(tensor.dims())).fold(0, u64::saturating_add)
    }

    /// Whether it makes vectors, not texts.
    pub fn is_embedding(&self) -> bool {
        self.of_architecture("pooling_type").is_some() || Model::is_encoder(self.architecture())
    }

    /// The Jinja template.
    pub fn chat_template(&self) -> Option<&str> {
        self.metadata().opt_str("tokenizer.chat_template").ok().flatten()
    }

    /// What lists show.
    pub fn details(&self) -> Details {
        let family = self.architecture().to_owned();
        let file_type = self.metadata().opt_u32("general.file_type").ok().flatten();
        Details {
            parent_model: String::new(),
            format: "gguf".into(),
            families: Some(vec![family.clone()]),
            family,
            parameter_size: human_count(self.parameters()),
            quantization_level: file_type_name(file_type).into(),
            context_length: self.of_architecture("context_length"),
            embedding_length: self.of_architecture("embedding_length"),
        }
    }

    /// The object `model_info` of `show`.
    pub fn model_info(&self, verbose: bool) -> Map<String, Json> {
        let hidden = |key: &str| matches!(key, "general.name" | "tokenizer.chat_template");
        let pairs = self.metadata().iter().filter(|(key, _)| !hidden(key));
        let mut info: Map<String, Json> =
            pairs.map(|(key, value)| (key.to_owned(), to_json(value, verbose))).collect();
        info.insert("general.parameter_count".into(), self.parameters().into());
        info.sort_keys();
        info
    }

    /// The list `tensors` of a verbose `show`.
    pub fn tensors(&self) -> Vec<Json> {
        let one = |tensor: &tramontane::tensor::Tensor| {
            let format = tensor.format().to_string();
            json!({"name": tensor.name(), "type": format, "shape": tensor.dims()})
        };
        self.0.tensors().iter().map(one).collect()
    }
}

/// `7.2B`, `596.05M`, `260K`, as Ollama writes numbers of parameters.
fn human_count(count: u64) -> String {
    let of = |unit: f64| count as f64 / unit;
    match count {
        1_000_000_000.. => trimmed(of(1e9), 1, "B"),
        1_000_000.. => trimmed(of(1e6), 2, "M"),
        1_000.. => trimmed(of(1e3), 0, "K"),
        _ => count.to_string(),
    }
}

/// Decimals, but none for a whole number.
fn trimmed(value: f64, decimals: usize, unit: &str) -> String {
    let text = format!("{value:.decimals$}");
    let whole = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0'));
    format!("{}{unit}", whole.map_or(text.as_str(), |(whole, _)| whole))
}

/// ggml's names of `general.file_type`.
fn file_type_name(number: Option<u32>) -> &'static str {
    match number {
        Some(0) => "F32",
        Some(1) => "F16",
        Some(2) => "Q4_0",
        Some(3) => "Q4_1",
        // In files that Ollama made.
        Some(4) => "MXFP4",
        Some(7) => "Q8_0",
        Some(8) => "Q5_0",
        Some(9) => "Q5_1",
        Some(10) => "Q2_K",
        Some(11) => "Q3_K_S",
        Some(12) => "Q3_K_M",
        Some(13) => "Q3_K_L",
        Some(14) => "Q4_K_S",
        Some(15) => "Q4_K_M",
        Some(16) => "Q5_K_S",
        Some(17) => "Q5_K_M",
        Some(18) => "Q6_K",
        Some(19) => "IQ2_XXS",
        Some(20) => "IQ2_XS",
        Some(21) => "Q2_K_S",
        Some(22) => "IQ3_XS",
        Some(23) => "IQ3_XXS",
        Some(24) => "IQ1_S",
        Some(25) => "IQ4_NL",
        Some(26) => "IQ3_S",
        Some(27) => "IQ3_M",
        Some(28) => "IQ2_S",
        Some(29) => "IQ2_M",
        Some(30) => "IQ4_XS",
        Some(31) => "IQ1_M",
        Some(32) => "BF16",
        Some(36) => "TQ1_0",
        Some(37) => "TQ2_0",
        Some(38) => "MXFP4_MOE",
        Some(39) => "NVFP4",
        Some(40) => "Q1_0",
        _ => "unknown",
    }
}

fn to_json(value: &Value, verbose: bool) -> Json {
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F32(n) => json!(n),
        Value::F64(n) => json!(n),
        Value::Bool(b) => json!(b),
        Value::String(s) => json!(s),
        Value::Array(array) if verbose || array.len() <= SHOWN => array_to_json(array),
        // Too long to print, or of a type that this version does not know.
        _ => Json::Null,
    }
}

fn array_to_json(array: &Array) -> Json {
    match array {
        Array::U8(list) => json!(list),
        Array::I8(list) => json!(list),
        Array::U16(list) => json!(list),
        Array::I16(list) => json!(list),
        Array::U32(list) => json!(list),
        Array::I32(list) => json!(list),
        Array::U64(list) => json!(list),
        Array::I64(list) => json!(list),
        Array::F32(list) => json!(list),
        Array::F64(list) => json!(list),
        Array::Bool(list) => json!(list),
        Array::String(list) => Json::Array(list.iter().map(Json::from).collect()),
        _ => Json::Null,
    }
}
