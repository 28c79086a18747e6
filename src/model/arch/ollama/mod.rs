//! Files of Ollama's own converter, as they lie in its store: seen as llama.cpp's converter
//! would have written them.
//!
//! Before llama.cpp knew an architecture Ollama often had its own name for it, for some of
//! its keys and for some of its tensors, and left out what its engine knew by itself. Ollama
//! translates such files when it loads them (`llama/compat` in github.com/ollama/ollama),
//! and so does this. Nothing is rewritten: a [`View`] has the keys of the network and the
//! tensors under other names, its weights stay in the file.
//!
//! | file | |
//! |---|---|
//! | `table.rs` | what differs, a row per architecture |
//! | `vocabulary.rs` | the keys of the vocabulary |

mod table;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::error::{Error, Place, Result};
use crate::gguf::{Gguf, Metadata, Value};
use crate::tensor::Tensor;

use super::{ARCHITECTURES, Network};
use table::{Given, Mark, TABLE, Translation, When};
pub(crate) use vocabulary::vocabulary;

/// Reads the network of `file`, whoever wrote it. Errors and warnings have the file's names.
pub(crate) fn read(file: &Gguf) -> Result<Network> {
    let Some(view) = View::new(file)? else { return super::read(file) };
    let mut network = super::read(&view.file).map_err(|error| view.in_names_of_file(error))?;
    for warning in &mut network.warnings {
        warning.at = view.place(warning.at.clone());
    }
    Ok(network)
}

/// The row for `file`, if Ollama's converter wrote it.
fn translation(file: &Gguf) -> Option<&'static Translation> {
    let name = file.metadata().opt_str("general.architecture").ok()??;
    TABLE.iter().find(|row| {
        // A name of Ollama's own shows it too. If nothing runs what it stands for, the file
        // stays as it is, so that the error has its name.
        let runs = ARCHITECTURES.iter().any(|known| known.name == row.to);
        let marked = row.to != row.from && row.marks.is_empty();
        row.from == name && runs && (marked || row.marks.iter().any(|mark| mark.is_in(file, name)))
    })
}

impl Mark {
    fn is_in(self, file: &Gguf, arch: &str) -> bool {
        let has = |name: &str| file.metadata().get(&format!("{arch}.{name}")).is_some();
        let starts = |start: &str| file.tensors().iter().any(|t| t.name().starts_with(start));
        match self {
            Mark::Key(name) => has(name),
            Mark::NoKey(name) => !has(name),
            Mark::Global(name) => file.metadata().get(name).is_some(),
            Mark::Vocabulary(model) => {
                file.metadata().opt_str("tokenizer.ggml.model").ok().flatten() == Some(model)
            }
            Mark::Tensor(name) => file.tensor(name).is_some(),
            Mark::Tensors(start) => starts(start),
            Mark::TensorEnd(end) => file.tensors().iter().any(|t| t.name().ends_with(end)),
            Mark::Token(id, text) => {
                let tokens = file.metadata().opt_strings("tokenizer.ggml.tokens").ok().flatten();
                tokens.and_then(|tokens| tokens.get(id as usize)) == Some(text)
            }
        }
    }
}

/// A file of Ollama's as llama.cpp's converter would have written it, without vocabulary.
struct View {
    row: &'static Translation,
    file: Gguf,
    /// Of each of the row's names of tensors, whether the file has it.
    named: Vec<bool>,
}

impl View {
    /// `None` for a file that is read as it is.
    fn new(file: &Gguf) -> Result<Option<Self>> {
        match translation(file) {
            Some(row) if row.changes_network() => {
                let has = |(from, to)| {
                    file.tensors().iter().any(|tensor| renamed(tensor.name(), from, to).is_some())
                };
                let named = row.tensors.iter().copied().map(has).collect();
                let file = file.with(keys(row, file)?, tensors(row, file));
                Ok(Some(View { row, file, named }))
            }
            _ => Ok(None),
        }
    }

    fn in_names_of_file(&self, error: Error) -> Error {
        match error {
            Error::File { at, problem } => Error::File { at: self.place(at), problem },
            Error::Unsupported { at, problem } => {
                Error::Unsupported { at: self.place(at), problem }
            }
            other => other,
        }
    }

