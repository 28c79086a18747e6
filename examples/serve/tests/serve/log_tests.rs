//! The log: colours, JSON, what is in it, and what metrics read of the system.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;
use tramontane_serve::config::LogFormat;
use tramontane_serve::log::subscriber;
use tramontane_serve::metrics::resident;

/// A log in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a warning looks like.
fn written(format: LogFormat, colors: bool) -> String {
    let memory = Memory::default();
    let writer = memory.clone();
    let log = subscriber(EnvFilter::new("info"), format, colors, move || writer.clone());
    tracing::subscriber::with_default(log, || {
        tracing::warn!(name = "a \"b\"\n\u{1b}[31m", "odd");
        tracing::debug!("not wanted");
    });
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn colours_are_for_terminals() {
    let plain = written(LogFormat::Text, false);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    assert!(plain.contains("WARN") && plain.contains("odd") && plain.lines().count() == 1);
    assert!(written(LogFormat::Text, true).contains('\x1b'));
}

#[test]
fn json_is_one_object_per_line() {
    let log = written(LogFormat::Json, true);
    assert_eq!(log.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"odd".into()));
    assert_eq!(line["name"], "a \"b\"\n\u{1b}[31m");
}

#[test]
fn resident_memory_does_not_depend_on_the_size_of_pages() {
    assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t   14336 kB\nRssAnon: 1 kB\n"), 14_680_064);
    assert_eq!(resident("Name: x\n"), 0);
}
