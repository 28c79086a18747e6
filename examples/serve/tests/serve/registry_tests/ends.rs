//! Pulls of the same blob at the same time, and pulls that are given up.

use std::collections::HashMap;

use super::mock::{Ask, Mock, What, World, slow};
use super::*;

/// The weights take 0.2 s at least.
fn slowly(ask: &Ask, world: &World) -> Option<axum::response::Response> {
    let body = || slow(world.wanted(ask), Duration::from_millis(25));
    matches!(ask.what, What::Blob(0 | 4)).then(|| world.part(ask, body()))
}

/// How often each byte of a blob was asked for.
fn asked_for(asked: &[Ask], blob: usize, size: usize) -> Vec<usize> {
    let mut times = vec![0; size];
    for ask in asked.iter().filter(|ask| ask.what == What::Blob(blob)) {
        let (first, last) = ask.range.unwrap();
        let bytes = usize::try_from(first).unwrap()..=usize::try_from(last).unwrap();
        times[bytes].iter_mut().for_each(|n| *n += 1);
    }
    times
}

/// Two models of the same weights.
async fn overlapping() -> Mock {
    let first = Model::new(1, 200_000);
    let mut blobs = first.blobs.clone();
    blobs[2] = b"{}".to_vec();
    Mock::start(vec![("a", first), ("b", Model::of(blobs))], slowly).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_at_the_same_time_share_a_download() {
    let mock = overlapping().await;
    let (store, _folder) = store();
    let registry = registry();
    let pulls: Vec<_> = (0..6)
        .map(|n| {
            let (registry, store, name) = (registry.clone(), store.clone(), mock.name(n % 2));
            tokio::spawn(async move { pull(&registry, &store, &name).await })
        })
        .collect();
    for pull in pulls {
        let (ended, told) = pull.await.unwrap();
        ended.unwrap();
        let weights = mock.model(0).digest(0).to_string();
        let last = told.iter().rfind(|told| told.digest.as_ref() == Some(&weights)).unwrap();
        assert_eq!((last.completed, last.total), (200_000, 200_000));
    }
    let times = asked_for(&mock.take_asked(), 0, 200_000);
    assert!(times.iter().all(|&n| n == 1), "{:?}", times.iter().max());
    mock.model(0).assert_in(&store, &mock.name(0));
    mock.model(1).assert_in(&store, &mock.name(1));
    assert_clean(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_waits_goes_on_when_the_first_leaves() {
    let mock = overlapping().await;
    let (store, _folder) = store();
    let registry = registry();
    let first = {
        let (registry, store, name) = (registry.clone(), store.clone(), mock.name(0));
        tokio::spawn(async move { pull(&registry, &store, &name).await })
    };
    tokio::time::sleep(Duration::from_millis(60)).await;
    let second = {
        let (registry, store, name) = (registry.clone(), store.clone(), mock.name(1));
        tokio::spawn(async move { pull(&registry, &store, &name).await })
    };
    tokio::time::sleep(Duration::from_millis(60)).await;
    first.abort();
    second.await.unwrap().0.unwrap();
    mock.model(1).assert_in(&store, &mock.name(1));
    assert!(store.find(&mock.name(0)).unwrap().is_none());
    assert_clean(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pull_that_is_given_up_goes_on_later() {
    let mock = overlapping().await;
    let (store, _folder) = store();
    let registry = registry();
    let (digest, name) = (mock.model(0).digest(0), mock.name(0));
    let mut before: HashMap<u64, u64> = HashMap::new();
    let mut given_up = 0;
    loop {
        let pull = registry.pull(&store, &name, true, |_| ());
        let ended = tokio::time::timeout(Duration::from_millis(150), pull).await;
        // What is being written is written.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for ask in mock.take_asked().iter().filter(|ask| ask.what == What::Blob(0)) {
            let (first, last) = ask.range.unwrap();
            let there = before.iter().find(|(offset, _)| (**offset..=last).contains(&first));
            assert!(before.is_empty() || there.is_some_and(|(_, done)| first >= *done), "{ask:?}");
        }
        match ended {
            Ok(ended) => break ended.unwrap(),
            Err(_) => given_up += 1,
        }
        assert!(given_up < 50, "it does not go on");
        assert_clean(&store);
        if store.blob(&digest).is_some() {
            // It only had to be written into the list of models.
            continue;
        }
        let now: HashMap<u64, u64> = records(&store, &digest)
            .iter()
            .map(|[_, offset, _, completed]| (*offset, offset + completed))
            .collect();
        assert!(before.iter().all(|(offset, done)| now[offset] >= *done), "it forgot something");
        before = now;
    }
    assert!(given_up >= 2, "it was never given up");
    mock.model(0).assert_in(&store, &name);
    assert_clean(&store);
}
