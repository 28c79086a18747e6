//! The log: to stderr, as text or as JSON lines.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, ServeArgs};

/// Begins to write the log. `RUST_LOG` decides what is in it, else the settings.
pub fn install(args: &ServeArgs) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let asked = asked.map(|text| EnvFilter::builder().parse(&text).map_err(|error| (text, error)));
    let (filter, wrong) = match asked {
        Some(Ok(filter)) => (filter, None),
        Some(Err(wrong)) => (EnvFilter::new(level(args)), Some(wrong)),
        None => (EnvFilter::new(level(args)), None),
    };
    // Colours are for people: not for files and pipes, and not where they are unwanted.
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = std::io::stderr().is_terminal() && !unwanted;
    let format = args.log_format.unwrap_or_default();
    // Somebody else's log is as good.
    let _ = tracing::subscriber::set_global_default(subscriber(
        filter,
        format,
        colors,
        std::io::stderr,
    ));
    if let Some((text, error)) = wrong {
        tracing::warn!("RUST_LOG {text:?} is not understood ({error}); {} is used", level(args));
    }
}

fn level(args: &ServeArgs) -> &'static str {
    match args.debug_level() {
        0 => "info",
        1 => "tramontane_serve=debug,info",
        _ => "tramontane_serve=trace,debug",
    }
}

/// What writes events to `writer`.
pub fn subscriber<W>(
    filter: EnvFilter,
    format: LogFormat,
    colors: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt().with_writer(writer).with_env_filter(filter);
    match format {
        LogFormat::Text => Box::new(log.with_ansi(colors).finish()),
        LogFormat::Json => Box::new(log.json().flatten_event(true).finish()),
    }
}
