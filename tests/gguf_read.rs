//! Reading and writing GGUF files that are in order: round trips, typed
//! getters, split models.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use support::data;
use tramontane::Format;
use tramontane::gguf::{Array, Gguf, Metadata, Strings, TensorSpec, Value, Writer};
use tramontane::{Error, Place};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn real_files() -> Vec<PathBuf> {
    let kinds = [
        "f32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "Q4_0", "Q4_1", "Q5_0",
        "Q5_1", "IQ4_XS", "IQ4_NL",
    ];
    let mut files = kinds.map(|kind| data(&format!("tiny-mistral/tiny-{kind}.gguf"))).to_vec();
    files.push(repository("models/storyteller-q4_k_m.gguf"));
    files.push(data("models/stories260K.gguf"));
    files.push(data("vocab/ggml-vocab-mistral-v3.gguf"));
    files.push(data("arch/nemo/mini-f32.gguf"));
    files
}

/// A folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tramontane-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
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

fn spec(name: &str, dims: &[u64], format: Format) -> TensorSpec {
    TensorSpec { name: name.into(), dims: dims.into(), format }
}

/// A file whose tensors are F32 vectors of 4 with ascending values.
fn small(metadata: &Metadata, names: &[&str]) -> Vec<u8> {
    let specs: Vec<_> = names.iter().map(|name| spec(name, &[4], Format::F32)).collect();
    let mut writer = Writer::new(Vec::new(), metadata, &specs).unwrap();
    for index in 0..names.len() * 4 {
        writer.write(&(index as f32).to_le_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn assert_same(a: &Gguf, b: &Gguf) {
    assert_eq!(a.metadata(), b.metadata());
    assert_eq!(a.alignment(), b.alignment());
    assert_eq!(a.tensors().len(), b.tensors().len());
    for (a, b) in a.tensors().iter().zip(b.tensors()) {
        assert_eq!(TensorSpec::from(a), TensorSpec::from(b));
        assert_eq!(a.bytes(), b.bytes(), "{}", a.name());
    }
}

#[test]
fn real_files_are_written_back_byte_for_byte() {
    let files = real_files();
    assert!(files.len() >= 18, "{files:?}");
    for path in files {
        let file = Gguf::open(&path).unwrap();
        let mut written = Vec::new();
        file.write_to(&mut written).unwrap();
        assert!(written == fs::read(&path).unwrap(), "{} differs", path.display());
    }
}

/// Vocabulary files of some converters end with the last key, unpadded.
#[test]
fn a_file_without_tensors_is_padded() {
    let real = fs::read(data("vocab/ggml-vocab-llama-bpe.gguf")).unwrap();
    assert_ne!(real.len() % 32, 0);
    let mut written = Vec::new();
    Gguf::from_bytes(real.clone()).unwrap().write_to(&mut written).unwrap();
    assert_eq!(written.len(), real.len().next_multiple_of(32));
    let (same, padding) = written.split_at(real.len());
    assert!(same == real && padding.iter().all(|&byte| byte == 0));
}

#[test]
fn from_bytes_equals_open() {
    for path in real_files() {
        let opened = Gguf::open(&path).unwrap();
        assert_same(&opened, &Gguf::from_bytes(fs::read(&path).unwrap()).unwrap());
    }
}

#[test]
fn save_replaces_the_file_it_was_opened_from() {
    let folder = Folder::new("save");
    let bytes = fs::read(data("models/stories260K.gguf")).unwrap();
    let path = folder.file("model.gguf", &bytes);
    let file = Gguf::open(&path).unwrap();
    file.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "the .part file is gone");
    let nowhere = folder.0.join("no/such/folder.gguf");
    assert!(matches!(file.save(nowhere), Err(Error::Io { .. })));
}

#[test]
fn a_real_file_has_the_expected_content() {
    let file = Gguf::open(repository("models/storyteller-q4_k_m.gguf")).unwrap();
    assert_eq!(file.version(), 3);
    assert_eq!(file.alignment(), 32);
    assert_eq!(file.metadata().str("general.architecture").unwrap(), "llama");
    assert_eq!(file.metadata().u32("llama.attention.sliding_window").unwrap(), 128);
    assert_eq!(file.metadata().strings("tokenizer.ggml.tokens").unwrap().get(3), Some("[INST]"));
    let output = file.tensor("output.weight").unwrap();
    assert_eq!((output.cols(), output.rows(), output.format()), (256, 4096, Format::Q6_K));
    assert_eq!(output.row(4095), &output.bytes()[4095 * 210..]);
    assert_eq!(output.row(4096), b"");
    assert_eq!(output.row(usize::MAX), b"");
    assert!(file.tensor("no.such").is_none());
}

#[test]
fn getters_name_the_key_and_the_types() {
    let mut metadata = Metadata::new();
    metadata.push("n", Value::U16(7)).unwrap();
    metadata.push("minus", Value::I32(-1)).unwrap();
    metadata.push("big", Value::U64(1 << 40)).unwrap();
    metadata.push("x", Value::F64(0.5)).unwrap();
    metadata.push("yes", Value::Bool(true)).unwrap();
    metadata.push("text", Value::String("a\u{1F32C}".into())).unwrap();
    metadata
        .push("texts", Value::Array(Array::String(["a", "", "b"].into_iter().collect())))
        .unwrap();
    metadata.push("floats", Value::Array(Array::F32(vec![1.0, f32::INFINITY]))).unwrap();
    metadata.push("ints", Value::Array(Array::I32(vec![-1, 1]))).unwrap();

    assert_eq!(metadata.u32("n").unwrap(), 7);
    assert_eq!(metadata.f32("x").unwrap(), 0.5);
    assert_eq!(metadata.opt_bool("yes").unwrap(), Some(true));
    assert_eq!(metadata.str("text").unwrap(), "a\u{1F32C}");
    assert_eq!(metadata.strings("texts").unwrap().iter().collect::<Vec<_>>(), ["a", "", "b"]);
    assert_eq!(*metadata.opt_f32s("floats").unwrap().unwrap(), [1.0, f32::INFINITY]);
    assert_eq!(*metadata.opt_i32s("ints").unwrap().unwrap(), [-1, 1]);
    assert_eq!(*metadata.opt_f32s("ints").unwrap().unwrap(), [-1.0, 1.0]);
    assert_eq!((metadata.f32("n").unwrap(), metadata.f32("minus").unwrap()), (7.0, -1.0));
    assert_eq!(metadata.opt_u32("absent").unwrap(), None);
    assert_eq!(metadata.opt_strings("absent").unwrap(), None);

    for (error, sentence) in [
        (
            metadata.u32("absent").unwrap_err(),
            r#"key "absent": is missing; the file is not a complete model"#,
        ),
        (metadata.u32("minus").unwrap_err(), r#"key "minus": is -1, outside 0..=4294967295"#),
        (
            metadata.u32("big").unwrap_err(),
            r#"key "big": is 1099511627776, outside 0..=4294967295"#,
        ),
        (metadata.u32("x").unwrap_err(), r#"key "x": should be an integer, but is f64"#),
        (
            metadata.u32("ints").unwrap_err(),
            r#"key "ints": should be an integer, but is an array of i32 with different values"#,
        ),
        (metadata.f32("yes").unwrap_err(), r#"key "yes": should be a number, but is bool"#),
        (
            metadata.str("texts").unwrap_err(),
            r#"key "texts": should be a string, but is an array of string"#,
        ),
        (
            metadata.strings("text").unwrap_err(),
            r#"key "text": should be an array of strings, but is string"#,
        ),
        (
            metadata.opt_f32s("texts").map(drop).unwrap_err(),
            r#"key "texts": should be an array of numbers, but is an array of string"#,
        ),
        (metadata.opt_bool("n").unwrap_err(), r#"key "n": should be a boolean, but is u16"#),
    ] {
        assert_eq!(error.to_string(), sentence);
        assert!(matches!(error, Error::File { at: Place::Key(_), .. }));
    }
}

/// Converters write one key in several types; what it says is the same.
#[test]
fn a_number_is_read_from_any_type_that_holds_it() {
    let seven = [
        Value::U8(7),
        Value::I8(7),
        Value::U16(7),
        Value::I16(7),
        Value::U32(7),
        Value::I32(7),
        Value::U64(7),
        Value::I64(7),
        Value::F32(7.0),
        Value::F64(7.0),
        Value::Array(Array::U16(vec![7; 3])),
        Value::Array(Array::I64(vec![7])),
        Value::Array(Array::F32(vec![7.0; 2])),
    ];
    for value in seven {
        let mut metadata = Metadata::new();
        metadata.push("x", value).unwrap();
        assert_eq!((metadata.u32("x").unwrap(), metadata.f32("x").unwrap()), (7, 7.0));
        assert!(metadata.opt_integers("x").unwrap().unwrap().iter().all(|&number| number == 7));
    }
    let truths =
        [Value::Bool(true), Value::U8(1), Value::I32(1), Value::Array(Array::Bool(vec![true; 4]))];
    for value in truths {
        let mut metadata = Metadata::new();
        metadata.push("x", value).unwrap();
        assert_eq!(metadata.opt_bool("x").unwrap(), Some(true));
    }
    let lists = [
        Array::U8(vec![1, 2]),
        Array::U32(vec![1, 2]),
        Array::I64(vec![1, 2]),
        Array::F64(vec![1.0, 2.0]),
    ];
    for list in lists {
        let mut metadata = Metadata::new();
        metadata.push("x", Value::Array(list)).unwrap();
        assert_eq!(*metadata.opt_i32s("x").unwrap().unwrap(), [1, 2]);
        assert_eq!(*metadata.opt_f32s("x").unwrap().unwrap(), [1.0, 2.0]);
        assert_eq!(metadata.opt_integers("x").unwrap().unwrap(), [1, 2]);
        assert!(metadata.u32("x").is_err(), "two values are not one");
    }
    for value in [Value::F32(0.5), Value::Array(Array::U32(vec![])), Value::String("7".into())] {
        let mut metadata = Metadata::new();
        metadata.push("x", value).unwrap();
        assert!(metadata.u32("x").is_err());
    }
}

#[test]
fn metadata_refuses_what_cannot_stand_in_a_file() {
    let mut metadata = Metadata::new();
    metadata.push("a", Value::U8(1)).unwrap();
    for (key, part) in [("", "is empty"), ("b\0", "NUL"), (&*"k".repeat(65_537), "too long")] {
        for result in [metadata.push(key, Value::U8(2)), metadata.set(key, Value::U8(2))] {
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::Misuse(_)) && error.to_string().contains(part),
                "{error}"
            );
        }
    }
    assert!(matches!(metadata.push("a", Value::U8(2)), Err(Error::Misuse(_))));
    metadata.set("a", Value::U8(3)).unwrap();
    metadata.set("b", Value::U8(4)).unwrap();
    metadata.set("0", Value::U8(5)).unwrap();
    assert_eq!(metadata.remove("b"), Some(Value::U8(4)));
    assert_eq!(metadata.remove("b"), None);
    let pairs: Vec<_> = metadata.iter().map(|(key, value)| (key, value.clone())).collect();
    assert_eq!(pairs, [("a", Value::U8(3)), ("0", Value::U8(5))]);
    assert_eq!(metadata.get("0"), Some(&Value::U8(5)));
}

#[test]
fn writer_checks_every_size() {
    let metadata = Metadata::new();
    let specs = [
        spec("a", &[3], Format::F32),
        spec("none", &[0], Format::F32),
        spec("b", &[32, 2], Format::Q8_0),
    ];
    let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
    assert_eq!(writer.next_tensor(), Some(("a", 12)));
    writer.write(&[1; 5]).unwrap();
    let error = writer.write(&[1; 8]).unwrap_err();
    assert_eq!(error.to_string(), r#"tensor "a" has 7 bytes left, but 8 came"#);
    writer.write(&[1; 7]).unwrap();
    assert_eq!(writer.next_tensor(), Some(("b", 68)), "a tensor of no bytes is passed over");
    writer.write(&[2; 67]).unwrap();
    writer.write(&[]).unwrap();
    writer.write(&[2]).unwrap();
    assert_eq!(writer.next_tensor(), None);
    assert!(matches!(writer.write(&[0]), Err(Error::Misuse(_))));
    let file = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
    assert_eq!(file.tensors()[2].bytes(), [2; 68]);

    let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
    writer.write(&[1; 5]).unwrap();
    assert_eq!(writer.finish().unwrap_err().to_string(), r#"tensor "a" lacks 7 bytes"#);
}

#[test]
fn writer_refuses_what_the_reader_would_refuse() {
    let one = |name: &str, dims: &[u64], format| vec![spec(name, dims, format)];
    for (specs, part) in [
        (one("", &[1], Format::F32), "is empty"),
        (one("a\0b", &[1], Format::F32), "NUL"),
        (one("a", &[], Format::F32), "0 dimensions"),
        (one("a", &[1; 5], Format::F32), "5 dimensions"),
        (one("a", &[255], Format::Q4_K), "no whole number of Q4_K blocks"),
        (one("a", &[1 << 62, 8], Format::F32), "overflow"),
        ([one("a", &[1], Format::F32), one("a", &[1], Format::F32)].concat(), "twice"),
        ((0..16_385).map(|n| spec(&n.to_string(), &[1], Format::F32)).collect(), "16385 tensors"),
    ] {
        let error = Writer::new(Vec::new(), &Metadata::new(), &specs).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)) && error.to_string().contains(part), "{error}");
    }
    for alignment in [Value::U32(0), Value::U32(24), Value::String("32".into())] {
        let mut metadata = Metadata::new();
        metadata.push("general.alignment", alignment).unwrap();
        let error = Writer::new(Vec::new(), &metadata, &[]).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error}");
    }
}

/// Two of three parts' worth of keys: what `gguf-split` writes.
fn part(number: u16, count: u16, total: i32, names: &[&str]) -> Vec<u8> {
    let mut metadata = Metadata::new();
    if number == 0 {
        metadata.push("general.architecture", Value::String("llama".into())).unwrap();
    }
    metadata.push("split.no", Value::U16(number)).unwrap();
    metadata.push("split.count", Value::U16(count)).unwrap();
    metadata.push("split.tensors.count", Value::I32(total)).unwrap();
    small(&metadata, names)
}

/// Opens three parts that lie beside each other.
fn open_parts(test: &str, parts: [Option<Vec<u8>>; 3]) -> Result<Gguf, Error> {
    let folder = Folder::new(test);
    for (index, bytes) in parts.iter().enumerate() {
        if let Some(bytes) = bytes {
            folder.file(&format!("model-{:05}-of-00003.gguf", index + 1), bytes);
        }
    }
    Gguf::open(folder.0.join("model-00001-of-00003.gguf"))
}

#[test]
fn a_split_model_opens_as_one_and_merges() {
    let parts = [
        Some(part(0, 3, 4, &["a", "b"])),
        Some(part(1, 3, 4, &["c"])),
        Some(part(2, 3, 4, &["d"])),
    ];
    let file = open_parts("split", parts).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(file.tensor("d").unwrap().bytes()[4..8], 1f32.to_le_bytes());
    let mut merged = Vec::new();
    file.write_to(&mut merged).unwrap();
    let merged = Gguf::from_bytes(merged).unwrap();
    assert_eq!(merged.tensors().len(), 4);
    assert_eq!(merged.metadata().len(), 1, "no split keys");
}

#[test]
fn broken_splits_name_the_part() {
    let good = |number, names: &[&str]| Some(part(number, 3, 3, names));
    let cases = [
        ("missing", [good(0, &["a"]), None, good(2, &["c"])], "model-00002-of-00003.gguf"),
        (
            "wrong",
            [good(0, &["a"]), good(2, &["b"]), good(2, &["c"])],
            "does not say that it is part 2",
        ),
        ("count", [good(0, &["a"]), Some(part(1, 2, 3, &["b"])), good(2, &["c"])], "part 2 of 3"),
        (
            "total",
            [good(0, &["a"]), good(1, &["b"]), good(2, &["c", "d"])],
            "is 3, but the parts hold 4",
        ),
        (
            "twice",
            [good(0, &["a"]), good(1, &["b"]), good(2, &["a"])],
            "tensor \"a\": appears in two parts",
        ),
        ("late", [good(2, &["a"]), good(1, &["b"]), good(2, &["c"])], "open the first part"),
        ("many", [Some(part(0, 65_535, 3, &["a"])), None, None], "is 65535; at most 4096"),
        ("lies", [Some(part(0, 4, 3, &["a"])), None, None], "-00001-of-00004.gguf"),
        ("junk", [good(0, &["a"]), Some(b"GGUF\x03".to_vec()), None], "model-00002-of-00003.gguf"),
    ];
    for (name, parts, expected) in cases {
        let error = open_parts(name, parts).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

/// The other parts' names come from the first one's, never from the file.
#[test]
fn a_split_stays_in_its_folder() {
    let folder = Folder::new("traversal");
    let path = folder.file("renamed.gguf", &part(0, 3, 3, &["a"]));
    let error = Gguf::open(path).unwrap_err();
    assert!(matches!(error, Error::File { at: Place::Shard(_), .. }), "{error}");
    assert!(error.to_string().contains("must be named"), "{error}");
}

/// Any text without a zero byte.
fn text(len: Range<usize>) -> impl Strategy<Value = String> {
    let letter = any::<char>().prop_filter("a zero byte", |&c| c != '\0');
    prop::collection::vec(letter, len).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = Value> {
    let float = -1e30f32..1e30;
    let array = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(Array::U32),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(float.clone(), 0..9).prop_map(Array::F32),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(Array::I64),
        prop::collection::vec(text(0..32), 0..9).prop_map(|texts| {
            Array::String(texts.iter().map(String::as_str).collect::<Strings>())
        }),
    ];
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        float.prop_map(Value::F32),
        (-1e300f64..1e300).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        text(0..32).prop_map(|text| Value::String(text.into())),
        array.prop_map(Value::Array),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pairs in prop::collection::btree_map(text(1..13), value(), 0..20),
        tensors in prop::collection::btree_map(text(1..13), (0u64..4, prop::collection::vec(0u64..4, 0..4), 0usize..15), 0..10),
        alignment in prop::option::of(0u32..10),
        chunk in 1usize..600,
    ) {
        let mut metadata = Metadata::new();
        for (key, value) in pairs {
            metadata.push(key, value).unwrap();
        }
        if let Some(power) = alignment {
            metadata.set("general.alignment", Value::U32(1 << power)).unwrap();
        }
        let mut specs = Vec::new();
        for (name, (blocks, rows, format)) in tensors {
            let format = Format::ALL[format];
            let mut dims = vec![blocks * format.block_len() as u64];
            dims.extend(rows.into_iter().take(3));
            specs.push(TensorSpec { name, dims, format });
        }
        let contents: Vec<Vec<u8>> = (0u8..).zip(&specs).map(|(seed, spec)| {
            (0..spec.byte_len().unwrap()).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect()
        }).collect();
        let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
        for chunk in contents.iter().flat_map(|content| content.chunks(chunk)) {
            writer.write(chunk).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let file = Gguf::from_bytes(bytes.clone()).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors().len(), specs.len());
        for ((tensor, spec), content) in file.tensors().iter().zip(&specs).zip(&contents) {
            prop_assert_eq!(&TensorSpec::from(tensor), spec);
            prop_assert_eq!(tensor.bytes(), &**content);
        }
        let mut again = Vec::new();
        file.write_to(&mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }
}
