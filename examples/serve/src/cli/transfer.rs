//! `pull`, `push`: progress bars from a stream of lines.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Client, Lines};
use super::screen::Result;

/// Fetches a model.
pub async fn pull(client: &Client, model: &str, insecure: bool) -> Result {
    let body = json!({"model": model, "insecure": insecure});
    follow(client.stream("/api/pull", &body).await?).await
}

/// Sends a model.
pub async fn push(client: &Client, model: &str, insecure: bool) -> Result {
    let body = json!({"model": model, "insecure": insecure});
    follow(client.stream("/api/push", &body).await?).await
}

/// Shows what a stream of progress tells: a bar for each blob, a line for each status.
pub async fn follow(mut lines: Lines) -> Result {
    let mut bars = Bars::default();
    let followed = loop {
        match lines.next().await {
            Ok(Some(line)) => bars.show(&line),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    bars.end();
    followed
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    of_blob: HashMap<String, ProgressBar>,
    spinner: Option<ProgressBar>,
    last: String,
}

impl Bars {
    fn show(&mut self, line: &Value) {
        let status = line["status"].as_str().unwrap_or_default();
        match line["digest"].as_str() {
            Some(digest) => {
                let total = line["total"].as_u64().unwrap_or(0);
                let bar = self.of_blob.entry(digest.to_owned()).or_insert_with(|| {
                    if let Some(spinner) = self.spinner.take() {
                        spinner.finish();
                    }
                    self.all.add(bytes_bar(status, total))
                });
                bar.set_length(total);
                bar.set_position(line["completed"].as_u64().unwrap_or(0));
            }
            None if status != self.last => {
                if let Some(spinner) = self.spinner.take() {
                    spinner.finish();
                }
                let spinner = ProgressBar::new_spinner().with_message(status.to_owned());
                let spinner = self.all.add(spinner);
                spinner.enable_steady_tick(Duration::from_millis(100));
                self.spinner = Some(spinner);
            }
            None => {}
        }
        self.last = status.to_owned();
    }

    fn end(&mut self) {
        self.of_blob.values().for_each(ProgressBar::abandon);
        if let Some(spinner) = self.spinner.take() {
            spinner.finish();
        }
    }
}

/// A bar that counts bytes.
pub fn bytes_bar(message: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg} {percent:>3}% ▕{bar:30}▏ {decimal_bytes:>8}/{decimal_total_bytes:>8} \
         {decimal_bytes_per_sec:>10} {eta:>6}",
    );
    let bar = ProgressBar::new(total).with_message(message.to_owned());
    match style {
        Ok(style) => bar.with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")),
        // The template is right; without it there is the plain bar.
        Err(_) => bar,
    }
}
