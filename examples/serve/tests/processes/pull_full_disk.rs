//! A disk that fills up while a model comes.

use std::fs;
use std::process::Command;

use crate::support::registry::mock::{Mock, What, honest};

use tramontane_serve::name::ModelName;
use tramontane_serve::store::Store;

use crate::support::registry::{Model, assert_clean, pull, registry};
use crate::{ALONE, not_run};

const STORE: &str = "TRAMONTANE_TEST_FULL_STORE";
const NAME: &str = "TRAMONTANE_TEST_FULL_NAME";

/// Sees a small disk of its own.
#[tokio::test]
#[ignore = "the test below starts it as a process of its own"]
async fn child() {
    let folder = std::path::PathBuf::from(std::env::var_os(STORE).expect("a folder"));
    let store = Store::open(&folder.join("models"), false).unwrap();
    let earlier = (Model::new(99, 5_000), ModelName::parse("earlier").unwrap());
    earlier.0.install(&store, &earlier.1);
    let name = ModelName::parse(&std::env::var(NAME).expect("a name")).unwrap();
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 1_000_000]).unwrap();
    for _ in 0..3 {
        let (ended, told) = pull(&registry(), &store, &name).await;
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("no space left on the disk; free some"), "{error}");
        assert!(told.iter().all(|told| told.status != "success"));
        assert_clean(&store);
        earlier.0.assert_in(&store, &earlier.1);
    }
    fs::remove_file(&ballast).unwrap();
    pull(&registry(), &store, &name).await.0.unwrap();
    Model::new(1, 1_400_000).assert_in(&store, &name);
    earlier.0.assert_in(&store, &earlier.1);
    assert_clean(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_goes_on_when_there_is_room_again() {
    let _alone = ALONE.lock().await;
    let mock = Mock::start(vec![("new", Model::new(1, 1_400_000))], honest).await;
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none {} && echo mounted && \
         exec {} --exact pull_full_disk::child --ignored --nocapture",
        folder.path().display(),
        std::env::current_exe().unwrap().display()
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]);
    command.env(STORE, folder.path()).env(NAME, mock.name(0).full());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = match ran {
        Ok(output) => output,
        Err(error) => return not_run(&format!("pulls to a full disk (unshare: {error})")),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let inside = String::from_utf8_lossy(&output.stdout).into_owned();
    if !inside.starts_with("mounted") {
        return not_run(&format!("pulls to a full disk ({})", said.trim()));
    }
    assert!(output.status.success(), "{inside}{said}");
    // What was there when the disk was full was not fetched again.
    let asked = mock.take_asked();
    let weights = asked.iter().filter(|ask| ask.what == What::Blob(0));
    let bytes: u64 = weights.filter_map(|ask| ask.range).map(|(a, b)| b - a + 1).sum();
    assert!((1_400_000..2_800_000).contains(&bytes), "{bytes} bytes were asked for");
}
