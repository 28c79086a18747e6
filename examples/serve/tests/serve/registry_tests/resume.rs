//! Going on with what a real Ollama left: a sparse file and a JSON file per part.

use std::path::PathBuf;

use super::mock::{Ask, Mock, What, honest};
use super::*;

const SIZE: usize = 100_000;
/// What Ollama planned: other parts than we would.
const PARTS: [(u64, u64); 3] = [(0, 40_000), (40_000, 40_000), (80_000, 20_000)];

struct Left {
    mock: Mock,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Left {
    /// A download of which so much of each part is there.
    async fn by_ollama(completed: [u64; 3]) -> Self {
        let mock = Mock::start(vec![("new", Model::new(1, SIZE))], honest).await;
        let (store, _folder) = store();
        let left = Left { mock, store, _folder };
        let weights = &left.mock.model(0).blobs[0];
        let mut file = vec![0; SIZE];
        for (n, ((offset, size), completed)) in PARTS.into_iter().zip(completed).enumerate() {
            let bytes = offset as usize..(offset + completed) as usize;
            file[bytes.clone()].copy_from_slice(&weights[bytes]);
            let record =
                format!(r#"{{"N":{n},"Offset":{offset},"Size":{size},"Completed":{completed}}}"#);
            fs::write(left.path(&format!("-{n}")), record + "\n").unwrap();
        }
        fs::write(left.path(""), file).unwrap();
        left
    }

    fn path(&self, end: &str) -> PathBuf {
        let digest = self.mock.model(0).digest(0);
        self.store.root().join("blobs").join(format!("{}-partial{end}", digest.file_name()))
    }

    /// Pulls; the ranges of the weights that were asked for.
    async fn go_on(&self) -> Vec<(u64, u64)> {
        let (ended, told) = pull(&registry(), &self.store, &self.mock.name(0)).await;
        ended.unwrap();
        self.mock.model(0).assert_in(&self.store, &self.mock.name(0));
        assert_clean(&self.store);
        assert!(!self.path("").exists() && !self.path("-0").exists());
        assert_eq!(told.last().unwrap().status, "success");
        let weights = |ask: Ask| ask.range.filter(|_| ask.what == What::Blob(0));
        let mut ranges: Vec<_> = self.mock.take_asked().into_iter().filter_map(weights).collect();
        ranges.sort_unstable();
        ranges
    }
}

#[tokio::test]
async fn only_what_is_missing_is_fetched() {
    let left = Left::by_ollama([40_000, 10, 0]).await;
    assert_eq!(left.go_on().await, [(40_010, 79_999), (80_000, 99_999)]);
}

/// A registry that knows no parts sends everything; what is there from the start on is
/// not written again, and after a break it goes on behind it.
#[tokio::test]
async fn wholes_go_on_too() {
    let left = Left::by_ollama([40_000, 10, 0]).await;
    left.mock.follow(|ask, world| match ask.what {
        What::Blob(n) => Some(mock::reply(200, world.blob(n).to_vec())),
        _ => None,
    });
    let ranges = left.go_on().await;
    assert!(ranges.contains(&(40_010, 99_999)), "{ranges:?}");
    assert!(ranges.iter().all(|(first, _)| *first >= 40_010), "{ranges:?}");
}

#[tokio::test]
async fn what_is_complete_is_only_verified() {
    let left = Left::by_ollama([40_000, 40_000, 20_000]).await;
    assert_eq!(left.go_on().await, []);
}

/// Ollama writes a record in place, so it can be empty, or half, after a crash. There
/// that model cannot be pulled again until somebody removes the file.
#[tokio::test]
async fn a_torn_record_costs_its_part() {
    for torn in ["", "{\"N\":1,\"Off", "{\"N\":7,\"Offset\":0,\"Size\":40000,\"Completed\":0}"] {
        let left = Left::by_ollama([40_000, 30_000, 20_000]).await;
        fs::write(left.path("-1"), torn).unwrap();
        assert_eq!(left.go_on().await, [(40_000, 79_999)]);
        let left = Left::by_ollama([40_000, 30_000, 20_000]).await;
        fs::write(left.path("-2"), torn).unwrap();
        assert_eq!(left.go_on().await, [(70_000, 79_999), (80_000, 99_999)]);
    }
}

#[tokio::test]
async fn records_that_cannot_be_right_are_not_believed() {
    let records = [
        r#"{"N":1,"Offset":30000,"Size":40000,"Completed":0}"#,
        r#"{"N":1,"Offset":40000,"Size":40000,"Completed":40001}"#,
        r#"{"N":1,"Offset":40000,"Size":18446744073709551615,"Completed":0}"#,
        r#"{"N":1,"Offset":40000,"Size":0,"Completed":0}"#,
    ];
    for record in records {
        let left = Left::by_ollama([40_000, 30_000, 20_000]).await;
        fs::write(left.path("-1"), record).unwrap();
        let ranges = left.go_on().await;
        assert_eq!((ranges[0].0, ranges.last().unwrap().1), (0, 99_999), "{record}");
    }
    // A file that is too short cannot have what the records say.
    let left = Left::by_ollama([40_000, 30_000, 20_000]).await;
    fs::write(left.path(""), b"short").unwrap();
    assert_eq!(left.go_on().await[0].0, 0);
}

#[tokio::test]
async fn a_lie_on_the_disk_is_found_and_removed() {
    let left = Left::by_ollama([40_000, 30_000, 20_000]).await;
    let mut bytes = fs::read(left.path("")).unwrap();
    bytes[5] ^= 1;
    fs::write(left.path(""), bytes).unwrap();
    let (ended, _) = pull(&registry(), &left.store, &left.mock.name(0)).await;
    let error = ended.unwrap_err().to_string();
    let wanted = left.mock.model(0).digest(0);
    let text =
        format!("digest mismatch, file must be downloaded again: want {wanted}, got sha256:");
    assert!(error.starts_with(&text), "{error}");
    assert!(!left.path("").exists() && !left.path("-0").exists());
    left.mock.take_asked();
    assert_eq!(left.go_on().await[0].0, 0);
}

/// A blob that was damaged by a disk is replaced by the next pull.
#[tokio::test]
async fn a_damaged_blob_is_fetched_again() {
    let mock = Mock::start(vec![("new", Model::new(1, SIZE))], honest).await;
    let (store, _folder) = store();
    mock.model(0).install(&store, &mock.name(0));
    let path = store.blob(&mock.model(0).digest(0)).unwrap();
    fs::write(&path, b"short").unwrap();
    pull(&registry(), &store, &mock.name(0)).await.0.unwrap();
    mock.model(0).assert_in(&store, &mock.name(0));
    assert_clean(&store);
}

/// The records are what Ollama reads: these fields, numbers, one file per part.
#[tokio::test]
async fn ours_are_as_ollamas() {
    let script = |ask: &Ask, world: &mock::World| match ask.what {
        What::Blob(0) => {
            let wanted = world.wanted(ask);
            Some(world.part(ask, mock::broken(&wanted[..wanted.len().min(5_000)])))
        }
        _ => None,
    };
    let mock = Mock::start(vec![("new", Model::new(1, SIZE))], script).await;
    let (store, _folder) = store();
    let once = Registry::new(RegistryOptions { tries: 1, ..options() }).unwrap();
    pull(&once, &store, &mock.name(0)).await.0.unwrap_err();
    let digest = mock.model(0).digest(0);
    let partial = store.root().join("blobs").join(format!("{}-partial", digest.file_name()));
    assert_eq!(fs::metadata(&partial).unwrap().len(), SIZE as u64);
    let records = records(&store, &digest);
    let mut at = 0;
    for (n, [number, offset, size, completed]) in records.iter().enumerate() {
        assert_eq!((*number, *offset), (n as u64, at));
        assert!(completed <= size);
        at += size;
    }
    assert_eq!(at, SIZE as u64);
    assert!(records.iter().map(|record| record[3]).sum::<u64>() >= 5_000);
    let text = fs::read_to_string(partial.with_extension("").to_str().unwrap().to_owned() + "-0");
    let keys: serde_json::Map<String, Value> = serde_json::from_str(&text.unwrap()).unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["N", "Offset", "Size", "Completed"]);
}
