//! The store: nothing half done is ever seen, nothing needed is ever removed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use serde_json::json;

use tramontane_serve::store::{Digest, Store, StoreError};

use crate::support::random::Random;
use crate::support::store::{add, assert_clean, blobs, manifest, name, put};

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
    assert!(store.delete(&name("mistral:7b")).unwrap());
    assert!(store.blob(&Digest::of(b"weights")).is_some());
    assert!(store.find(&name("mistral:7b")).unwrap().is_none());
    assert!(store.delete(&name("me/mine")).unwrap());
    assert!(store.blob(&Digest::of(b"weights")).is_none());
    assert!(!store.delete(&name("me/mine")).unwrap());
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
    add(&store, "another", &[b"kept"]);
    assert!(store.delete(&name("bad")).unwrap());
    assert!(!path.exists());
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 3);
    assert_clean(&store);
    assert_eq!(blobs(&store).len(), 2);
}

/// After a power cut a manifest has no bytes: it can be removed, and replaced.
#[test]
fn an_empty_manifest_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "good", &[b"weights"]);
    let path = folder.path().join("manifests/registry.ollama.ai/library/phi3/latest");
    for bytes in [&b""[..], b"{", b"null", b"{}", b"[]"] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.find(&name("phi3")).is_err());
        assert!(store.delete(&name("phi3")).unwrap());
        assert!(!path.exists());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        add(&store, "phi3", &[b"weights"]);
        assert_eq!(store.list().unwrap().len(), 2);
        assert!(store.delete(&name("phi3")).unwrap());
    }
    assert_clean(&store);
}

/// Blobs without a manifest: it may be on a disk that is not mounted.
#[test]
fn without_a_manifest_no_blob_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "m", &[b"weights"]);
    let (manifests, away) = (folder.path().join("manifests"), folder.path().join("away"));
    fs::rename(&manifests, &away).unwrap();
    fs::create_dir(&manifests).unwrap();
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 0);
    fs::remove_dir(&manifests).unwrap();
    fs::rename(&away, &manifests).unwrap();
    assert_clean(&store);
    assert_eq!(store.list().unwrap().len(), 1);
}

/// What no manifest is, and may become one: by its path, with the way out.
#[test]
fn what_is_not_understood_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "m", &[b"weights"]);
    let orphan = put(&store, b"orphan").0;
    let host = folder.path().join("manifests/registry.ollama.ai");
    let tags = host.join("library/m");
    let place = |path: std::path::PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}").unwrap();
        path
    };
    let link = tags.join("lost");
    symlink("/nowhere/at/all", &link).unwrap();
    fs::remove_file(&link).unwrap();
    for (path, said) in [
        (place(tags.join("latest (1)")), "no model's name"),
        (place(tags.join(".latest.swp")), "no model's name"),
        (place(tags.join("damaged")), "no manifest"),
        (place(tags.join("empty")), "no manifest"),
        (place(host.join("shallow")), "only folders belong"),
        (place(tags.join("deep/er")).parent().unwrap().to_owned(), "a manifest belongs"),
    ] {
        let report = store.verify(&mut |_, _| {}).unwrap();
        let about = |line: &&String| line.starts_with(&path.display().to_string());
        let line = report.obstacles.iter().find(about).expect("named").clone();
        assert!(line.contains(said), "{line}");
        assert!(["rename", "move", "rm"].iter().any(|way| line.contains(way)), "{line}");
        assert_eq!(store.prune(Duration::ZERO).unwrap().files, 0);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
    }
    symlink("/nowhere/at/all", &link).unwrap();
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 0);
    assert!(store.verify(&mut |_, _| {}).unwrap().obstacles[0].contains("leads nowhere"));
    assert!(store.delete(&name("m:lost")).unwrap(), "the link itself can be removed");
    // What file managers leave says nothing.
    fs::write(tags.join(".DS_Store"), "x").unwrap();
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 1);
    assert!(store.blob(&orphan).is_none());
}

#[test]
fn pruning_spares_the_young_the_needed_and_the_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), false).unwrap();
    add(&store, "m", &[b"weights"]);
    let pinned = put(&store, b"pinned").0;
    let orphan = put(&store, b"orphan").0;
    fs::write(format!("{}-partial-0", store.blob_path(&orphan).display()), "x").unwrap();
    fs::write(store.root().join("blobs/.tmp-x"), "x").unwrap();
    fs::write(store.root().join("blobs/sha256-123456"), "Ollama's temporary file").unwrap();
    fs::write(store.root().join("blobs/mine.gguf"), "somebody's file").unwrap();
    let pin = store.pin(&[pinned]).unwrap();
    // Another store on the same folder, as another process has it.
    let other = Store::open(folder.path(), false).unwrap();
    assert_eq!(other.prune(Duration::from_secs(60)).unwrap().files, 0, "young");
    assert_eq!(other.prune(Duration::ZERO).unwrap().files, 4);
    assert!(store.root().join("blobs/mine.gguf").exists());
    assert!(store.blob(&pinned).is_some());
    drop(pin);
    assert_eq!(other.prune(Duration::ZERO).unwrap().files, 1);
    assert_clean(&store);
    let kept = Store::open(folder.path(), true).unwrap();
    let spare = put(&kept, b"spare").0;
    kept.release(&[spare]);
    assert!(kept.blob(&spare).is_some(), "unneeded blobs stay if that was asked for");
}

/// Moves `path` away and leaves a link to it.
fn link_away(path: &std::path::Path, away: &std::path::Path) {
    fs::rename(path, away).unwrap();
    symlink(away, path).unwrap();
}

#[test]
fn links_are_followed_at_every_level() {
    for part in [
        "",
        "blobs",
        "manifests",
        "manifests/registry.ollama.ai",
        "manifests/registry.ollama.ai/library",
        "manifests/registry.ollama.ai/library/m",
        "manifests/registry.ollama.ai/library/m/latest",
        "a blob",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models");
        let store = Store::open(&root, false).unwrap();
        add(&store, "m", &[b"weights"]);
        let path = match part {
            "a blob" => store.blob_path(&Digest::of(b"weights")),
            part => root.join(part),
        };
        link_away(&path.components().collect::<std::path::PathBuf>(), &folder.path().join("away"));
        put(&store, b"orphan");
        assert_eq!(store.list().unwrap().len(), 1, "{part}");
        assert_eq!(store.prune(Duration::ZERO).unwrap().files, 1, "{part}");
        assert_clean(&store);
        assert_eq!(store.read_small(&Digest::of(b"weights"), 100).unwrap(), b"weights");
        add(&store, "m", &[b"newer"]);
        add(&store, "other", &[b"newer"]);
        assert_eq!(store.list().unwrap().len(), 2, "{part}");
        assert!(store.delete(&name("m")).unwrap(), "{part}");
        assert_eq!(store.list().unwrap().len(), 1, "{part}");
        assert_clean(&store);
    }
}

#[test]
fn what_a_link_leads_to_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("models");
    let store = Store::open(&root, false).unwrap();
    add(&store, "m", &[b"weights"]);
    let file = folder.path().join("somebody's file");
    fs::write(&file, "orphan").unwrap();
    let orphan = Digest::of(b"orphan");
    symlink(&file, store.blob_path(&orphan)).unwrap();
    assert!(store.blob(&orphan).is_some());
    assert_eq!(store.prune(Duration::ZERO).unwrap().files, 1);
    assert!(store.blob(&orphan).is_none());
    assert_eq!(fs::read_to_string(&file).unwrap(), "orphan");
    symlink(folder.path(), root.join("manifests/registry.ollama.ai/elsewhere")).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
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
