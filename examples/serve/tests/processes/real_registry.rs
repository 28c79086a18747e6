//! Against a real registry: Debian's `docker-registry`, a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tramontane_serve::registry::{Progress, Registry, RegistryOptions};
use tramontane_serve::store::Digest;

use crate::support::registry::{Model, assert_clean, files, name_at, options, pull, store};
use crate::{ALONE, not_run};

/// The registry; it ends when this is dropped.
struct Process {
    child: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts it on a free port; none if it is not installed.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            folder.path().join("data").display()
        );
        let path = folder.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                let needed = std::env::var("NEED_REGISTRY").is_ok_and(|v| v == "1");
                assert!(!needed, "docker-registry cannot be started: {error}");
                return None;
            }
        };
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = said.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        });
        // It would stop if nobody took what it says.
        std::thread::spawn(move || said.for_each(drop));
        Some(Process { child, host: host.expect("an address"), _folder: folder })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_pushed_is_pulled() {
    let _alone = ALONE.lock().await;
    let Some(process) = Process::start() else {
        not_run("push and pull with a real registry (apt-get install docker-registry)");
        return;
    };
    let (store, _folder) = store();
    // Several requests of an upload, an empty blob, a blob twice.
    let mut model = Model::new(5, 300_000);
    model.blobs.insert(2, Vec::new());
    model = Model::of(model.blobs);
    let again = model.manifest["layers"][1].clone();
    model.manifest["layers"].as_array_mut().unwrap().push(again);
    let name = name_at(&process.host, "pushed");
    model.blobs.insert(4, model.blobs[1].clone());
    model.install(&store, &name);
    // Of a server that has little to do: no second between two parts.
    let patient = RegistryOptions { idle: Duration::from_secs(20), ..options() };
    let registry = Registry::new(patient).unwrap();

    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push(progress);
    registry.push(&store, &name, true, tell).await.unwrap();
    let told = told.into_inner().unwrap();
    let mut steps: Vec<&str> = told.iter().map(|told| told.status.as_str()).collect();
    steps.dedup();
    let blobs: Vec<String> = model.blobs.iter().map(|b| Digest::of(b).hex()[..12].into()).collect();
    let pushing: Vec<String> = blobs.iter().map(|hex| format!("pushing {hex}")).collect();
    let mut wanted = vec!["retrieving manifest"];
    wanted.extend(pushing.iter().map(String::as_str));
    wanted.extend(["pushing manifest", "success"]);
    assert_eq!(steps, wanted);
    assert!(told.iter().all(|told| told.completed <= told.total));

    // Again: everything is there already.
    registry.push(&store, &name, true, |_| ()).await.unwrap();

    store.delete(&name).unwrap();
    assert_eq!(files(&store.root().join("blobs")), Vec::<String>::new());
    let (ended, told) = pull(&registry, &store, &name).await;
    ended.unwrap();
    assert_eq!(told.last().unwrap().status, "success");
    model.assert_in(&store, &name);
    assert_clean(&store);

    // What is not there.
    let missing = name_at(&process.host, "missing");
    let (ended, _) = pull(&registry, &store, &missing).await;
    assert_eq!(ended.unwrap_err().to_string(), "pull model manifest: file does not exist");
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress: Progress| told.lock().unwrap().push(progress.status);
    registry.push(&store, &missing, true, tell).await.unwrap_err();
    assert_eq!(told.into_inner().unwrap(), ["retrieving manifest", "couldn't retrieve manifest"]);

    // The registry's own eyes: bytes that are not what the manifest says are not taken.
    let path = store.blob(&model.digest(0)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[7] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let second = name_at(&process.host, "damaged");
    store.copy(&name, &second).unwrap();
    let error = registry.push(&store, &second, true, |_| ()).await.unwrap_err().to_string();
    assert!(error.starts_with("upload: 400"), "{error}");
}
