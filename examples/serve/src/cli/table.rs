//! Tables of columns, as Ollama prints them: no lines, four spaces between.

use std::io::Write;

use super::screen::Result;

/// Prints a table.
///
/// # Errors
/// A closed pipe.
pub fn print(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> Result {
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell));
            cells.max().unwrap_or(0).max(length(title))
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| -> Result {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - length(cell) + 4));
        }
        writeln!(out, "{text}")?;
        Ok(())
    };
    line(&mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}
