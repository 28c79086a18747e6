//! The lines of earlier conversations, in Ollama's file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::config::{clean, go_bool};
use crate::wire;

/// Lines that are recalled, as many as Ollama's.
const RECALLED: usize = 100;
/// A file of more lines is shortened.
const LONGEST: usize = 1000;

/// A file to which every line is added at once: a terminal may be closed at any moment.
pub struct History {
    /// None: nothing is remembered.
    path: Option<PathBuf>,
}

impl History {
    /// `~/.ollama/history`, unless `OLLAMA_NOHISTORY` is set.
    pub fn of_user() -> Self {
        let unwanted = std::env::var("OLLAMA_NOHISTORY").ok();
        let unwanted = clean(unwanted.as_deref()).is_some_and(|text| go_bool(&text) != Some(false));
        let home = std::env::home_dir().filter(|home| !unwanted && !home.as_os_str().is_empty());
        History { path: home.map(|home| home.join(".ollama").join("history")) }
    }

    /// This file.
    pub fn at(path: PathBuf) -> Self {
        History { path: Some(path) }
    }

    /// The last lines, the oldest first.
    pub fn lines(&self) -> Vec<String> {
        let Some(path) = &self.path else { return Vec::new() };
        // No history yet is as good.
        let text = wire::text(&fs::read(path).unwrap_or_default());
        let all: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && *line != "#V2").collect();
        let last = &all[all.len().saturating_sub(RECALLED)..];
        if all.len() > LONGEST {
            let _ = fs::write(path, last.join("\n") + "\n");
        }
        last.iter().map(|&line| line.to_owned()).collect()
    }

    /// One more. What cannot be written is forgotten.
    pub fn add(&self, line: &str) {
        let Some(path) = self.path.as_ref().filter(|_| !line.trim().is_empty()) else { return };
        let _ = path.parent().map(fs::create_dir_all);
        // What people ask is their own business.
        let file = fs::File::options().create(true).append(true).mode(0o600).open(path);
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{}", line.trim_end());
        }
    }
}
