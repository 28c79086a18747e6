//! Every case of `hostile_cases`: the pull ends as it should, nothing wrong gets a final
//! name, models that were there stay, and from an honest registry it can be pulled then.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};

use super::hostile_cases::{CASES, Case, Ends};
use super::mock::{Mock, honest};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn every_lie_is_found_out() {
    assert!(CASES.len() >= 40);
    let names: HashSet<&str> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len(), "two cases of one name");
    let registry = registry();
    // Many at a time: some only wait.
    let checks = stream::iter(CASES).map(|case| {
        let check = tokio::spawn(check(case, registry.clone()));
        async move { check.await.is_err().then_some(case.name) }
    });
    let failed: Vec<&str> =
        checks.buffer_unordered(12).filter_map(std::future::ready).collect().await;
    assert_eq!(failed, Vec::<&str>::new(), "these cases failed; their reports are above");
}

async fn check(case: &'static Case, registry: Registry) {
    let case_name = case.name;
    let mock = Mock::start(vec![("new", Model::new(1, 100_000))], case.script).await;
    let (store, _folder) = store();
    let earlier = (Model::new(99, 5_000), ModelName::parse("earlier").unwrap());
    earlier.0.install(&store, &earlier.1);
    let name = mock.name(0);

    let (ended, told) = pull(&registry, &store, &name).await;
    match (case.ends, &ended) {
        (Ends::Pulled, Ok(())) => {
            mock.model(0).assert_in(&store, &name);
            assert_eq!(told.last().unwrap().status, "success", "{case_name}");
        }
        (Ends::With(text), Err(error)) => {
            let error = error.to_string();
            assert!(error.contains(text), "{case_name}: {error:?} does not say {text:?}");
            assert!(error.len() < 9_000, "{case_name}: an error of {} bytes", error.len());
            let strange = error.chars().find(|c| c.is_control());
            assert_eq!(strange, None, "{case_name}: {error:?} is not fit for a terminal");
            assert!(store.find(&name).unwrap().is_none(), "{case_name}");
            assert!(told.iter().all(|progress| progress.status != "success"), "{case_name}");
        }
        (wanted, _) => panic!("{case_name}: wanted {wanted:?}, got {ended:?}"),
    }
    assert_clean(&store);
    earlier.0.assert_in(&store, &earlier.1);
    // A token is for the registry only.
    for ask in mock.take_asked() {
        assert!(!ask.elsewhere || ask.authorization.is_none(), "{case_name}: {ask:?}");
        let known = ask.authorization.as_deref().is_none_or(|token| token == "Bearer abc");
        assert!(known, "{case_name}: {ask:?}");
    }

    mock.follow(honest);
    let (ended, _) = pull(&registry, &store, &name).await;
    ended.unwrap_or_else(|error| panic!("{case_name}: and then honestly: {error}"));
    mock.model(0).assert_in(&store, &name);
    earlier.0.assert_in(&store, &earlier.1);
    assert_clean(&store);
    let left = files(&store.root().join("blobs"));
    let left: Vec<_> = left.iter().filter(|name| name.parse::<Digest>().is_err()).collect();
    assert!(left.is_empty(), "{case_name}: {left:?} is left");
}
