//! The store: nothing half done is ever seen, nothing needed is ever removed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand_numbers::Random;
use serde_json::json;

use tramontane_serve::name::ModelName;
use tramontane_serve::store::{Digest, Store, StoreError};

/// Numbers that differ from run to run only by their seed.
pub mod rand_numbers {
    /// SplitMix64.
    pub struct Random(pub u64);

    impl Random {
        pub fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        pub fn below(&mut self, most: u64) -> u64 {
            self.next() % most
        }
    }
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn put(store: &Store, bytes: &[u8]) -> (Digest, u64) {
    let mut blob = store.begin_blob().unwrap();
    blob.write_all(bytes).unwrap();
    blob.finish(None, None).unwrap()
}

/// A manifest of blobs that are put first.
fn manifest(store: &Store, config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layer = |kind: &str, bytes: &[u8]| {
        let (digest, size) = put(store, bytes);
        json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let layers: Vec<_> =
        layers.iter().map(|bytes| layer("application/vnd.ollama.image.model", bytes)).collect();
    let config = layer("application/vnd.docker.container.image.v1+json", config);
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
        .to_string()
        .into_bytes()
}

fn add(store: &Store, model: &str, layers: &[&[u8]]) {
    let bytes = manifest(store, b"{}", layers);
    store.write_manifest(&name(model), &bytes).unwrap();
}

fn blobs(store: &Store) -> Vec<String> {
    let files = fs::read_dir(store.root().join("blobs")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_clean(store: &Store) {
    let report = store.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[test]
fn digests_are_read_in_both_forms_and_nothing_else() {
    let hex = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let digest = Digest::of(b"x");
    for text in
        [format!("sha256:{hex}"), format!("sha256-{hex}"), format!("sha256:{}", hex.to_uppercase())]
    {
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
    }
    assert_eq!(digest.to_string(), format!("sha256:{hex}"));
    assert_eq!(digest.file_name(), format!("sha256-{hex}"));
    for text in [
        "",
        "sha256:",
        hex,
        "sha256:../../etc/passwd",
        "md5:00",
        "sha256:+d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a488",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("sha256:{hex}0"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{}é", &hex[2..]),
    ]) {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}

#[test]
fn a_blob_appears_complete_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    let digest = Digest::of(b"content");
    let mut blob = store.begin_blob().unwrap();
    blob.write_all(b"cont").unwrap();
    assert!(store.blob(&digest).is_none());
    drop(blob);
    assert_eq!(blobs(&store), Vec::<String>::new());
    let mut wrong = store.begin_blob().unwrap();
    wrong.write_all(b"other").unwrap();
    let error = wrong.finish(Some(&digest), None).unwrap_err();
    let other = Digest::of(b"other");
    assert_eq!(
        error.to_string(),
        format!("digest mismatch, expected \"{digest}\", got \"{other}\"")
    );
    let mut short = store.begin_blob().unwrap();
    short.write_all(b"content").unwrap();
    assert!(matches!(short.finish(Some(&digest), Some(8)), Err(StoreError::Size { .. })));
    assert_eq!(blobs(&store), Vec::<String>::new());
    let (stored, size) = put(&store, b"content");
    assert_eq!((stored, size), (digest, 7));
    let path = store.blob(&digest).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    // Again: the file stays the same file.
    put(&store, b"content");
    assert_eq!(blobs(&store), [digest.file_name()]);
}

#[test]
fn models_are_written_found_copied_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    let bytes = manifest(&store, b"{}", &[b"weights", b"template"]);
    assert!(store.write_manifest(&name("Mistral:7B"), &bytes).unwrap().is_none());
    let path = folder.path().join("manifests/registry.ollama.ai/library/Mistral/7B");
    assert_eq!(fs::read(&path).unwrap(), bytes, "byte for byte");
    let entry = store.find(&name("mistral:7b")).unwrap().unwrap();
    assert_eq!(entry.name.short(), "Mistral:7B");
    assert_eq!(entry.digest, Digest::of(&bytes));
    assert_eq!(entry.size(), 2 + 7 + 8);
    // Another spelling replaces it.
    let newer = manifest(&store, b"{}", &[b"weights"]);
    let old = store.write_manifest(&name("MISTRAL:7b"), &newer).unwrap().unwrap();
    assert_eq!(old.digest, Digest::of(&bytes));
    assert_eq!(store.list().unwrap().len(), 1);
    store.copy(&name("mistral:7b"), &name("me/mine")).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    assert!(matches!(store.copy(&name("no"), &name("x")), Err(StoreError::NoModel(_))));
    // The other still needs the weights.
    assert!(store.delete(&name("mistral:7b")).unwrap().is_some());
    assert!(store.blob(&Digest::of(b"weights")).is_some());
    assert!(store.find(&name("mistral:7b")).unwrap().is_none());
    assert!(store.delete(&name("me/mine")).unwrap().is_some());
    assert!(store.blob(&Digest::of(b"weights")).is_none());
    assert!(store.delete(&name("me/mine")).unwrap().is_none());
    assert!(!folder.path().join("manifests/registry.ollama.ai").exists(), "empty folders go");
}

#[test]
fn a_manifest_needs_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "m", &[b"weights"]);
    let missing = json!({"schemaVersion": 2,
        "config": {"digest": Digest::of(b"gone"), "size": 4}, "layers": []});
    let refused = store.write_manifest(&name("m"), missing.to_string().as_bytes());
    assert!(matches!(refused, Err(StoreError::MissingBlob(_))));
    let size = json!({"schemaVersion": 2,
        "config": {"digest": Digest::of(b"weights"), "size": 8}, "layers": []});
    let refused = store.write_manifest(&name("m"), size.to_string().as_bytes());
    assert!(matches!(refused, Err(StoreError::Size { .. })));
    let many = format!(
        r#"{{"config":{{"digest":"{0}","size":7}},"layers":[{1}]}}"#,
        Digest::of(b"weights"),
        vec![format!(r#"{{"digest":"{}","size":7}}"#, Digest::of(b"weights")); 300].join(",")
    );
    assert!(matches!(
        store.write_manifest(&name("m"), many.as_bytes()),
        Err(StoreError::Manifest { .. })
    ));
    for bytes in [&b""[..], b"{}", b"[]", br#"{"config":{"digest":"sha256:../x","size":1}}"#] {
        assert!(matches!(
            store.write_manifest(&name("m"), bytes),
            Err(StoreError::Manifest { .. })
        ));
    }
    assert_clean(&store);
    assert_eq!(store.list().unwrap().len(), 1, "the old one stays");
}

#[test]
fn nothing_is_removed_while_a_manifest_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "good", &[b"weights"]);
    add(&store, "bad", &[b"other"]);
    put(&store, b"orphan");
    let path = folder.path().join("manifests/registry.ollama.ai/library/bad/latest");
    fs::write(&path, &fs::read(&path).unwrap()[..40]).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.prune(Duration::ZERO).unwrap(), Default::default());
    store.delete(&name("good")).unwrap();
    for bytes in [&b"weights"[..], b"other", b"orphan"] {
        assert!(store.blob(&Digest::of(bytes)).is_some());
    }
    let report = store.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 1);
    // The damaged one itself can be removed; then the rest is nobody's.
    assert!(store.delete(&name("bad")).is_err());
    assert!(!path.exists());
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 4);
    assert_eq!(blobs(&store), Vec::<String>::new());
}

