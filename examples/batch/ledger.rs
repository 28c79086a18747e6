//! The output: what is answered already, and one whole line more at a time.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::common::Result;

/// Where answers go.
pub struct Ledger {
    /// Line number → hash of the line that was answered.
    done: HashMap<u64, u64>,
    out: Box<dyn Write>,
}

impl Ledger {
    /// A new one.
    pub fn new(out: Box<dyn Write>) -> Self {
        Ledger { done: HashMap::new(), out }
    }

    /// Continues a file, or begins it. A last line that was not written to its end is
    /// cut off. A file that is no output of this program is left alone.
    pub fn resume(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(|error| format!("{name}: {error}"))?;
        if file.try_lock().is_err() {
            return Err(format!("{name}: another process is writing it").into());
        }
        let (done, end) = answered(&file).map_err(|error| format!("{name}: {error}"))?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Ledger { done, out: Box::new(file) })
    }

    /// Whether this very line is answered.
    pub fn has(&self, index: u64, hash: u64) -> bool {
        self.done.get(&index) == Some(&hash)
    }

    /// Lines that are answered.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Writes an answer; once this returns the system has all of it.
    pub fn write(&mut self, answer: &str) -> Result {
        self.out.write_all(format!("{answer}\n").as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// An answer begins with these two, so that [`key`] finds them.
pub fn answer(index: u64, hash: u64) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("index".into(), json!(index));
    answer.insert("hash".into(), json!(format!("{hash:016x}")));
    answer
}

const START: &[u8] = b"{\"index\":";

/// The line number and the hash of an answer.
fn key(line: &[u8]) -> Option<(u64, u64)> {
    let rest = line.strip_prefix(START)?;
    let (index, rest) = rest.split_at(rest.iter().position(|byte| *byte == b',')?);
    let hash = rest.strip_prefix(b",\"hash\":\"")?.get(..16)?;
    let index = std::str::from_utf8(index).ok()?.parse().ok()?;
    let hash = u64::from_str_radix(std::str::from_utf8(hash).ok()?, 16).ok()?;
    line.ends_with(b"}").then_some((index, hash))
}

/// What the file has, and where its last whole line ends.
fn answered(file: &File) -> Result<(HashMap<u64, u64>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut done, mut end, mut line) = (HashMap::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let found = line.strip_suffix(b"\n").map(key);
        match found {
            Some(Some((index, hash))) => done.insert(index, hash),
            // The rest of a write that was cut short, or nothing.
            None if line.starts_with(START) || START.starts_with(&line) => break,
            _ => {
                return Err(format!(
                    "line {number} is no answer of this program; nothing was changed"
                )
                .into());
            }
        };
        end += read as u64;
    }
    Ok((done, end))
}
