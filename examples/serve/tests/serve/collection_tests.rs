//! Random stores: whatever is in them, nothing needed is ever removed, and the garbage of
//! stores that are understood goes.
//!
//! `TRAMONTANE_TEST_STORES` says how many (300 if nobody does); 10,000 take a few minutes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use tramontane_serve::store::{Digest, Store};

use crate::support::random::Random;
use crate::support::store::name;

const HOUR: Duration = Duration::from_secs(3600);

/// One store, and what a person who made it knows about it.
struct Made {
    folder: tempfile::TempDir,
    root: PathBuf,
    random: Random,
    /// Every blob, by its content.
    blobs: HashMap<Digest, Vec<u8>>,
    /// Those that are older than the grace time.
    old: HashSet<Digest>,
    /// Manifests, damaged and misplaced ones too.
    manifests: Vec<Placed>,
    /// Names that a person could remove.
    names: Vec<(String, PathBuf)>,
    /// Something besides the manifests cannot be understood.
    odd: bool,
    moved: usize,
}

struct Placed {
    path: PathBuf,
    needed: HashSet<Digest>,
    /// It has the form and the place of a manifest.
    clean: bool,
}

impl Made {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models");
        fs::create_dir_all(root.join("blobs")).unwrap();
        fs::create_dir_all(root.join("manifests")).unwrap();
        let mut made = Made {
            folder,
            root,
            random: Random(seed * 2 + 1),
            blobs: HashMap::new(),
            old: HashSet::new(),
            manifests: Vec::new(),
            names: Vec::new(),
            odd: false,
            moved: 0,
        };
        for _ in 0..3 + made.random.below(6) {
            made.blob();
        }
        for _ in 0..made.random.below(6) {
            made.manifest();
        }
        made.litter();
        for _ in 0..made.random.below(4) {
            made.link();
        }
        made
    }

    fn below(&mut self, end: u64) -> usize {
        self.random.below(end) as usize
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    fn age(&self, path: &Path) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }

    fn blob(&mut self) {
        let bytes = self.random.next().to_le_bytes().to_vec();
        let digest = Digest::of(&bytes);
        // Very old versions wrote a colon.
        let name = if self.once_in(12) { digest.to_string() } else { digest.file_name() };
        let path = self.root.join("blobs").join(name);
        fs::write(&path, &bytes).unwrap();
        if !self.once_in(4) {
            self.age(&path);
            self.old.insert(digest);
        }
        self.blobs.insert(digest, bytes);
    }

    fn some(&mut self) -> Digest {
        let mut all: Vec<Digest> = self.blobs.keys().copied().collect();
        all.sort();
        let at = self.below(all.len() as u64);
        all[at]
    }

    /// The text of a manifest, and what it needs.
    fn text(&mut self) -> (Vec<u8>, HashSet<Digest>) {
        let chosen: Vec<Digest> = (0..1 + self.below(3)).map(|_| self.some()).collect();
        let config = self.some();
        let layer = |digest: &Digest| json!({"mediaType": "x", "digest": digest, "size": 8});
        let layers: Vec<Value> = chosen.iter().map(layer).collect();
        let mut needed: HashSet<Digest> = chosen.iter().copied().chain([config]).collect();
        let text = match self.random.below(8) {
            0 => {
                needed = HashSet::from([config]);
                json!({"schemaVersion": null, "mediaType": null, "config": layer(&config), "layers": null})
            }
            // A field of tomorrow, and the spelling that Go takes too.
            1 => json!({"config": layer(&config), "layers": [], "drafts": layers}),
            2 => json!({"config": layer(&config), "Layers": layers}),
            // A model of many files.
            3 => {
                json!({"config": layer(&config), "layers": layers.iter().cycle().take(300).collect::<Vec<_>>()})
            }
            _ => json!({"schemaVersion": 2, "config": layer(&config), "layers": layers}),
        };
        (text.to_string().into_bytes(), needed)
    }

    fn manifest(&mut self) {
        let (mut bytes, needed) = self.text();
        let pick = |list: &[&str], at: usize| list[at % list.len()].to_owned();
        let (a, b) = (self.below(100), self.below(100));
        let host = pick(&["registry.ollama.ai", "hf.co", "localhost:5000"], a);
        let space = pick(&["library", "me"], b);
        let model = pick(&["tiny", "Mistral", "phi3", "a.b"], self.below(4));
        let tag = pick(&["latest", "7b", "Q4_K_M"], self.below(3));
        let mut place = PathBuf::from(&host).join(&space).join(&model);
        let mut clean = true;
        match self.random.below(30) {
            0 => place.push("latest (1)"),
            1 => place.push(".latest.Xa82Fq"),
            2 => place.push(OsString::from_vec(b"caf\xe9".to_vec())),
            3 => place.push("latest/blob"),
            4 => place = PathBuf::from(&host).join("stray"),
            5 => place = PathBuf::from("-odd").join(&space).join(&model).join(&tag),
            _ => place.push(&tag),
        }
        if !place.ends_with(&tag) || place.starts_with("-odd") {
            clean = false;
        }
        match self.random.below(16) {
            0 => bytes.truncate(self.random.below(bytes.len() as u64) as usize),
            1 => bytes.clear(),
            2 => bytes = b"{\"manifests\": []}".to_vec(),
            3 => bytes.resize(5 << 20, b' '),
            _ => {}
        }
        if !(bytes.ends_with(b"}") && bytes.starts_with(b"{\"") && !bytes.starts_with(b"{\"m\":")) {
            clean = false;
        }
        if bytes.starts_with(b"{\"manifests") {
            clean = false;
        }
        let path = self.root.join("manifests").join(&place);
        let taken = path.exists() || fs::create_dir_all(path.parent().unwrap()).is_err();
        if taken {
            return;
        }
        fs::write(&path, bytes).unwrap();
        if place.ends_with(&tag) && !place.starts_with("-odd") {
            self.names.push((format!("{host}/{space}/{model}:{tag}"), path.clone()));
        }
        self.manifests.push(Placed { path, needed, clean });
    }

    /// What else lies around.
    fn litter(&mut self) {
        let orphan = Digest::of(b"never there").file_name();
        for name in [format!("{orphan}-partial"), ".tmp-a".into(), "sha256-77".into()] {
            let path = self.root.join("blobs").join(name);
            fs::write(&path, "x").unwrap();
            if self.once_in(2) {
                self.age(&path);
            }
        }
        fs::write(self.root.join("blobs/mine.gguf"), "x").unwrap();
        self.age(&self.root.join("blobs/mine.gguf"));
        fs::write(self.root.join("manifests/.DS_Store"), "x").unwrap();
        match self.random.below(20) {
            0 => {
                symlink("nowhere", self.root.join("manifests/lost")).unwrap();
                self.odd = true;
            }
            1 => {
                symlink(".", self.root.join("manifests/around")).unwrap();
                self.odd = true;
            }
            2 => {
                symlink("around", self.root.join("manifests/around")).unwrap();
                self.odd = true;
            }
            _ => {}
        }
    }

    /// Moves something away and leaves a link; sometimes what it leads to is gone for now.
    fn link(&mut self) {
        let mut places =
            vec![self.root.clone(), self.root.join("blobs"), self.root.join("manifests")];
        for placed in &self.manifests {
            let below = placed.path.ancestors().take_while(|place| *place != self.root);
            places.extend(below.map(Path::to_path_buf));
        }
        let (digest, manifests) = (self.some(), self.root.join("manifests"));
        places.push(self.root.join("blobs").join(digest.file_name()));
        let path = places.swap_remove(self.random.below(places.len() as u64) as usize);
        if !path.exists() || fs::symlink_metadata(&path).unwrap().is_symlink() {
            return;
        }
        // A link is as old as itself.
        if path.file_name().is_some_and(|name| *name == *digest.file_name()) {
            self.old.remove(&digest);
        }
        self.moved += 1;
        let away = self.folder.path().join(format!("away-{}", self.moved));
        fs::rename(&path, &away).unwrap();
        match self.random.below(3) {
            0 => symlink(&away, &path).unwrap(),
            1 => {
                let second = self.folder.path().join(format!("second-{}", self.moved));
                symlink(away.file_name().unwrap(), &second).unwrap();
                symlink(&second, &path).unwrap();
            }
            // As a disk that is not mounted, if it has manifests only.
            _ if path.starts_with(&manifests) => {
                symlink(self.folder.path().join("unmounted"), &path).unwrap();
                match self.manifests.iter_mut().find(|placed| placed.path == path) {
                    Some(placed) => placed.clean = false,
                    None => self.odd = true,
                }
            }
            _ => symlink(&away, &path).unwrap(),
        }
    }

    fn needed(&self) -> HashSet<Digest> {
        self.manifests.iter().flat_map(|placed| &placed.needed).copied().collect()
    }

    fn is_clean(&self) -> bool {
        !self.odd && self.manifests.iter().all(|placed| placed.clean)
    }

    /// What is there now, whatever its name.
    fn there(&self) -> HashSet<Digest> {
        let files = fs::read_dir(self.root.join("blobs")).unwrap();
        let names = files.filter_map(|file| file.unwrap().file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// What servers do. Layers that went with a model.
    fn act(&mut self, servers: &[Store; 2]) -> HashSet<Digest> {
        let mut released = HashSet::new();
        for _ in 0..1 + self.below(4) {
            let server = &servers[self.below(2)];
            match self.random.below(6) {
                0 if !self.names.is_empty() => {
                    let at = self.below(self.names.len() as u64);
                    let (text, path) = self.names[at].clone();
                    if server.delete(&name(&text)).unwrap_or(false) {
                        self.names.swap_remove(at);
                        let at = self.manifests.iter().position(|placed| placed.path == path);
                        released.extend(self.manifests.swap_remove(at.unwrap()).needed);
                    }
                }
                1 => {
                    let (bytes, mut needed) = self.text();
                    let new = name(&format!("new-{}", self.random.below(3)));
                    let path = self.root.join("manifests").join(new.parts().join("/"));
                    // Fields that nobody knows are not looked at before it is written.
                    needed.retain(|digest| server.blob(digest).is_some());
                    if let Ok(old) = server.write_manifest(&new, &bytes) {
                        self.manifests.retain(|old| old.path != path);
                        let placed = Placed { path: path.clone(), needed, clean: true };
                        self.manifests.push(placed);
                        self.names.retain(|(_, old)| *old != path);
                        self.names.push((new.full(), path));
                        let layers = old.iter().flat_map(|old| old.manifest.all());
                        let layers: Vec<Digest> = layers.map(|layer| layer.digest).collect();
                        server.release(&layers);
                        released.extend(layers);
                    }
                }
                2 => drop(server.list()),
                _ => drop(server.prune(HOUR).unwrap_or_default()),
            }
        }
        released
    }
}

/// Another server pulls while the first one collects everything, old or not.
fn pull_beside(made: &mut Made, servers: &[Store; 2]) {
    let bytes = made.random.next().to_le_bytes().to_vec();
    let digest = Digest::of(&bytes);
    let layer = json!({"digest": digest, "size": 8});
    let text = json!({"config": layer, "layers": [layer]}).to_string();
    let new = name("pulled");
    let [first, second] = servers;
    let path = made.root.join("manifests").join(new.parts().join("/"));
    let written = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| -> Option<()> {
            let _pin = second.pin(&[digest]).ok()?;
            let mut blob = second.begin_blob().ok()?;
            std::io::Write::write_all(&mut blob, &bytes).ok()?;
            blob.finish(Some(&digest), None).ok()?;
            // As old as what a program wrote that keeps the time of its source.
            let file = fs::File::options().write(true).open(second.blob_path(&digest)).ok()?;
            file.set_modified(SystemTime::now() - 2 * HOUR).ok()?;
            second.write_manifest(&new, text.as_bytes()).ok().map(drop)
        });
        for _ in 0..3 {
            drop(first.prune(HOUR));
        }
        pulling.join().unwrap()
    });
    if written.is_some() {
        made.blobs.insert(digest, bytes);
        made.old.insert(digest);
        made.manifests.push(Placed { path, needed: HashSet::from([digest]), clean: true });
    }
}

