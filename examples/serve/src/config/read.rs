//! From what is written to what is meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tramontane::KvType;

use super::args::ServeArgs;
use super::value::{clean, go_bool, list, size, yes_or_no};
use super::{Bind, Config, Limits};
use crate::wire::{Address, KeepAlive};

type Result<T> = std::result::Result<T, String>;

const FIVE_MINUTES: KeepAlive = KeepAlive::For(Duration::from_secs(300));
/// Threads of a model at most: more than any machine has.
const THREADS: usize = 1024;

/// A setting: the field of [`ServeArgs`], and its variable.
#[derive(Clone, Copy)]
struct Setting(&'static str, &'static str);

/// Reads settings, and keeps what to warn of.
struct Reader<'a> {
    args: &'a ServeArgs,
    warnings: Vec<String>,
}

impl Config {
    /// Reads `args`.
    ///
    /// # Errors
    /// One sentence about the first setting that must not be guessed.
    pub fn new(args: &ServeArgs) -> Result<Self> {
        let mut reader = Reader { args, warnings: Vec::new() };
        let r = &mut reader;
        Ok(Config {
            bind: r.bind()?,
            models: r.models()?,
            keep_alive: r.keep_alive()?,
            num_parallel: r
                .count(Setting("num_parallel", "OLLAMA_NUM_PARALLEL"), &args.num_parallel, 4)?
                .unwrap_or(0),
            max_loaded: r
                .count(
                    Setting("max_loaded_models", "OLLAMA_MAX_LOADED_MODELS"),
                    &args.max_loaded_models,
                    3,
                )?
                .unwrap_or(0),
            max_queue: r
                .count(Setting("max_queue", "OLLAMA_MAX_QUEUE"), &args.max_queue, 512)?
                .unwrap_or(512),
            context_length: r
                .count(
                    Setting("context_length", "OLLAMA_CONTEXT_LENGTH"),
                    &args.context_length,
                    4096,
                )?
                .unwrap_or(4096),
            origins: r.origins()?,
            kv_type: r.kv_type()?,
            load_timeout: r.load_timeout()?,
            no_prune: r.ollamas_switch(Setting("no_prune", "OLLAMA_NOPRUNE"), &args.no_prune)?,
            threads: r.threads()?,
            memory: r.size(Setting("memory", "TRAMONTANE_MEMORY"), &args.memory)?,
            files: r.files()?,
            allow_paths: args.allow_paths,
            api_keys: r.api_keys()?,
            read_only: r.read_only()?,
            registries: r.registries()?,
            limits: r.limits()?,
            warnings: r.last_warnings()?,
        })
    }
}

