//! The proxies that the environment names, used as Go's programs use them: for
//! everybody else, never for this machine.

use std::process::Command;

use crate::support::registry::mock::{Mock, honest};

use tramontane_serve::name::ModelName;

use crate::ALONE;
use crate::support::registry::{Model, name_at, pull, registry, store};

const NAME: &str = "TRAMONTANE_TEST_PROXY_NAME";

/// Has an environment of its own.
#[tokio::test]
#[ignore = "the test below starts it as a process of its own"]
async fn child() {
    let name = ModelName::parse(&std::env::var(NAME).expect("a name")).unwrap();
    let (store, _folder) = store();
    pull(&registry(), &store, &name).await.0.unwrap();
    assert!(store.find(&name).unwrap().is_some());
}

/// Pulls `host/library/new` with this environment; whether that went well.
async fn pulls(host: &str, variables: &[(&str, &str)]) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "proxies::child", "--ignored"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("SSL_CERT_FILE", "/dev/null").env(NAME, name_at(host, "new").full());
    command.envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "{said}");
    output.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_used_for_others_only() {
    let _alone = ALONE.lock().await;
    let model = || vec![("new", Model::new(1, 20_000))];
    let (proxy, here) = (Mock::start(model(), honest).await, Mock::start(model(), honest).await);
    let address = format!("http://{}", proxy.world().host);
    // A host that does not exist: only the proxy can have answered.
    let there = "registry.invalid";
    for variable in ["HTTP_PROXY", "http_proxy"] {
        assert!(pulls(there, &[(variable, &address)]).await, "{variable}");
        assert!(!proxy.take_asked().is_empty());
    }
    assert!(!pulls(there, &[]).await);
    assert!(!pulls(there, &[("HTTP_PROXY", &address), ("NO_PROXY", "invalid")]).await);
    assert!(!pulls(there, &[("HTTPS_PROXY", &address)]).await, "this is http");
    assert!(proxy.take_asked().is_empty());
    // This machine, by its number and by its name.
    assert!(pulls(&here.world().host, &[("HTTP_PROXY", &address)]).await);
    assert!(pulls(&here.world().host, &[("ALL_PROXY", &address)]).await);
    let localhost = here.world().host.replace("127.0.0.1", "localhost");
    assert!(pulls(&localhost, &[("HTTP_PROXY", &address)]).await);
    assert!(proxy.take_asked().is_empty());
}