/// One store from its making to its end; how much garbage went.
fn try_store(seed: u64) -> (usize, bool) {
    let mut made = Made::new(seed);
    let servers = [(); 2].map(|()| Store::open(&made.root, false).unwrap());
    drop(servers[0].prepare());
    let mut pinned = HashSet::new();
    if made.once_in(3) {
        pinned.extend([made.some(), made.some()]);
    }
    let digests: Vec<Digest> = pinned.iter().copied().collect();
    let pin = servers[1].pin(&digests);
    if pin.is_err() {
        pinned.clear();
    }
    let released = made.act(&servers);
    if made.once_in(10) {
        pull_beside(&mut made, &servers);
    }
    let before = made.there();
    drop(servers[0].prune(HOUR));
    let there = made.there();
    let needed: HashSet<Digest> = made.needed().union(&pinned).copied().collect();
    for digest in &needed {
        let path = servers[0].blob(digest);
        let path = path.unwrap_or_else(|| panic!("store {seed}: {digest} is needed and gone"));
        assert_eq!(&fs::read(path).unwrap(), &made.blobs[digest], "store {seed}");
    }
    let clean = made.is_clean();
    if !clean {
        assert_eq!(before, there, "store {seed}: something is not understood");
    }
    for digest in &there {
        let garbage = made.old.contains(digest) && !needed.contains(digest);
        let stays = !clean || made.manifests.is_empty();
        assert!(!garbage || stays, "store {seed}: {digest} is garbage and stays");
    }
    for digest in made.blobs.keys().filter(|digest| !made.old.contains(digest)) {
        let stays = there.contains(digest) || released.contains(digest);
        assert!(stays, "store {seed}: {digest} is young and gone");
    }
    assert!(made.root.join("blobs/mine.gguf").exists(), "store {seed}");
    (made.blobs.len() - there.len(), clean)
}

#[test]
fn nothing_needed_is_ever_removed() {
    let count = std::env::var("TRAMONTANE_TEST_STORES").ok();
    let count = count.map_or(300, |count| count.parse().expect("a number of stores"));
    let (mut removed, mut clean) = (0, 0);
    for seed in 0..count {
        let (gone, understood) = try_store(seed);
        removed += gone;
        clean += u64::from(understood);
    }
    eprintln!("{count} stores, {clean} of them understood, {removed} blobs of garbage removed");
    // The test itself: both kinds of stores are there.
    assert!(clean * 10 > count && clean * 10 < count * 9, "{clean} of {count} are understood");
    assert!(removed as u64 > count / 4, "{removed}");
}
