//! What is refused before anybody is asked, and what nobody answers.

use super::mock::{Mock, honest};
use super::*;

async fn error(registry: &Registry, name: &str, insecure: bool) -> String {
    let (store, _folder) = store();
    let name = ModelName::parse(name).unwrap();
    let pull = registry.pull(&store, &name, insecure, |_| ());
    let ended = tokio::time::timeout(Duration::from_secs(10), pull).await.unwrap();
    assert_eq!(files(&store.root().join("blobs")), Vec::<String>::new());
    let pulled = ended.unwrap_err().to_string();
    // A push is refused for the same reasons.
    Model::new(1, 10).install(&store, &name);
    let push = registry.push(&store, &name, insecure, |_| ());
    let ended = tokio::time::timeout(Duration::from_secs(10), push).await.unwrap();
    let pushed = ended.unwrap_err().to_string();
    assert!(pushed == pulled || pushed == format!("max retries exceeded: {pulled}"), "{pushed}");
    pulled
}

#[tokio::test]
async fn addresses() {
    let registry = registry();
    assert_eq!(error(&registry, "http://127.0.0.1:1/a/b", false).await, "insecure protocol http");
    for host in ["169.254.169.254", "169.254.1.1:80", "2852039166", "0xa9fea9fe"] {
        let error = error(&registry, &format!("{host}/a/b"), true).await;
        assert!(error.contains("169.254.") && error.contains("no registry has"), "{error}");
    }
    for host in ["a:b", "a:1:2", "a:99999"] {
        let error = error(&registry, &format!("{host}/a/b"), true).await;
        assert!(error.contains(host) && error.contains("no address of a registry"), "{error}");
    }
    let error = error(&registry, "127.0.0.1:1/a/b", true).await;
    assert!(error.starts_with("127.0.0.1: ") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn https_is_the_default() {
    // Who speaks http gets no http.
    let mock = Mock::start(vec![("new", Model::new(1, 10))], honest).await;
    let name = mock.name(0).full();
    error(&registry(), &name, false).await;
    assert_eq!(mock.take_asked().len(), 0);
}

#[tokio::test]
async fn registries_that_are_not_allowed() {
    let mock = Mock::start(vec![("new", Model::new(1, 10))], honest).await;
    let other = Mock::start(vec![("new", Model::new(1, 10))], honest).await;
    let allow = Some(vec!["hf.co".to_owned(), mock.world().host.clone()]);
    let allowed = Registry::new(RegistryOptions { allow, ..options() }).unwrap();
    let (store, _folder) = store();
    pull(&allowed, &store, &mock.name(0)).await.0.unwrap();
    for name in [&other.name(0).full(), "new", "hf.co.evil.example/a/b", "evil.example/hf/b"] {
        let error = error(&allowed, name, true).await;
        assert!(error.contains("is not allowed here"), "{error}");
    }
    assert_eq!(other.take_asked().len(), 0);
    let nobody = RegistryOptions { allow: Some(Vec::new()), ..options() };
    let error = error(&Registry::new(nobody).unwrap(), &mock.name(0).full(), true).await;
    assert!(error.contains("is not allowed here"), "{error}");
}