    /// Where that is in the file.
    fn place(&self, at: Place) -> Place {
        match at {
            Place::Key(key) => Place::Key(match key.strip_prefix(self.row.to) {
                Some(name) if name.starts_with('.') => {
                    let renamed = self.row.keys.iter().find(|(_, to)| *to == &name[1..]);
                    format!("{}.{}", self.row.from, renamed.map_or(&name[1..], |(from, _)| from))
                }
                _ => key,
            }),
            Place::Tensor(name) => {
                let names = self.row.tensors.iter().zip(&self.named);
                let mut names = names.filter(|(_, named)| **named);
                let back = names.find_map(|((from, to), _)| renamed(&name, to, from));
                Place::Tensor(back.unwrap_or(name))
            }
            other => other,
        }
    }
}

impl Translation {
    fn changes_network(&self) -> bool {
        self.from != self.to
            || !(self.keys.is_empty()
                && self.unread.is_empty()
                && self.given.is_empty()
                && self.tensors.is_empty())
    }
}

/// The keys of the network, renamed, and those that are given.
fn keys(row: &Translation, file: &Gguf) -> Result<Metadata> {
    let mut keys = Metadata::new();
    for (key, value) in file.metadata().iter() {
        if key.starts_with("tokenizer.") {
            continue;
        }
        let Some(name) = key.strip_prefix(row.from).and_then(|rest| rest.strip_prefix('.')) else {
            keys.set(key, value.clone())?;
            continue;
        };
        let renamed = row.keys.iter().find(|(from, _)| *from == name);
        if renamed.is_none() && row.unread.iter().any(|unread| name.starts_with(unread)) {
            continue;
        }
        let name = renamed.map_or(name, |(_, to)| to);
        keys.set(format!("{}.{name}", row.to), value.clone())?;
    }
    keys.set("general.architecture", Value::String(row.to.into()))?;
    for (name, when, given) in row.given {
        let key = format!("{}.{name}", row.to);
        let wanted = match when {
            When::Always => true,
            When::Missing => keys.get(&key).is_none(),
            When::MissingFrom(context) => {
                let length = keys.opt_u32(&format!("{}.context_length", row.to))?.unwrap_or(0);
                keys.get(&key).is_none() && length >= *context
            }
        };
        if let Some(value) = if wanted { given.value(row.from, file)? } else { None } {
            keys.set(key, value)?;
        }
    }
    Ok(keys)
}

impl Given {
    /// The value, from what the file says; `None` where it does not say it.
    fn value(self, arch: &str, file: &Gguf) -> Result<Option<Value>> {
        let metadata = file.metadata();
        let number = |name: &str| metadata.opt_u32(&format!("{arch}.{name}"));
        Ok(match self {
            Given::Number(value) => Some(Value::F32(value)),
            Given::Count(value) => Some(Value::U32(value)),
            Given::Word(value) => Some(Value::String(value.into())),
            Given::Same(name) => number(name)?.map(Value::U32),
            Given::Sum(a, b) => match (number(a)?, number(b)?) {
                (Some(a), Some(b)) => a.checked_add(b).map(Value::U32),
                _ => None,
            },
            Given::Dim(tensor, index) => {
                let size = file.tensor(tensor).and_then(|tensor| tensor.dims().get(index));
                size.and_then(|&size| u32::try_from(size).ok()).map(Value::U32)
            }
        })
    }
}

fn tensors(row: &Translation, file: &Gguf) -> Vec<Tensor> {
    let names: HashSet<&str> = file.tensors().iter().map(Tensor::name).collect();
    let all = file.tensors().iter().map(|tensor| {
        let mut found =
            row.tensors.iter().filter_map(|(from, to)| renamed(tensor.name(), from, to));
        match found.next() {
            // Never two of one name.
            Some(name) if !names.contains(&*name) => tensor.renamed(&name),
            _ => tensor.clone(),
        }
    });
    all.collect()
}

/// `name` with `to` in place of `from`, which is a whole name, its end (`.ssm_dt`), or a part
/// between dots (`.attn_out.`).
fn renamed(name: &str, from: &str, to: &str) -> Option<String> {
    if !from.starts_with('.') {
        return (name == from).then(|| to.to_owned());
    }
    if from.ends_with('.') {
        return name.contains(from).then(|| name.replacen(from, to, 1));
    }
    name.strip_suffix(from).map(|start| format!("{start}{to}"))
}
