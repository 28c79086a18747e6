//! MG-32 to MG-34: files that are no ordinary files, or not what they say.

use std::fs;
use std::path::PathBuf;

use tramontane::{Error, Gguf};

use super::build::File;
use super::memory;

/// A folder for one test, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tramontane-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn mg_34_only_regular_files_are_opened() {
    let folder = Folder::new("special");
    let fifo = folder.0.join("fifo.gguf");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [&fifo, &PathBuf::from("/dev/zero"), &folder.0] {
        let error = Gguf::open(path).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error:?}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
    let (a, b) = (folder.0.join("a"), folder.0.join("b"));
    std::os::unix::fs::symlink(&a, &b).unwrap();
    std::os::unix::fs::symlink(&b, &a).unwrap();
    let error = Gguf::open(&a).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == a), "{error:?}");
    // A link to a model is a model.
    let model = folder.file("model", &File::new().bytes());
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(model, &link).unwrap();
    assert!(Gguf::open(link).is_ok());
}

/// A sparse file is as long as it says, so the records may be legal; the heap
/// they may cost is bounded all the same.
#[test]
fn mg_32_a_sparse_file_cannot_make_the_heap_large() {
    let folder = Folder::new("sparse");
    let sparse = |name: &str, file: File| {
        let path = folder.file(name, &file.bytes());
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let (result, peak) = memory::peak_of(|| Gguf::open(&path));
        (result, peak)
    };
    // 512 GiB of tensor, which nobody reads.
    let (result, peak) = sparse("tensor", File::new().tensor("big", &[1 << 37], 0, 0));
    assert_eq!(result.unwrap().tensors()[0].bytes().len(), 1 << 39);
    assert!(peak < 1 << 16);

    // Arrays of 128 MiB each, one after the other: the third is too much.
    let mut array = File::array_head(10, 1 << 24);
    array.resize(array.len() + (1 << 27), 0);
    let mut file = File::new().pair("a", 9, &array).pair("b", 9, &array).pair("c", 9, &array);
    file.n_pairs = Some(8192);
    let (result, peak) = sparse("arrays", file);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("key \"b\""), "{error}");
    assert!(error.to_string().contains("268435456 bytes"), "{error}");
    assert!(peak < 1 << 28, "{peak}");

    // Zeros to the end: keys of length 0.
    let (result, _) = sparse("zeros", File { n_pairs: Some(8192), ..File::new() });
    assert!(result.unwrap_err().to_string().contains("byte 24"));
}

/// MG-33: what was opened stays what it was when the path gets a new file.
#[test]
fn mg_33_replacing_the_file_is_safe() {
    let folder = Folder::new("replace");
    let bytes = File::new().tensor("a", &[4], 0, 0).data(16).bytes();
    let path = folder.file("model.gguf", &bytes);
    let file = Gguf::open(&path).unwrap();
    let other = folder.file("other", b"short");
    fs::rename(other, &path).unwrap();
    assert_eq!(file.tensors()[0].bytes(), [0x55; 16]);
    fs::remove_file(&path).unwrap();
    assert_eq!(file.tensors()[0].bytes(), [0x55; 16]);
}
