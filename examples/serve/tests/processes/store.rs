//! Several processes on one store: some are killed, some find the disk full.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use tramontane_serve::store::{Digest, Store, StoreError};

use crate::support::random::Random;
use crate::support::store::{add, assert_clean, blobs, manifest, name};
use crate::{ALONE, not_run};

const WORKER: &str = "TRAMONTANE_TEST_STORE_WORKER";

/// Not a test of its own: what the children of the tests below do until they are killed.
#[test]
fn worker() {
    let Ok(settings) = std::env::var(WORKER) else { return };
    let (folder, seed) = settings.split_once('|').unwrap();
    let store = Store::open(Path::new(folder), false).unwrap();
    let mut random = Random(seed.parse().unwrap());
    loop {
        let number = random.below(6);
        let model = name(&format!("changing-{number}"));
        match random.below(10) {
            0 | 1 => drop(store.delete(&model)),
            2 => drop(store.prune(Duration::ZERO)),
            3 => drop(store.copy(&model, &name(&format!("changing-{}", random.below(6))))),
            _ => {
                // Some layers are shared by several models.
                let shared = vec![number as u8 % 3; 40_000];
                let own = random.next().to_le_bytes().repeat(2_000);
                let wanted = [Digest::of(&shared), Digest::of(&own), Digest::of(b"{}")];
                let Ok(_pin) = store.pin(&wanted) else { continue };
                let bytes = manifest(&store, b"{}", &[&shared, &own]);
                if let Ok(Some(old)) = store.write_manifest(&model, &bytes) {
                    let layers: Vec<_> = old.manifest.layers.iter().map(|l| l.digest).collect();
                    store.release(&layers);
                }
            }
        }
    }
}

fn start_worker(folder: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::worker", "--nocapture"])
        .env(WORKER, format!("{}|{seed}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// kill -9 at random moments; after each the store is whole, and what was there before
/// is there, byte for byte.
#[test]
fn a_process_may_die_at_any_moment() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "steady", &[b"weights that nobody touches"]);
    let steady = store.find(&name("steady")).unwrap().unwrap();
    let mut random = Random(17);
    let mut seen = BTreeMap::new();
    for round in 0..200 {
        let mut child = start_worker(folder.path(), round);
        std::thread::sleep(Duration::from_micros(4_000 + random.below(40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let fresh = Store::open(folder.path(), false).unwrap();
        assert_clean(&fresh);
        let entry = fresh.find(&name("steady")).unwrap().unwrap();
        assert_eq!((entry.digest, &entry.manifest), (steady.digest, &steady.manifest));
        *seen.entry(fresh.list().unwrap().len()).or_insert(0) += 1;
    }
    assert!(seen.len() > 2, "the children did hardly anything: {seen:?}");
    // What the dead left behind goes.
    store.prune(Duration::ZERO).unwrap();
    assert_clean(&store);
    assert!(blobs(&store).iter().all(|name| name.parse::<Digest>().is_ok()), "{:?}", blobs(&store));
}

/// Several processes on one store, one of them killed now and then.
#[test]
fn processes_share_a_store() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "steady", &[b"weights that nobody touches"]);
    let mut children: Vec<Child> = (0..3).map(|n| start_worker(folder.path(), 900 + n)).collect();
    let end = Instant::now() + Duration::from_secs(3);
    let mut round = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        round += 1;
        if round % 10 == 0 {
            let mut child = children.remove(0);
            child.kill().unwrap();
            child.wait().unwrap();
            children.push(start_worker(folder.path(), 1000 + round));
        }
        assert!(store.find(&name("steady")).unwrap().is_some());
    }
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_clean(&Store::open(folder.path(), false).unwrap());
}

/// A disk that fills up: a clear error, nothing half done, and it goes on when there is
/// room again.
#[test]
fn a_full_disk_breaks_nothing() {
    if std::env::var(WORKER).is_ok() {
        return;
    }
    const INSIDE: &str = "TRAMONTANE_TEST_FULL_DISK";
    if let Ok(folder) = std::env::var(INSIDE) {
        return fill(Path::new(&folder));
    }
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none {0} && exec {1} --exact store::a_full_disk_breaks_nothing",
        folder.path().display(),
        exe.display()
    );
    let ran = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .env(INSIDE, folder.path())
        .output();
    match ran {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let inside = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(!inside.contains("running 1 test"), "{inside}{said}");
            not_run(&format!("a store on a full disk ({})", said.trim()));
        }
        Err(error) => not_run(&format!("a store on a full disk (unshare: {error})")),
    }
}

fn fill(folder: &Path) {
    let store = Store::open(&folder.join("models"), false).unwrap();
    add(&store, "steady", &[&vec![1; 500_000]]);
    let mut random = Random(5);
    let mut full = 0;
    for round in 0..60u64 {
        let ballast = folder.join("ballast");
        // So much is left that it ends at all places: in a blob, a manifest, a folder.
        let free = 1_600_000 - random.below(300_000);
        let _ = fs::write(&ballast, vec![0; free as usize]);
        let written = (|| -> Result<(), StoreError> {
            let mut blob = store.begin_blob()?;
            let bytes = round.to_le_bytes().repeat(20_000);
            blob.write_all(&bytes)
                .map_err(|source| StoreError::Io { path: "blob".into(), source })?;
            let (digest, size) = blob.finish(None, None)?;
            let layer = json!({"digest": digest, "size": size});
            let bytes = json!({"config": layer, "layers": []}).to_string();
            store.write_manifest(&name(&format!("m{round}")), bytes.as_bytes()).map(drop)
        })();
        if let Err(error) = written {
            assert!(error.to_string().contains("no space left"), "{error}");
            full += 1;
        }
        assert_clean(&store);
        fs::remove_file(&ballast).unwrap();
        assert!(store.find(&name("steady")).unwrap().is_some());
        let _ = store.delete(&name(&format!("m{round}")));
        store.prune(Duration::ZERO).unwrap();
    }
    assert!((5..60).contains(&full), "{full} of 60 times the disk was full");
    add(&store, "after", &[b"room again"]);
    assert_clean(&store);
}