#[test]
fn pruning_spares_the_young_the_needed_and_the_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "m", &[b"weights"]);
    let pinned = put(&store, b"pinned").0;
    let orphan = put(&store, b"orphan").0;
    fs::write(store.blob_path(&orphan).with_extension("partial-0"), "x").unwrap();
    fs::write(store.root().join("blobs/rubbish"), "x").unwrap();
    let pin = store.pin(&[pinned]).unwrap();
    // Another store on the same folder, as another process has it.
    let other = Store::open(folder.path(), false).unwrap();
    assert_eq!(other.prune(Duration::from_secs(60)).unwrap().files, 0, "young");
    assert_eq!(other.prune(Duration::ZERO).unwrap().files, 3);
    assert!(store.blob(&pinned).is_some());
    drop(pin);
    assert_eq!(other.prune(Duration::ZERO).unwrap().files, 1);
    assert_clean(&store);
    let kept = Store::open(folder.path(), true).unwrap();
    let spare = put(&kept, b"spare").0;
    kept.release(&[spare]).unwrap();
    assert!(kept.blob(&spare).is_some(), "unneeded blobs stay if that was asked for");
}

#[test]
fn links_and_odd_files_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("models");
    let store = Store::open(&root, false).unwrap();
    add(&store, "m", &[b"weights"]);
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let digest = Digest::of(b"secret");
    symlink(&secret, store.blob_path(&digest)).unwrap();
    assert!(store.blob(&digest).is_none());
    assert!(store.read_small(&digest, 100).is_err());
    let tags = root.join("manifests/registry.ollama.ai/library/m");
    symlink(&secret, tags.join("linked")).unwrap();
    symlink(folder.path(), root.join("manifests/registry.ollama.ai/elsewhere")).unwrap();
    fs::create_dir(tags.join("folder")).unwrap();
    fs::write(tags.join(".hidden"), "x").unwrap();
    fs::write(root.join("manifests/file"), "x").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.find(&name("m:linked")).is_err());
    store.prune(Duration::ZERO).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert!(matches!(
        store.read_small(&Digest::of(b"weights"), 3),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn a_store_of_ollamas_works_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("real");
    fs::create_dir_all(root.join("blobs")).unwrap();
    let (weights, config) = (Digest::of(b"weights"), Digest::of(b"{}"));
    fs::write(root.join("blobs").join(weights.to_string()), "weights").unwrap();
    fs::write(root.join("blobs").join(config.file_name()), "{}").unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"x","config":{{"mediaType":"y","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{weights}","size":7,"from":"z"}}],
            "annotations":{{"a":"b"}}}}"#
    );
    let tags = root.join("manifests/registry.ollama.ai/library/llama3.2");
    fs::create_dir_all(&tags).unwrap();
    fs::write(tags.join("1b"), &text).unwrap();
    // The folder itself may be a link.
    let link = folder.path().join("link");
    symlink(&root, &link).unwrap();
    let store = Store::open(&link, false).unwrap();
    let entry = store.find(&name("llama3.2:1b")).unwrap().unwrap();
    assert_eq!(entry.digest, Digest::of(text.as_bytes()));
    assert_eq!(fs::read(store.blob(&weights).unwrap()).unwrap(), b"weights");
    assert_clean(&store);
}

