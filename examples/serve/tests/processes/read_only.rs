//! A store that the server may only read: another user's, or on a read-only mount.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tramontane_serve::store::{Digest, Store};

use crate::command::{Running, of_binary};
use crate::support::store::{manifest, name, put};
use crate::{ALONE, not_run};

/// A store as Ollama leaves it: manifests and blobs, nothing else.
fn ollamas(folder: &Path) {
    let store = Store::open(folder, false).unwrap();
    let bytes = manifest(&store, b"{}", &[tramontane_serve::builtin::BYTES]);
    store.write_manifest(&name("tiny"), &bytes).unwrap();
    put(&store, b"orphan");
    fs::remove_file(folder.join(".lock")).unwrap();
    fs::remove_dir(folder.join(".pins")).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for blob in fs::read_dir(folder.join("blobs")).unwrap() {
        fs::File::open(blob.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
}

/// A way to start a program so that it may only read the store.
struct Way {
    name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
}

fn ways(store: &Path) -> [Way; 2] {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let store = store.display();
    let script = format!(
        "mount --bind {store} {store} && mount -o remount,ro,bind {store} {store} && exec \"$0\" \"$@\""
    );
    [
        Way {
            name: "another user's store",
            program: "setpriv",
            arguments: words(&["--reuid=12345", "--regid=12345", "--clear-groups"]),
        },
        Way {
            name: "a read-only mount",
            program: "unshare",
            arguments: words(&["-rm", "sh", "-c", &script]),
        },
    ]
}

impl Way {
    fn command(&self, arguments: &[&str], store: &Path) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).arg(env!("CARGO_BIN_EXE_tramontane"));
        of_binary(command, arguments, store)
    }

    fn works(&self) -> bool {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).args([env!("CARGO_BIN_EXE_tramontane"), "--help"]);
        command.output().is_ok_and(|output| output.status.success())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn is_served_as_it_is() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = folder.path().join("models");
    fs::create_dir(&store).unwrap();
    ollamas(&store);
    for way in ways(&store) {
        if !way.works() {
            not_run(&format!("{} ({} does not work here)", way.name, way.program));
            continue;
        }
        let server = Running::start(way.command(&["serve", "--host", "127.0.0.1:0"], &store));
        let log = server.before.concat();
        assert!(log.contains("cannot be written"), "{}: {log}", way.name);
        assert!(server.ask("GET", "/api/tags", "").contains("tiny:latest"), "{}", way.name);
        let prompt = r#"{"model": "tiny", "prompt": "Once", "stream": false,
            "options": {"num_predict": 3}}"#;
        assert!(server.ask("POST", "/api/generate", prompt).contains(r#""done":true"#));
        let blob = format!("/api/blobs/{}", Digest::of(b"new"));
        for (method, path, body) in [
            ("POST", "/api/create", r#"{"model": "x", "from": "tiny", "stream": false}"#),
            ("POST", "/api/copy", r#"{"source": "tiny", "destination": "x"}"#),
            ("DELETE", "/api/delete", r#"{"model": "tiny"}"#),
            ("POST", blob.as_str(), "new"),
        ] {
            let reply = server.ask(method, path, body);
            let told = reply.contains("cannot be written")
                && (reply.contains("permission denied") || reply.contains("read-only"));
            assert!(reply.starts_with("HTTP/1.1 500") && told, "{}: {path}: {reply}", way.name);
        }
        assert!(server.terminate().1);
        let store = Store::open(&store, false).unwrap();
        assert!(store.find(&name("tiny")).unwrap().is_some());
        assert!(store.blob(&Digest::of(b"orphan")).is_some());
        let mut verify = way.command(&["verify"], store.root());
        let verified = verify.stdout(Stdio::piped()).output().unwrap();
        assert!(verified.status.success(), "{}: {}", way.name, said(&verified));
        assert!(said(&verified).contains("1 models, 2 files as they should be"));
        assert!(!store.root().join(".lock").exists(), "{}: nothing is written", way.name);
    }
}
