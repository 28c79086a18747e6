//! What a pull and a push tell, in which order.

use serde_json::json;

use super::mock::{Mock, honest, slow};
use super::*;

/// The status of each, one after the other, each once.
fn steps(told: &[Progress]) -> Vec<String> {
    let mut steps: Vec<String> = told.iter().map(|progress| progress.status.clone()).collect();
    steps.dedup();
    steps
}

fn pulling(model: &Model, n: usize) -> String {
    format!("pulling {}", &model.digest(n).hex()[..12])
}

fn expected(model: &Model, end: &[&str]) -> Vec<String> {
    let blobs = (0..model.blobs.len()).map(|n| pulling(model, n));
    let end = end.iter().map(|text| (*text).to_owned());
    ["pulling manifest".to_owned()].into_iter().chain(blobs).chain(end).collect()
}

const END: [&str; 3] = ["verifying sha256 digest", "writing manifest", "success"];

#[tokio::test]
async fn of_a_new_model() {
    let script = |ask: &mock::Ask, world: &mock::World| match ask.what {
        mock::What::Blob(0) => {
            Some(world.part(ask, slow(world.wanted(ask), Duration::from_millis(40))))
        }
        _ => None,
    };
    let mock = Mock::start(vec![("new", Model::new(1, 200_000))], script).await;
    let (store, _folder) = store();
    let (ended, told) = pull(&registry(), &store, &mock.name(0)).await;
    ended.unwrap();
    let model = mock.model(0);
    assert_eq!(steps(&told), expected(model, &END));
    for n in 0..model.blobs.len() {
        let (digest, size) = (model.digest(n).to_string(), model.blobs[n].len() as u64);
        let of_blob: Vec<&Progress> =
            told.iter().filter(|told| told.digest.as_ref() == Some(&digest)).collect();
        assert!(of_blob.iter().all(|told| told.total == size && told.status == pulling(model, n)));
        assert!(of_blob.is_sorted_by_key(|told| told.completed));
        assert_eq!((of_blob[0].completed, of_blob.last().unwrap().completed), (0, size));
        // 200 kB at 400 kB a second, told every 60 ms.
        assert!(n != 0 || (5..=40).contains(&of_blob.len()), "{}", of_blob.len());
    }
}

#[tokio::test]
async fn of_what_is_there_and_what_is_replaced() {
    let (first, second) = (Model::new(1, 20_000), Model::new(2, 20_000));
    let mock = Mock::start(vec![("a", first), ("b", second)], honest).await;
    let (store, _folder) = store();
    mock.model(0).install(&store, &mock.name(0));
    let (ended, told) = pull(&registry(), &store, &mock.name(0)).await;
    ended.unwrap();
    // One line for each blob that is there, and nothing asked for.
    let model = mock.model(0);
    assert_eq!(told.len(), 1 + model.blobs.len() + END.len());
    assert_eq!(steps(&told), expected(model, &END));
    let sizes = model.blobs.iter().map(|blob| blob.len() as u64);
    for (told, size) in told[1..].iter().zip(sizes) {
        assert_eq!((told.total, told.completed), (size, size));
    }
    assert_eq!(mock.take_asked().len(), 1);

    // Another model of this name: what only the old one needed goes.
    mock.model(0).install(&store, &mock.name(1));
    store.delete(&mock.name(0)).unwrap();
    let (ended, told) = pull(&registry(), &store, &mock.name(1)).await;
    ended.unwrap();
    let end = ["verifying sha256 digest", "writing manifest", "removing unused layers", "success"];
    assert_eq!(steps(&told), expected(mock.model(1), &end));
    mock.model(1).assert_in(&store, &mock.name(1));
    assert!(store.blob(&mock.model(0).digest(0)).is_none());
    assert!(store.blob(&mock.model(0).digest(1)).is_some(), "both have this one");
}

#[test]
fn as_json() {
    let told = |completed| {
        let digest = Some("sha256:0".to_owned());
        let told = Progress { status: "pulling 0".to_owned(), digest, total: 7, completed };
        serde_json::to_value(told).unwrap()
    };
    assert_eq!(told(0), json!({"status": "pulling 0", "digest": "sha256:0", "total": 7}));
    assert_eq!(
        told(3),
        json!({"status": "pulling 0", "digest": "sha256:0", "total": 7, "completed": 3})
    );
    let status = Progress { status: "success".into(), digest: None, total: 0, completed: 0 };
    assert_eq!(serde_json::to_value(status).unwrap(), json!({"status": "success"}));
}