/// Every single flipped bit is found.
#[test]
fn verifying_finds_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    let weights: Vec<u8> = (0..20_000u32).map(|at| (at * 7) as u8).collect();
    add(&store, "m", &[&weights]);
    let path = store.blob(&Digest::of(&weights)).unwrap();
    let mut random = Random(3);
    for _ in 0..200 {
        let bit = random.below(weights.len() as u64 * 8) as usize;
        let mut damaged = weights.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, damaged).unwrap();
        assert_eq!(store.verify(&mut |_, _| {}).unwrap().problems.len(), 1);
    }
    fs::write(&path, &weights[1..]).unwrap();
    assert_eq!(store.verify(&mut |_, _| {}).unwrap().problems.len(), 1);
    fs::remove_file(&path).unwrap();
    assert_eq!(store.verify(&mut |_, _| {}).unwrap().problems.len(), 1);
}

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
                    drop(store.release(&layers));
                }
            }
        }
    }
}

fn start_worker(folder: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_tests::worker", "--nocapture"])
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
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none {0} && exec {1} --exact store_tests::a_full_disk_breaks_nothing",
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
            eprintln!("NOT RUN: a full disk ({})", said.trim());
        }
        Err(error) => eprintln!("NOT RUN: a full disk (unshare: {error})"),
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
