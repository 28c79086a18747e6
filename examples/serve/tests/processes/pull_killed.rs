//! Processes that pull and are killed at any moment.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::registry::mock::{Ask, Mock, What, World, slow};

use tramontane_serve::name::ModelName;
use tramontane_serve::registry::{Registry, RegistryOptions};
use tramontane_serve::store::{Digest, Store};

use crate::ALONE;
use crate::support::registry::{Model, Random, assert_clean, files, options, records, store};

const KILLS: usize = 200;
const WEIGHTS: usize = 160_000;
/// Where the child finds the store, and which model to pull.
const STORE: &str = "TRAMONTANE_TEST_PULL_STORE";
const NAME: &str = "TRAMONTANE_TEST_PULL_NAME";

/// A process of its own: it pulls one model and ends.
#[tokio::test]
#[ignore = "the tests below start it as a process of its own"]
async fn child() {
    let root = std::env::var_os(STORE).expect("a store");
    let store = Store::open(Path::new(&root), false).unwrap();
    let name = ModelName::parse(&std::env::var(NAME).expect("a name")).unwrap();
    let patient = RegistryOptions { idle: Duration::from_secs(20), ..options() };
    let registry = Registry::new(patient).unwrap();
    registry.pull(&store, &name, true, |_| ()).await.unwrap();
}

