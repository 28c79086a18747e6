//! The files of `tests/data`. What is large lies in `packed.tar.xz` of its folder, or is not
//! stored at all: it is made from other files when a test first asks for it, byte for byte
//! what llama.cpp's quantizer made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lzma_rust2::XzReader;
use sha2::{Digest, Sha256};
use tramontane::Format;
use tramontane::Gguf;
use tramontane::gguf::{Metadata, TensorSpec, Value, Writer};

#[path = "quantize.rs"]
mod quantize;

/// The path of a file of `tests/data`; what is not stored as it is lies in `target/tmp`.
pub fn data(name: &str) -> PathBuf {
    // The benches' package lies one folder deeper.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = package.ancestors().map(|at| at.join("tests/data")).find(|at| at.is_dir());
    let stored = folder.expect("tests/data is there").join(name);
    if stored.exists() {
        return stored;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data").join(name);
    // Once per process, and over what an earlier one made: nothing is ever out of date.
    static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if MADE.lock().unwrap().contains(&path) {
        return path;
    }
    let made = match name.strip_prefix("tiny-mistral/tiny-").and_then(|n| n.strip_suffix(".gguf")) {
        Some(kind) if TINY.iter().any(|(format, ..)| format.name() == kind) => {
            vec![(path.clone(), tiny(kind))]
        }
        _ if name == "storyteller/twin-f16.gguf" => vec![(path.clone(), storyteller_twin())],
        _ => unpack(&stored.with_file_name("packed.tar.xz"), path.parent().unwrap()),
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for (path, bytes) in made {
        // Renamed when complete: other processes make the same file at the same time.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
        fs::write(&part, bytes).unwrap();
        fs::rename(&part, &path).unwrap();
        MADE.lock().unwrap().insert(path);
    }
    assert!(path.exists(), "{name} is neither stored nor packed nor made");
    path
}

/// The files of an archive, to be written into `folder`.
fn unpack(archive: &Path, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let archive =
        File::open(archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
    let mut tar = Vec::new();
    XzReader::new(archive, false).read_to_end(&mut tar).unwrap();
    let mut files = Vec::new();
    let mut rest = &tar[..];
    // A header of 512 bytes, content padded to as much; an empty header ends it.
    while let Some((header, behind)) =
        rest.split_at_checked(512).filter(|(header, _)| header[0] != 0)
    {
        let field = |range: Range<usize>| {
            str::from_utf8(&header[range]).unwrap().trim_matches(['\0', ' ']).to_owned()
        };
        let len = usize::from_str_radix(&field(124..136), 8).unwrap();
        files.push((folder.join(field(0..100)), behind[..len].to_vec()));
        rest = &behind[len.next_multiple_of(512)..];
    }
    files
}

/// Format, number in `general.file_type`, and SHA-256 of llama.cpp's file.
const TINY: [(Format, u32, &str); 7] = [
    (Format::F16, 1, "d0cc50de24c28c3147aa9183a4008b2ebb506ccd2c70b6e43041b6bc2b459374"),
    (Format::BF16, 32, "565ab4ce329196d1cd6ef4fe12d8a5ea8eb3d475a86fc597716a758223fee671"),
    (Format::Q8_0, 7, "3a3e85b3d039d2143cd46a84ee86de36de1592dcd8efaa65b80fabe2d84ef1ee"),
    (Format::Q4_0, 2, "e433255a412ee911a1dbdc46cff8620f74dc84768ee50f0e4c1485d315564d65"),
    (Format::Q4_1, 3, "f68fc2f23e34b93ee0182cc32b9fc2aad6abc08a34aef83c634f1313d5d66c6b"),
    (Format::Q5_0, 8, "676fbddac8a957b80e76d48f2d6c00a24766a71b4559310ea37de5701cf35ded"),
    (Format::Q5_1, 9, "84204cd4dfe482028966829593fb02e6d71dcd7a0662111ce23406c7e4115d8e"),
];

/// `tiny-<kind>.gguf`: the matrices of the f32 file in another format, the output matrix in
/// Q6_K where llama.cpp makes it so.
fn tiny(kind: &str) -> Vec<u8> {
    let row = TINY.iter().find(|(format, ..)| format.name() == kind);
    let &(format, file_type, sha256) = row.unwrap();
    let source = Gguf::open(data("tiny-mistral/tiny-f32.gguf")).unwrap();
    // It has the order of tensors and keys that the quantizer writes.
    let q6_k = Gguf::open(data("tiny-mistral/tiny-Q6_K.gguf")).unwrap();
    let as_q6_k = |name: &str| {
        name == "output.weight" && !matches!(format, Format::F16 | Format::BF16 | Format::Q8_0)
    };
    let mut metadata = q6_k.metadata().clone();
    metadata.set("general.file_type", Value::U32(file_type)).unwrap();
    let specs = specs(&q6_k, |name| if as_q6_k(name) { Format::Q6_K } else { format });
    let bytes = write(&metadata, &specs, |spec| {
        if spec.format == Format::Q6_K {
            return q6_k.tensor(&spec.name).unwrap().bytes().to_vec();
        }
        quantize::quantize(spec.format, &source.tensor(&spec.name).unwrap().to_f32().unwrap())
    });
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, sha256, "tiny-{kind}.gguf is not what llama.cpp made");
    bytes
}

/// The built-in model with its weights rounded to half precision.
fn storyteller_twin() -> Vec<u8> {
    let source = Gguf::open(data("../../models/storyteller-q4_k_m.gguf")).unwrap();
    let mut metadata = source.metadata().clone();
    metadata.set("general.file_type", Value::U32(1)).unwrap();
    write(&metadata, &specs(&source, |_| Format::F16), |spec| {
        quantize::quantize(spec.format, &source.tensor(&spec.name).unwrap().to_f32().unwrap())
    })
}

/// The tensors of `like`, matrices in another format.
fn specs(like: &Gguf, format: impl Fn(&str) -> Format) -> Vec<TensorSpec> {
    let mut specs: Vec<TensorSpec> = like.tensors().iter().map(TensorSpec::from).collect();
    for spec in specs.iter_mut().filter(|spec| spec.dims.len() == 2) {
        spec.format = format(&spec.name);
    }
    specs
}

fn write(
    metadata: &Metadata,
    specs: &[TensorSpec],
    content: impl Fn(&TensorSpec) -> Vec<u8>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, metadata, specs).unwrap();
    for spec in specs {
        writer.write(&content(spec)).unwrap();
    }
    writer.finish().unwrap();
    bytes
}
