//! What the model thinks, shown apart from its answer as Ollama shows it.

/// Ollama's words before thoughts.
const BEGIN: &str = "Thinking...\n";
/// And after them.
const END: &str = "...done thinking.\n\n";
/// Faint letters, and back.
const FAINT: (&str, &str) = ("\u{1b}[2m", "\u{1b}[0m");

/// Thoughts on their way to the screen.
#[derive(Debug, Default)]
pub struct Thoughts {
    /// Whether they are shown faint.
    faint: bool,
    open: bool,
    /// Whether what was shown last ends a line.
    line_ended: bool,
}

impl Thoughts {
    /// Thoughts for a terminal that shows colours (`faint`), or for anything else.
    pub fn new(faint: bool) -> Self {
        Thoughts { faint, ..Thoughts::default() }
    }

    /// What stands before the next thought, of which `text` is shown.
    pub fn begin(&mut self, text: &str) -> String {
        self.line_ended = text.ends_with('\n');
        if std::mem::replace(&mut self.open, true) {
            return String::new();
        }
        let faint = if self.faint { FAINT.0 } else { "" };
        format!("{faint}{BEGIN}")
    }

    /// What stands after the thoughts, if there were any.
    pub fn end(&mut self) -> String {
        if !std::mem::take(&mut self.open) {
            return String::new();
        }
        let line = if self.line_ended { "" } else { "\n" };
        let back = if self.faint { FAINT.1 } else { "" };
        format!("{line}{END}{back}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_framed_once() {
        for (faint, before, after) in [(false, "", ""), (true, "\u{1b}[2m", "\u{1b}[0m")] {
            let mut thoughts = Thoughts::new(faint);
            assert_eq!(thoughts.end(), "");
            assert_eq!(thoughts.begin("Hm"), format!("{before}Thinking...\n"));
            assert_eq!(thoughts.begin(", so"), "");
            assert_eq!(thoughts.end(), format!("\n...done thinking.\n\n{after}"));
            assert_eq!(thoughts.end(), "");
            thoughts.begin("again\n");
            assert_eq!(thoughts.end(), format!("...done thinking.\n\n{after}"));
        }
    }
}
