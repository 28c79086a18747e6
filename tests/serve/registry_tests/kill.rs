//! Processes that pull and are killed at any moment.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::mock::{Ask, Mock, What, World, slow};
use super::*;

const KILLS: usize = 100;
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
        .args(["--exact", "registry_tests::kill::child", "--ignored", "--test-threads=1"])
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
        let part = there[&n].iter().find(|(end, _)| first < *end);
        assert!(part.is_none_or(|(_, done)| first >= *done), "{ask:?} though there is {part:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let mock = Mock::start(vec![("new", Model::new(1, WEIGHTS))], slowly).await;
    let (store, _folder) = store();
    let earlier = (Model::new(99, 5_000), ModelName::parse("earlier").unwrap());
    earlier.0.install(&store, &earlier.1);
    let (model, name) = (mock.model(0).clone(), mock.name(0));

    let begun = Instant::now();
    ends_well(start(&store, &name)).await;
    let whole = begun.elapsed();
    model.assert_in(&store, &name);

    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}; a pull takes {whole:?}");
    let mut random = Random(seed | 1);
    let (mut kills, mut pulled, mut resumed) = (0, 0, 0);
    store.delete(&name).unwrap();
    let mut there: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
    mock.take_asked();
    while kills < KILLS {
        let mut child = start(&store, &name);
        // Over the whole of the pull; what was there before makes it shorter.
        let moment = whole.as_micros() as u64 / 4 + random.next() % (whole.as_micros() as u64);
        tokio::time::sleep(Duration::from_micros(moment)).await;
        let by_itself = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(status) = by_itself {
            assert!(status.success(), "the pull failed");
            pulled += 1;
        } else {
            kills += 1;
        }
        // What is under way to it is of no interest any more.
        let asked = mock.take_asked();
        if !there.is_empty() {
            assert_not_asked_again(&asked, &there);
        }
        assert_clean(&store);
        earlier.0.assert_in(&store, &earlier.1);
        if store.find(&name).unwrap().is_some() {
            model.assert_in(&store, &name);
            store.delete(&name).unwrap();
            there.clear();
            continue;
        }
        assert!(by_itself.is_none(), "it ended well, and there is no model");
        let blobs = 0..model.blobs.len();
        there = blobs.map(|n| (n, on_disk(&store, &model.digest(n)))).collect();
        for n in 0..model.blobs.len() {
            if store.blob(&model.digest(n)).is_some() {
                // All of it.
                there.insert(n, vec![(u64::MAX, u64::MAX)]);
            }
        }
        resumed += usize::from(there[&0].iter().any(|(_, done)| *done > 0));
    }
    mock.take_asked();
    let begun = Instant::now();
    ends_well(start(&store, &name)).await;
    eprintln!(
        "{kills} kills, {resumed} of them in a download, {pulled} pulls were faster; \
         the last took {:?}",
        begun.elapsed()
    );
    assert_not_asked_again(&mock.take_asked(), &there);
    assert!(resumed >= KILLS / 5, "only {resumed} kills hit a download");
    model.assert_in(&store, &name);
    earlier.0.assert_in(&store, &earlier.1);
    assert_clean(&store);
    // Temporary files of the killed go with the next collection, everything else stays.
    store.prune(Duration::ZERO).unwrap();
    model.assert_in(&store, &name);
    let left = files(&store.root().join("blobs"));
    let left: Vec<_> = left.iter().filter(|name| name.parse::<Digest>().is_err()).collect();
    assert_eq!(left, Vec::<&String>::new());
}

/// Two models of the same weights, and other small blobs.
async fn overlapping() -> Mock {
    let first = Model::new(1, WEIGHTS);
    let mut blobs = first.blobs.clone();
    blobs[2] = b"{}".to_vec();
    Mock::start(vec![("a", first), ("b", Model::of(blobs))], slowly).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_at_the_same_time() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_processes_is_killed() {
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