impl Reader<'_> {
    fn is_flag(&self, setting: Setting) -> bool {
        self.args.flags.contains(setting.0)
    }

    /// As the person wrote it.
    fn name(&self, setting: Setting) -> String {
        match self.is_flag(setting) {
            true => format!("--{}", setting.0.replace('_', "-")),
            false => setting.1.to_owned(),
        }
    }

    fn refuse<T>(&self, setting: Setting, text: &str, why: &str) -> Result<T> {
        Err(format!("{} {text:?} {why}", self.name(setting)))
    }

    /// What Ollama takes in any form: as its variable with a warning, as a flag never.
    fn tolerate<T>(
        &mut self,
        setting: Setting,
        text: &str,
        why: &str,
        (used, shown): (T, &str),
    ) -> Result<T> {
        if self.is_flag(setting) {
            return self.refuse(setting, text, why);
        }
        self.warnings.push(format!("{} {text:?} {why}; {shown} is used", self.name(setting)));
        Ok(used)
    }

    /// A count; none for the default, which 0 is too.
    fn count(
        &mut self,
        setting: Setting,
        value: &Option<String>,
        default: usize,
    ) -> Result<Option<usize>> {
        let Some(text) = clean(value.as_deref()) else { return Ok(None) };
        match text.parse::<usize>() {
            Ok(number) => Ok(Some(number).filter(|&number| number > 0)),
            Err(_) => {
                let shown = format!("the default {default}");
                self.tolerate(setting, &text, "is no count", (None, &shown))
            }
        }
    }

    fn ollamas_switch(&mut self, setting: Setting, value: &Option<String>) -> Result<bool> {
        let Some(text) = clean(value.as_deref()) else { return Ok(false) };
        match go_bool(&text) {
            Some(on) => Ok(on),
            None => self.tolerate(setting, &text, "is neither 1 nor 0", (true, "1")),
        }
    }

    fn threads(&mut self) -> Result<Option<usize>> {
        let setting = Setting("num_threads", "OLLAMA_NUM_THREADS");
        let Some(text) = clean(self.args.num_threads.as_deref()) else { return Ok(None) };
        match text.parse::<usize>() {
            Ok(0) => Ok(None),
            Ok(threads @ 1..=THREADS) => Ok(Some(threads)),
            _ => {
                let why = format!("is no number of threads from 1 to {THREADS}");
                self.tolerate(setting, &text, &why, (None, "one per physical core"))
            }
        }
    }

    fn keep_alive(&mut self) -> Result<KeepAlive> {
        let setting = Setting("keep_alive", "OLLAMA_KEEP_ALIVE");
        let Some(text) = clean(self.args.keep_alive.as_deref()) else { return Ok(FIVE_MINUTES) };
        match duration(&text) {
            Some(keep_alive) => Ok(keep_alive),
            None => {
                let why = "is no duration such as 5m, 90s or -1";
                self.tolerate(setting, &text, why, (FIVE_MINUTES, "5m"))
            }
        }
    }

    /// 0 and less: no limit.
    fn load_timeout(&mut self) -> Result<Option<Duration>> {
        let setting = Setting("load_timeout", "OLLAMA_LOAD_TIMEOUT");
        let five = Some(Duration::from_secs(300));
        let Some(text) = clean(self.args.load_timeout.as_deref()) else { return Ok(five) };
        match duration(&text) {
            Some(KeepAlive::For(time)) => Ok(Some(time).filter(|time| !time.is_zero())),
            Some(KeepAlive::Forever) => Ok(None),
            None => self.tolerate(setting, &text, "is no duration such as 5m or 90s", (five, "5m")),
        }
    }

    fn bind(&mut self) -> Result<Bind> {
        let setting = Setting("host", "OLLAMA_HOST");
        let text = clean(self.args.host.as_deref());
        let text = text.as_deref().unwrap_or("127.0.0.1:11434");
        match Address::parse(text) {
            Address::Unix(path) if path.as_os_str().is_empty() => {
                self.refuse(setting, text, "names no socket; write unix:PATH")
            }
            Address::Unix(path) => Ok(Bind::Unix(path)),
            Address::Tcp { host, port, has_port, bad_port, .. } => {
                let port = match bad_port {
                    true => {
                        let why = "has no port from 0 to 65535";
                        self.tolerate(setting, text, why, (port, &format!("port {port}")))?
                    }
                    false => port,
                };
                let host = match host.as_str() {
                    // As Go has it: a port alone is everybody's.
                    "" if has_port => "0.0.0.0".into(),
                    "" => "127.0.0.1".into(),
                    _ => host,
                };
                Ok(Bind::Tcp(host, port))
            }
        }
    }

    fn models(&mut self) -> Result<PathBuf> {
        match self.args.models.as_deref().and_then(cleaned_path) {
            Some(path) if path.is_file() => self.refuse(
                Setting("models", "OLLAMA_MODELS"),
                &path.display().to_string(),
                "is a file; name the folder of the models, or a GGUF file with --model",
            ),
            Some(path) => Ok(path),
            None => {
                let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
                let home =
                    home.ok_or("there is no home folder; say where the models are with --models")?;
                Ok(home.join(".ollama").join("models"))
            }
        }
    }

    /// Origins with at most one `*` and a scheme; Ollama panics at the others.
    fn origins(&mut self) -> Result<Vec<String>> {
        let origins = list(self.args.origins.as_deref().unwrap_or_default());
        let good = |origin: &&String| {
            origin.matches('*').count() < 2 && (origin.contains('*') || origin.contains("://"))
        };
        match origins.iter().find(|origin| !good(origin)) {
            Some(bad) => self.refuse(
                Setting("origins", "OLLAMA_ORIGINS"),
                bad,
                "needs a scheme, as in https://example.com, and at most one *",
            ),
            None => Ok(origins),
        }
    }

    fn kv_type(&mut self) -> Result<KvType> {
        let text = clean(self.args.kv_cache_type.as_deref());
        match text.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("f16" | "i16" | "bf16") => Ok(KvType::default()),
            Some("q8_0") => Ok(KvType::Q8_0),
            Some("f32") => Ok(KvType::F32),
            Some(other) => self.refuse(
                Setting("kv_cache_type", "OLLAMA_KV_CACHE_TYPE"),
                other,
                "is not known; choose f16, q8_0 or f32",
            ),
        }
    }

    fn size(&mut self, setting: Setting, value: &Option<String>) -> Result<Option<u64>> {
        let Some(text) = clean(value.as_deref()) else { return Ok(None) };
        match size(&text) {
            None => self.refuse(setting, &text, "is no size; write for example 6GiB or 500MB"),
            bytes => Ok(bytes),
        }
    }

    fn files(&mut self) -> Result<Vec<PathBuf>> {
        for path in &self.args.files {
            if let Err(error) = std::fs::File::open(path) {
                return Err(format!("--model {}: {error}; name a GGUF file", path.display()));
            }
            if !path.is_file() {
                return Err(format!("--model {}: is no file; name a GGUF file", path.display()));
            }
        }
        Ok(self.args.files.clone())
    }

    /// Keys that are set but say nothing must not open the server.
    fn api_keys(&mut self) -> Result<Vec<String>> {
        let setting = Setting("api_keys", "TRAMONTANE_API_KEYS");
        let mut keys = Vec::new();
        if let Some(text) = &self.args.api_keys {
            keys = list(text);
            if keys.is_empty() {
                return Err(format!(
                    "{} is set and has no key in it; write one, or leave it out to serve everybody",
                    self.name(setting)
                ));
            }
        }
        if let Some(path) = &self.args.api_keys_file {
            let setting = Setting("api_keys_file", "TRAMONTANE_API_KEYS_FILE");
            let name = self.name(setting);
            let path = cleaned_path(path).ok_or_else(|| format!("{name} is set and empty"))?;
            let shown = path.display();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{name} {shown}: {error}; write one key per line"))?;
            let lines = text.lines().map(str::trim);
            let found = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            let before = keys.len();
            keys.extend(found.map(str::to_owned));
            if keys.len() == before {
                return Err(format!("{name} {shown}: has no key in it; write one per line"));
            }
        }
        Ok(keys)
    }

    fn read_only(&mut self) -> Result<bool> {
        let setting = Setting("read_only", "TRAMONTANE_READ_ONLY");
        let Some(text) = clean(self.args.read_only.as_deref()) else { return Ok(false) };
        match yes_or_no(&text) {
            Some(on) => Ok(on),
            None => self.refuse(setting, &text, "is neither yes nor no; write 1 or 0"),
        }
    }

    /// A list that is set but says nothing must not allow all.
    fn registries(&mut self) -> Result<Option<Vec<String>>> {
        let setting = Setting("registries", "TRAMONTANE_REGISTRIES");
        let Some(text) = &self.args.registries else { return Ok(None) };
        let hosts = list(text);
        if hosts.is_empty() {
            return Err(format!(
                "{} is set and has no host in it; write one, or leave it out to allow all",
                self.name(setting)
            ));
        }
        match hosts.iter().find(|host| host.contains(['/', ' '])) {
            Some(bad) => self.refuse(setting, bad, "is no host; write HOST or HOST:PORT"),
            None => Ok(Some(hosts)),
        }
    }

    fn limits(&mut self) -> Result<Limits> {
        let args = self.args;
        let body = self.size(Setting("max_body", "TRAMONTANE_MAX_BODY"), &args.max_body)?;
        let prompt =
            self.tokens(Setting("max_prompt", "TRAMONTANE_MAX_PROMPT"), &args.max_prompt)?;
        let predict =
            self.tokens(Setting("max_predict", "TRAMONTANE_MAX_PREDICT"), &args.max_predict)?;
        let time = self.time(Setting("max_time", "TRAMONTANE_MAX_TIME"), &args.max_time)?;
        let heartbeat = Setting("stream_heartbeat", "TRAMONTANE_STREAM_HEARTBEAT");
        let heartbeat = self.time(heartbeat, &args.stream_heartbeat)?;
        Ok(Limits {
            body: body.map_or(16 << 20, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            prompt: prompt.unwrap_or(4 << 20),
            predict,
            time,
            heartbeat,
        })
    }

    fn time(&mut self, setting: Setting, value: &Option<String>) -> Result<Option<Duration>> {
        let Some(text) = clean(value.as_deref()) else { return Ok(None) };
        match duration(&text) {
            Some(KeepAlive::For(time)) if !time.is_zero() => Ok(Some(time)),
            _ => self.refuse(setting, &text, "is no duration; write 90s or 5m"),
        }
    }

    fn tokens(&mut self, setting: Setting, value: &Option<String>) -> Result<Option<usize>> {
        let Some(text) = clean(value.as_deref()) else { return Ok(None) };
        match text.parse() {
            Ok(0) | Err(_) => self.refuse(setting, &text, "is no number of tokens"),
            Ok(tokens) => Ok(Some(tokens)),
        }
    }

    /// Those of settings that have no effect here, or are read elsewhere; and all others.
    fn last_warnings(&mut self) -> Result<Vec<String>> {
        let args = self.args;
        self.ollamas_switch(
            Setting("flash_attention", "OLLAMA_FLASH_ATTENTION"),
            &args.flash_attention,
        )?;
        if clean(args.debug.as_deref()).as_deref() != Some("2") {
            self.ollamas_switch(Setting("debug", "OLLAMA_DEBUG"), &args.debug)?;
        }
        Ok(std::mem::take(&mut self.warnings))
    }
}

/// A duration of Go, or seconds.
fn duration(text: &str) -> Option<KeepAlive> {
    match text.parse::<i64>() {
        Ok(seconds) => KeepAlive::from_json(&seconds.into()).ok(),
        Err(_) => KeepAlive::from_text(text).ok(),
    }
}

/// A path without quotes and blanks around it, and with a home folder for `~`; none if
/// it is empty.
fn cleaned_path(path: &Path) -> Option<PathBuf> {
    let Some(text) = path.to_str() else { return Some(path.to_owned()) };
    let text = clean(Some(text))?;
    match text.strip_prefix("~/") {
        Some(rest) => Some(std::env::home_dir()?.join(rest)),
        None => Some(text.into()),
    }
}