fn start(store: &Store, name: &ModelName) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull_killed::child", "--ignored", "--test-threads=1"])
        .env(STORE, store.root())
        .env(NAME, name.full())
        // No certificates to read: it starts sooner.
        .env("SSL_CERT_FILE", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a child ends by itself; panics if it does not, or if the pull failed.
async fn ends_well(mut child: Child) {
    let begun = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "the pull failed"),
            None => assert!(begun.elapsed() < Duration::from_secs(20), "it does not end"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A registry that is slow enough to be in the middle of something.
fn slowly(ask: &Ask, world: &World) -> Option<axum::response::Response> {
    let body = || slow(world.wanted(ask), Duration::from_millis(3));
    matches!(ask.what, What::Blob(_)).then(|| world.part(ask, body()))
}

/// What is on the disk of a download: where each part ends, and up to where it is there.
fn on_disk(store: &Store, digest: &Digest) -> Vec<(u64, u64)> {
    if !store.root().join("blobs").join(format!("{}-partial", digest.file_name())).exists() {
        return Vec::new();
    }
    let records = records(store, digest).into_iter();
    records.map(|[_, offset, size, completed]| (offset + size, offset + completed)).collect()
}

/// Panics if something was asked for that was there.
fn assert_not_asked_again(asked: &[Ask], there: &HashMap<usize, Vec<(u64, u64)>>) {
    for ask in asked {
        let What::Blob(n) = ask.what else { continue };
        let (first, _) = ask.range.unwrap();
        let part = there.get(&n).and_then(|parts| parts.iter().find(|(end, _)| first < *end));
        assert!(part.is_none_or(|(_, done)| first >= *done), "{ask:?} though there is {part:?}");
    }
}

/// A store in which a pull is killed, again and again.
struct Victim {
    mock: Mock,
    store: Store,
    _folder: tempfile::TempDir,
    earlier: (Model, ModelName),
    /// What was there of each blob after the last kill.
    there: HashMap<usize, Vec<(u64, u64)>>,
    kills: usize,
    /// Kills after which a part of the weights was there.
    resumed: usize,
    /// Pulls that ended before they were killed.
    faster: usize,
}

impl Victim {
    async fn new() -> Self {
        let mock = Mock::start(vec![("new", Model::new(1, WEIGHTS))], slowly).await;
        let (store, _folder) = store();
        let earlier = (Model::new(99, 5_000), ModelName::parse("earlier").unwrap());
        earlier.0.install(&store, &earlier.1);
        let there = HashMap::new();
        Victim { mock, store, _folder, earlier, there, kills: 0, resumed: 0, faster: 0 }
    }

    /// Everything is as it was, or as it should become.
    fn assert_whole(&self) {
        assert_clean(&self.store);
        self.earlier.0.assert_in(&self.store, &self.earlier.1);
        // Requests of those who were killed may come late.
        let name = self.name();
        let ours = |ask: &Ask| ask.namespace == name.namespace();
        let asked: Vec<Ask> = self.mock.take_asked().into_iter().filter(ours).collect();
        assert_not_asked_again(&asked, &self.there);
    }

    /// Of the model, in this round.
    fn name(&self) -> ModelName {
        let round = self.kills + self.faster;
        let name = format!("{}/round{round}/new", self.mock.world().host);
        ModelName::parse(&name).unwrap()
    }

    async fn pull_and_kill_after(&mut self, moment: Duration) {
        let (model, name) = (self.mock.model(0), self.name());
        let mut child = start(&self.store, &name);
        tokio::time::sleep(moment).await;
        let by_itself = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.assert_whole();
        match by_itself {
            Some(status) => assert!(status.success(), "the pull failed"),
            None => self.kills += 1,
        }
        self.faster += usize::from(by_itself.is_some());
        self.there.clear();
        if self.store.find(&name).unwrap().is_some() {
            model.assert_in(&self.store, &name);
            self.store.delete(&name).unwrap();
            return;
        }
        assert!(by_itself.is_none(), "it ended well, and there is no model");
        for n in 0..model.blobs.len() {
            let whole = self.store.blob(&model.digest(n)).map(|_| vec![(u64::MAX, u64::MAX)]);
            let there = whole.unwrap_or_else(|| on_disk(&self.store, &model.digest(n)));
            self.there.insert(n, there);
        }
        self.resumed += usize::from(self.there[&0].iter().any(|(_, done)| *done > 0));
    }

    /// And at the end it can be pulled, and nothing is left of those who were killed.
    async fn pull_at_last(&self) {
        let (model, name) = (self.mock.model(0), self.name());
        ends_well(start(&self.store, &name)).await;
        self.assert_whole();
        model.assert_in(&self.store, &name);
        self.store.prune(Duration::ZERO).unwrap();
        model.assert_in(&self.store, &name);
        let left = files(&self.store.root().join("blobs"));
        let left: Vec<_> = left.iter().filter(|name| name.parse::<Digest>().is_err()).collect();
        assert_eq!(left, Vec::<&String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_moment() {
    let _alone = ALONE.lock().await;
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}");
    // Each waits for the disk most of the time.
    let victims = (1..=4).map(|n| {
        tokio::spawn(async move {
            let mut random = Random(seed.wrapping_mul(n) | 1);
            let mut victim = Victim::new().await;
            // It becomes as long as a pull takes here, while others do the same.
            let mut whole = Duration::from_millis(250);
            while victim.kills < KILLS / 4 {
                let faster = victim.faster;
                victim
                    .pull_and_kill_after(whole.mul_f64(random.next() as f64 / u64::MAX as f64))
                    .await;
                // About one of three comes to its end.
                whole = whole.mul_f64(if victim.faster > faster { 0.9 } else { 1.05 });
            }
            victim.pull_at_last().await;
            victim
        })
    });
    let victims = futures_util::future::join_all(victims.collect::<Vec<_>>()).await;
    let victims: Vec<Victim> = victims.into_iter().map(Result::unwrap).collect();
    let sum = |count: fn(&Victim) -> usize| victims.iter().map(count).sum::<usize>();
    let (kills, resumed, faster) = (sum(|v| v.kills), sum(|v| v.resumed), sum(|v| v.faster));
    eprintln!("{kills} kills, {resumed} of them in a download; {faster} pulls were faster");
    assert!(kills >= KILLS && resumed >= KILLS / 5);
}

/// Two models of the same weights, and other small blobs.
async fn overlapping() -> Mock {
    let first = Model::new(1, WEIGHTS);
    let mut blobs = first.blobs.clone();
    blobs[2] = b"{}".to_vec();
    Mock::start(vec![("a", first), ("b", Model::of(blobs))], slowly).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_at_the_same_time() {
    let _alone = ALONE.lock().await;
    let mock = overlapping().await;
    for round in 0..4 {
        let (store, _folder) = store();
        let children = [0, 1].map(|n| start(&store, &mock.name(n)));
        for child in children {
            ends_well(child).await;
        }
        for n in [0, 1] {
            mock.model(n).assert_in(&store, &mock.name(n));
        }
        assert_clean(&store);
        // Nobody fetched what the other fetched.
        let asked = mock.take_asked();
        let weights = asked.iter().filter(|ask| ask.what == What::Blob(0));
        let bytes: u64 = weights.filter_map(|ask| ask.range).map(|(a, b)| b - a + 1).sum();
        assert_eq!(bytes, WEIGHTS as u64, "round {round}");
        let left = files(&store.root().join("blobs"));
        assert!(left.iter().all(|name| name.parse::<Digest>().is_ok()), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_processes_is_killed() {
    let _alone = ALONE.lock().await;
    let mock = overlapping().await;
    for round in 0..4u64 {
        let (store, _folder) = store();
        let mut first = start(&store, &mock.name(0));
        let second = start(&store, &mock.name(1));
        tokio::time::sleep(Duration::from_millis(40 + 25 * round)).await;
        first.kill().unwrap();
        first.wait().unwrap();
        ends_well(second).await;
        mock.model(1).assert_in(&store, &mock.name(1));
        assert_clean(&store);
        ends_well(start(&store, &mock.name(0))).await;
        mock.model(0).assert_in(&store, &mock.name(0));
        assert_clean(&store);
    }
}
