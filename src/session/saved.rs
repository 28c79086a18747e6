//! Saved prefixes: tokens and their keys and values in a file.
//!
//! ```text
//! magic       8    "trmtkv\r\n"
//! version     u32
//! type        u32  1 = I16, 2 = Q8_0, 3 = F32
//! model       32   Model::digest
//! layers      u32  that keep keys and values
//! page        u32  positions of a page
//! long rope   u32  1 if keys are rotated with the frequencies for long contexts, else 0
//! positions   u64
//! layers ×    window u64 (0 = full attention), first page held u64, kv_heads u32,
//!             head_dim u32
//! floats      u64  of all recurrent layers' states
//! positions × token u32
//! floats × f32     those states after the last position
//! layers × pages held × kv_heads ×    a head's part of a page (`kv_cache/page.rs`)
//! checksum    32   SHA-256 of all before
//! ```
//! All numbers are little-endian, also in the pages: other machines are refused.
//! Slots of the last page that are not held are 0: what was forgotten is not saved.
//!
//! Reading trusts nothing, not even a file with a good checksum: sizes are compared
//! with the file's length before memory is taken, and the numbers of every page
//! with what attention promises to handle ([`check_part`]).

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, Place, Result};
use crate::kv_cache::{
    KvBudget, KvCache, KvLayer, KvShape, KvType, PAGE, check_part, clear_slots, kept_pages,
};
use crate::model::Model;

const MAGIC: [u8; 8] = *b"trmtkv\r\n";

/// Raised when the layout changes or the kernels compute other bits: a prefix must
/// be what this program would compute.
const VERSION: u32 = 3;

/// Bytes up to the list of layers.
const FIXED: usize = 68;

/// Bytes of one layer in that list.
#[cfg(test)]
const OF_LAYER: usize = 24;

/// Bytes behind the list, before the tokens.
#[cfg(test)]
const OF_STATES: usize = 8;

/// Bytes of the checksum.
const CHECKSUM: u64 = 32;

/// Saves `tokens`, which `cache` holds, under `path`: the whole file or, after a
/// crash or an error, what was there before.
///
/// # Errors
/// [`Error::Misuse`] if cache, tokens and model do not belong together,
/// [`Error::NonFinite`] for keys or values that could not be read back,
/// [`Error::Io`].
pub(crate) fn write(path: &Path, model: &Model, tokens: &[u32], cache: &KvCache) -> Result<()> {
    little_endian()?;
    if tokens.is_empty() || tokens.len() != cache.len() {
        let (tokens, held) = (tokens.len(), cache.len());
        return Err(Error::misuse(format!("cannot save {tokens} tokens of {held} positions")));
    }
    model.transformer().check_tokens(tokens)?;
    let shape = cache.shape();
    if *shape != *model.transformer().kv_shape(shape.kv_type(), shape.long_rope()) {
        return Err(Error::misuse("the cache to be saved is of another model"));
    }
    let temporary = temporary(path)?;
    let result = write_file(&temporary, model, tokens, cache)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::io(path, e)));
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    sync_folder(path)
}

/// Reads what [`write`] saved, with `model`, into a cache of `kv_type` that is full
/// to its capacity ([`KvCache::set_capacity`] raises that).
///
/// # Errors
/// [`Error::Misuse`] for a prefix of another model or other options,
/// [`Error::Unsupported`] for one of a newer version, [`Error::File`] for a damaged
/// one, [`Error::Limit`] if `budget` has not the memory, [`Error::Io`].
pub(crate) fn read(
    path: &Path,
    model: &Model,
    budget: &Arc<KvBudget>,
    kv_type: KvType,
) -> Result<(Vec<u32>, KvCache)> {
    little_endian()?;
    let mut source = Source::open(path)?;
    let Fixed { digest, positions, shape } = read_fixed(&mut source, model, kv_type)?;
    let begin = read_layers(&mut source, &shape, positions)?;
    if digest != model.digest() {
        let place = source.place();
        return Err(Error::misuse(format!("{place} was saved with another model")));
    }
    let tokens = read_tokens(&mut source, model, positions)?;
    let mut cache = KvCache::blank(shape.clone(), budget.clone(), positions, &begin)?;
    if let Some(state) = cache.present_state_mut() {
        let at = source.at;
        source.fill(bytemuck::cast_slice_mut(state))?;
        if state.iter().any(|x| !x.is_finite()) {
            return Err(source.broken(&format!("holds a state that is not finite at byte {at}")));
        }
    }
    for (layer, &begin) in begin.iter().enumerate() {
        for page in begin..positions.div_ceil(PAGE) {
            for head in 0..shape.layers()[layer].kv_heads {
                let Some(part) = cache.part_mut(layer, page, head) else {
                    return Err(source.broken("pages do not fit the cache"));
                };
                let at = source.at;
                source.fill(part)?;
                check_part(shape.head(layer), part, positions - page * PAGE)
                    .map_err(|what| source.broken(&format!("holds {what} at byte {at}")))?;
            }
        }
    }
    let expected: [u8; 32] = source.hash.clone().finalize().into();
    if source.array::<32>()? != expected {
        return Err(source.broken("is damaged: the checksum does not match"));
    }
    Ok((tokens, cache))
}

fn little_endian() -> Result<()> {
    if cfg!(target_endian = "little") {
        return Ok(());
    }
    let at = Place::Prefix(String::new());
    Err(Error::unsupported(at, "this machine keeps numbers in another order"))
}

fn type_number(kv_type: KvType) -> u32 {
    match kv_type {
        KvType::I16 => 1,
        KvType::Q8_0 => 2,
        KvType::F32 => 3,
    }
}

/// The name of a type in a file; `type 9` for one that this version does not have.
fn type_name(number: u32) -> String {
    let known = KvType::ALL.into_iter().find(|kv_type| type_number(*kv_type) == number);
    known.map_or_else(|| format!("type {number}"), |kv_type| kv_type.to_string())
}

// Writing

/// An unused name beside `path`.
fn temporary(path: &Path) -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::misuse(format!("{} does not name a file", path.display())));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{count}.part", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// After a rename the name itself must reach the disk.
fn sync_folder(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(()); // elsewhere folders cannot be opened
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let sync = File::open(folder).and_then(|folder| folder.sync_all());
    sync.map_err(|e| Error::io(folder, e))
}

fn write_file(path: &Path, model: &Model, tokens: &[u32], cache: &KvCache) -> Result<()> {
    let file = File::options().write(true).create_new(true).open(path);
    let file = file.map_err(|e| Error::io(path, e))?;
    let mut sink = Sink { out: BufWriter::with_capacity(1 << 16, file), hash: Sha256::new() };
    let shape = cache.shape();
    let front = front(model, tokens, cache);
    sink.put(&front).map_err(|e| Error::io(path, e))?;
    if let Some(state) = cache.present_state() {
        if state.iter().any(|x| !x.is_finite()) {
            let problem = "the prefix cannot be saved: a recurrent state is not finite";
            return Err(Error::NonFinite(problem.into()));
        }
        sink.put(bytemuck::cast_slice(state)).map_err(|e| Error::io(path, e))?;
    }
    for (layer, KvLayer { kv_heads, .. }) in shape.layers().iter().enumerate() {
        let head_shape = shape.head(layer);
        // In f32, for the alignment of a page.
        let mut buffer = vec![0f32; head_shape.bytes() / size_of::<f32>()];
        let part: &mut [u8] = bytemuck::cast_slice_mut(&mut buffer);
        for page in cache.pages(layer) {
            for head in 0..*kv_heads {
                let Some(held) = cache.part(layer, page, head) else {
                    return Err(Error::misuse(format!("page {page} of layer {layer} is gone")));
                };
                part.copy_from_slice(held);
                let slots = (cache.len() - page * PAGE).min(PAGE);
                clear_slots(head_shape, part, slots);
                check_part(head_shape, part, slots).map_err(|what| {
                    let at = format!("layer {layer}, positions from {} on", page * PAGE);
                    Error::NonFinite(format!("the prefix cannot be saved: {what} in {at}"))
                })?;
                sink.put(part).map_err(|e| Error::io(path, e))?;
            }
        }
    }
    sink.finish().map_err(|e| Error::io(path, e))
}

/// Everything before the pages.
fn front(model: &Model, tokens: &[u32], cache: &KvCache) -> Vec<u8> {
    let shape = cache.shape();
    let mut front = Vec::new();
    front.extend(MAGIC);
    front.extend(VERSION.to_le_bytes());
    front.extend(type_number(shape.kv_type()).to_le_bytes());
    front.extend(model.digest());
    for size in [shape.layers().len(), PAGE, usize::from(shape.long_rope())] {
        front.extend((size as u32).to_le_bytes());
    }
    front.extend((tokens.len() as u64).to_le_bytes());
    for (index, layer) in shape.layers().iter().enumerate() {
        front.extend((layer.window.unwrap_or(0) as u64).to_le_bytes());
        front.extend((cache.pages(index).start as u64).to_le_bytes());
        front.extend((layer.kv_heads as u32).to_le_bytes());
        front.extend((layer.head_dim as u32).to_le_bytes());
    }
    front.extend(((shape.state_bytes() / size_of::<f32>()) as u64).to_le_bytes());
    front.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    front
}

/// A file being written, and the hash of what is in it.
struct Sink {
    out: BufWriter<File>,
    hash: Sha256,
}

impl Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.hash.finalize())?;
        self.out.into_inner().map_err(|e| e.into_error())?.sync_all()
    }
}

// Reading

/// A file being read, and the hash of what was read.
struct Source<'a> {
    path: &'a Path,
    file: BufReader<File>,
    hash: Sha256,
    /// Bytes read.
    at: u64,
    /// Bytes of the file when it was opened.
    len: u64,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let error = |e| Error::io(path, e);
        // Asked before: opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(error)?.is_file() {
            return Err(Error::misuse(format!("{} is not a file", path.display())));
        }
        let file = File::open(path).map_err(error)?;
        let len = file.metadata().map_err(error)?.len();
        let file = BufReader::with_capacity(1 << 16, file);
        Ok(Source { path, file, hash: Sha256::new(), at: 0, len })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.broken("is truncated"),
            _ => Error::io(self.path, e),
        })?;
        self.hash.update(&*bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn place(&self) -> Place {
        let name = self.path.file_name().unwrap_or_default();
        Place::Prefix(name.to_string_lossy().into_owned())
    }

    fn broken(&self, problem: &str) -> Error {
        Error::file(self.place(), problem)
    }

    /// Of what other circumstances the prefix is.
    fn foreign(&self, what: &str, saved: impl Display, here: impl Display) -> Error {
        let place = self.place();
        Error::misuse(format!("{place} was saved with {what} {saved}; here it is {here}"))
    }
}

/// The fixed part of the front.
struct Fixed {
    /// Of the model it was saved with.
    digest: [u8; 32],
    positions: usize,
    /// What the cache of this model would be.
    shape: Arc<KvShape>,
}

/// Reads the fixed part of the front, and compares it with what `model` has.
fn read_fixed(source: &mut Source<'_>, model: &Model, kv_type: KvType) -> Result<Fixed> {
    if source.array()? != MAGIC {
        return Err(source.broken("is not a saved prefix"));
    }
    match source.u32()? {
        VERSION => {}
        0 => return Err(source.broken("has version 0")),
        version => {
            let problem = format!("has version {version}; this program reads {VERSION}");
            return Err(Error::unsupported(source.place(), problem));
        }
    }
    let saved_type = source.u32()?;
    let digest: [u8; 32] = source.array()?;
    let (layers, page, long_rope) = (source.u32()?, source.u32()?, source.u32()?);
    let positions = source.u64()?;
    debug_assert_eq!(source.at, FIXED as u64);
    let transformer = model.transformer();
    let shape = transformer.kv_shape(kv_type, long_rope == 1);
    if saved_type != type_number(kv_type) {
        return Err(source.foreign("KV type", type_name(saved_type), kv_type));
    }
    for (name, saved, here) in [
        ("layers", layers, shape.layers().len() as u32),
        ("page size", page, PAGE as u32),
        ("long rope", long_rope, u32::from(shape.long_rope())),
    ] {
        if saved != here {
            return Err(source.foreign(name, saved, here));
        }
    }
    // Each position has a token, so the file's length bounds them.
    let possible = 1..=source.len / size_of::<u32>() as u64;
    match usize::try_from(positions) {
        Ok(positions) if possible.contains(&(positions as u64)) => {
            Ok(Fixed { digest, positions, shape })
        }
        _ => Err(source.broken(&format!("has {positions} positions in {} bytes", source.len))),
    }
}

/// Reads the first page held of each layer, and compares the length of the file
/// with what must follow.
fn read_layers(source: &mut Source<'_>, shape: &KvShape, positions: usize) -> Result<Vec<usize>> {
    let mut begin = Vec::with_capacity(shape.layers().len());
    let state = shape.state_bytes() as u64;
    let front = positions as u64 * size_of::<u32>() as u64 + CHECKSUM;
    let mut bytes = front.checked_add(state);
    for (layer, &KvLayer { kv_heads, head_dim, window }) in shape.layers().iter().enumerate() {
        let (saved, here) = (source.u64()?, window.unwrap_or(0) as u64);
        if saved != here {
            return Err(source.foreign("the sliding window", saved, here));
        }
        let first = source.u64()?;
        let possible = kept_pages(positions, window);
        match usize::try_from(first) {
            Ok(first) if possible.contains(&first) => begin.push(first),
            _ => return Err(source.broken(&format!("layer {layer} begins at page {first}"))),
        }
        for (name, here) in [("KV heads", kv_heads), ("head size", head_dim)] {
            let saved = source.u32()?;
            if saved as usize != here {
                return Err(source.foreign(name, saved, here));
            }
        }
        let pages = positions.div_ceil(PAGE) as u64 - first;
        let of_layer = (shape.head(layer).bytes() as u64)
            .checked_mul(kv_heads as u64)
            .and_then(|bytes| bytes.checked_mul(pages));
        bytes = bytes.zip(of_layer).and_then(|(bytes, of_layer)| bytes.checked_add(of_layer));
    }
    let (saved, here) = (source.u64()?, state / size_of::<f32>() as u64);
    if saved != here {
        return Err(source.foreign("floats of recurrent states", saved, here));
    }
    match bytes.and_then(|bytes| bytes.checked_add(source.at)) {
        Some(len) if len == source.len => Ok(begin),
        len => {
            let len = len.map_or("more".into(), |len| len.to_string());
            Err(source.broken(&format!("has {} bytes of {len}", source.len)))
        }
    }
}

/// Reads the tokens; their number was compared with the file's length.
fn read_tokens(source: &mut Source<'_>, model: &Model, positions: usize) -> Result<Vec<u32>> {
    let mut tokens = vec![0u32; positions];
    source.fill(bytemuck::cast_slice_mut(&mut tokens))?;
    match model.transformer().check_tokens(&tokens) {
        Ok(()) => Ok(tokens),
        Err(error) => Err(source.broken(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::ModelOptions;
    use crate::kv_cache::max_code;
    use crate::model::forward::{Feed, State, Wanted};

    const TYPES: [KvType; 3] = [KvType::I16, KvType::Q8_0, KvType::F32];

    /// Full attention or the window asked for, and heads of 8 dimensions: half of
    /// each line of codes is padding.
    fn small(sliding_window: Option<usize>) -> Model {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models/stories260K.gguf");
        let options = ModelOptions { threads: Some(2), sliding_window, ..Default::default() };
        Model::open_with(path, &options).unwrap()
    }

    /// A window of 128.
    fn storyteller() -> Model {
        Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/storyteller-q4_k_m.gguf")).unwrap()
    }

    /// A folder that goes away with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("tramontane-saved-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("prefix")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn tokens(len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| (i * i + 7 * i + 3) % 500).collect()
    }

    /// The bits of the logits after each token.
    fn feed(model: &Model, cache: &mut KvCache, tokens: &[u32]) -> Vec<u32> {
        cache.set_capacity(100_000).unwrap();
        let mut state = State::default();
        let mut feeds = [Feed { cache, tokens, wanted: Wanted::All }];
        model.transformer().forward(&mut state, &mut feeds, &AtomicBool::new(false)).unwrap();
        state.logits.iter().map(|x| x.to_bits()).collect()
    }

    fn computed(model: &Model, kv_type: KvType, tokens: &[u32]) -> KvCache {
        let mut cache = model.transformer().cache(tokens.len(), kv_type);
        tokens.chunks(100).for_each(|tokens| _ = feed(model, &mut cache, tokens));
        cache
    }

    fn read_free(path: &Path, model: &Model, kv_type: KvType) -> Result<(Vec<u32>, KvCache)> {
        read(path, model, &KvBudget::unlimited(), kv_type)
    }

    #[test]
    fn what_is_read_back_computes_the_same_bits() {
        let folder = Folder::new("same");
        let cases = [
            (small(None), 1),
            (small(None), 128),
            (small(None), 150),
            (small(Some(1)), 128),
            (small(Some(40)), 250),
            // Blocks of two pages, of which the first held is the second.
            (small(Some(1100)), 1500),
            (storyteller(), 60),
            (storyteller(), 333),
        ];
        for ((model, len), kv_type) in cases.iter().flat_map(|case| TYPES.map(|t| (case, t))) {
            let (prefix, next) = (tokens(*len), tokens(70));
            let context = format!("{:?} {len} {kv_type:?}", model.name());
            let mut original = computed(model, kv_type, &prefix);
            write(&folder.file(), model, &prefix, &original).unwrap();
            let first = fs::read(folder.file()).unwrap();
            let (read_tokens, mut restored) = read_free(&folder.file(), model, kv_type).unwrap();
            assert_eq!(read_tokens, prefix);
            let mut back = restored.fork();
            let expected = feed(model, &mut original, &next);
            assert_eq!(feed(model, &mut restored, &next), expected, "{context}");

            // Also after a rejected draft, as far as is promised.
            let most = len.saturating_sub(KvCache::MOST_BACK);
            back.truncate(most).unwrap();
            let again = feed(model, &mut back, &prefix[most..]);
            let mut short = computed(model, kv_type, &prefix[..most]);
            assert_eq!(again, feed(model, &mut short, &prefix[most..]), "{context}");

            // What was forgotten leaves no trace in the file. (A window that has moved
            // on holds fewer pages, so there the file of the other is compared.)
            let windowed = restored.shape().layers()[0].window.is_some();
            restored.truncate(*len).unwrap_or(());
            let held = if windowed { &back } else { &restored };
            write(&folder.file(), model, &prefix, held).unwrap();
            assert!(fs::read(folder.file()).unwrap() == first, "{context}");
        }
    }

    #[test]
    fn a_window_does_not_reach_before_what_was_saved() {
        let folder = Folder::new("window");
        let model = small(Some(1100));
        let prefix = tokens(1500);
        let original = computed(&model, KvType::I16, &prefix);
        write(&folder.file(), &model, &prefix, &original).unwrap();
        let (_, mut restored) = read_free(&folder.file(), &model, KvType::I16).unwrap();
        // Page 5 is the first saved: position 1419 would see 320, 1418 one before.
        assert!(restored.truncate(1418).is_err(), "page 4 of the block is not there");
        restored.truncate(1419).unwrap();
        let again = feed(&model, &mut restored, &prefix[1419..]);
        let mut short = computed(&model, KvType::I16, &prefix[..1419]);
        assert_eq!(again, feed(&model, &mut short, &prefix[1419..]));
    }

    #[test]
    fn any_changed_byte_and_any_missing_one_is_an_error() {
        let folder = Folder::new("damage");
        let model = small(Some(40));
        let prefix = tokens(70);
        for kv_type in TYPES {
            let cache = computed(&model, kv_type, &prefix);
            write(&folder.file(), &model, &prefix, &cache).unwrap();
            let good = fs::read(folder.file()).unwrap();
            let layers = FIXED + OF_LAYER * cache.shape().layers().len();
            let front = layers + OF_STATES + 4 * prefix.len();
            let step = (good.len() - front) / 500;
            let places = (0..front).chain((front..good.len()).step_by(step));
            for at in places.chain(good.len() - 32..good.len()) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                fs::write(folder.file(), &bad).unwrap();
                let result = read_free(&folder.file(), &model, kv_type);
                assert!(result.is_err(), "{kv_type:?}: byte {at} of {}", good.len());
            }
            let lens = (0..front).step_by(7).chain((front..good.len()).step_by(step));
            for len in lens.chain([good.len() - 1]) {
                fs::write(folder.file(), &good[..len]).unwrap();
                let error = read_free(&folder.file(), &model, kv_type).err().unwrap();
                assert!(matches!(error, Error::File { .. }), "{len}: {error}");
            }
            let longer = [&good[..], &[0]].concat();
            fs::write(folder.file(), longer).unwrap();
            let error = read_free(&folder.file(), &model, kv_type).err().unwrap();
            assert!(matches!(error, Error::File { .. }), "{error}");
            fs::write(folder.file(), &good).unwrap();
            read_free(&folder.file(), &model, kv_type).unwrap();
        }
    }

    /// A file whose checksum is right and whose content is not.
    fn forged(good: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut bad = good[..good.len() - CHECKSUM as usize].to_vec();
        assert_ne!(&bad[at..at + bytes.len()], bytes, "nothing is changed");
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        let checksum: [u8; 32] = Sha256::digest(&bad).into();
        bad.extend(checksum);
        bad
    }

    #[test]
    fn a_hostile_file_with_a_good_checksum_is_refused() {
        let folder = Folder::new("hostile");
        let model = small(Some(40));
        let prefix = tokens(70);
        let most = max_code(8);
        for kv_type in TYPES {
            let cache = computed(&model, kv_type, &prefix);
            write(&folder.file(), &model, &prefix, &cache).unwrap();
            let good = fs::read(folder.file()).unwrap();
            let layers = FIXED + OF_LAYER * cache.shape().layers().len() + OF_STATES;
            let page = layers + 4 * prefix.len();
            let part = cache.shape().head(0).bytes();
            // Of the first page, after 4 heads, and held to slot 6 only.
            let last = page + 4 * part;
            let mut cases: Vec<(&str, usize, Vec<u8>)> = vec![
                ("positions", FIXED - 8, 0u64.to_le_bytes().into()),
                ("positions", FIXED - 8, 71u64.to_le_bytes().into()),
                ("positions", FIXED - 8, (1u64 << 62).to_le_bytes().into()),
                ("positions", FIXED - 8, u64::MAX.to_le_bytes().into()),
                ("first page", FIXED + 8, 1u64.to_le_bytes().into()),
                ("first page", FIXED + 8, u64::MAX.to_le_bytes().into()),
                ("token", layers, (model.n_vocab() as u32).to_le_bytes().into()),
                ("token", page - 4, u32::MAX.to_le_bytes().into()),
            ];
            let scales = |cases: &mut Vec<_>, name, at: usize| {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 1e-40] {
                    cases.push((name, at, bad.to_le_bytes().into()));
                }
            };
            match kv_type {
                KvType::I16 => {
                    scales(&mut cases, "key scale", page);
                    scales(&mut cases, "value scale", page + 4 * (PAGE + 63));
                    cases.push(("scale not held", last + 4 * 6, 1f32.to_le_bytes().into()));
                    for bad in [most + 1, -most - 1, i16::MAX, i16::MIN] {
                        cases.push(("key", page + 512, bad.to_le_bytes().into()));
                        cases.push(("value", page + part - 20, bad.to_le_bytes().into()));
                    }
                    // Dimension 8 of a head of 8.
                    cases.push(("key beyond", page + 512 + 16 * 64, vec![1, 0]));
                    cases.push(("value beyond", page + part - 2, vec![1, 0]));
                }
                KvType::Q8_0 => {
                    scales(&mut cases, "key scale", page + 4);
                    scales(&mut cases, "value scale", page + 4 * PAGE);
                    for bad in [-1, most + 1, i16::MIN, i16::MAX] {
                        cases.push(("ratio", page + 512, bad.to_le_bytes().into()));
                    }
                    cases.push(("code", page + 512 + 128, vec![0x80]));
                    cases.push(("code beyond", page + part - 1, vec![1]));
                }
                KvType::F32 => {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        cases.push(("key", page, bad.to_le_bytes().into()));
                        cases.push(("value", page + part - 4, bad.to_le_bytes().into()));
                    }
                }
            }
            let budget = KvBudget::new(1 << 30);
            for (name, at, bytes) in cases {
                fs::write(folder.file(), forged(&good, at, &bytes)).unwrap();
                let error = read(&folder.file(), &model, &budget, kv_type).err().unwrap();
                let context = format!("{kv_type:?} {name} {bytes:?}: {error}");
                assert!(matches!(error, Error::File { .. }), "{context}");
                assert!(!error.to_string().contains("checksum"), "{context}");
                assert_eq!((budget.used(), budget.promised()), (0, 0), "{context}");
            }
        }
    }

    #[test]
    fn other_models_options_versions_and_budgets_are_told_apart() {
        let folder = Folder::new("other");
        let model = small(Some(40));
        let prefix = tokens(70);
        let cache = computed(&model, KvType::I16, &prefix);
        write(&folder.file(), &model, &prefix, &cache).unwrap();
        let good = fs::read(folder.file()).unwrap();
        let refused = |model: &Model, kv_type| {
            let error = read_free(&folder.file(), model, kv_type).err().unwrap();
            assert!(matches!(error, Error::Misuse(_)), "{error}");
            error.to_string()
        };
        assert!(refused(&model, KvType::F32).contains("KV type i16; here it is f32"));
        assert!(refused(&storyteller(), KvType::I16).contains("layers"));
        // The same shape: one weight differs, or the window.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models/stories260K.gguf");
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let options = ModelOptions { sliding_window: Some(40), ..Default::default() };
        let other = Model::from_gguf(crate::Gguf::from_bytes(bytes).unwrap(), &options).unwrap();
        assert!(refused(&other, KvType::I16).contains("another model"));
        assert!(refused(&small(Some(41)), KvType::I16).contains("window 40; here it is 41"));
        assert!(refused(&small(None), KvType::I16).contains("window 40; here it is 0"));

        let budget = KvBudget::new(1000);
        let error = read(&folder.file(), &model, &budget, KvType::I16).err().unwrap();
        assert!(matches!(error, Error::Limit { allowed: 1000, .. }), "{error}");
        assert_eq!((budget.used(), budget.promised()), (0, 0));

        fs::write(folder.file(), forged(&good, 8, &[VERSION as u8 + 1])).unwrap();
        let error = read_free(&folder.file(), &model, KvType::I16).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = read_free(&folder.0, &model, KvType::I16).err().unwrap();
        assert!(matches!(error, Error::Misuse(_)), "{error}");
        let error = read_free(&folder.0.join("none"), &model, KvType::I16).err().unwrap();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_read_back_is_not_written_and_leaves_nothing_behind() {
        let folder = Folder::new("refuse");
        let model = small(None);
        let prefix = tokens(70);
        let mut cache = computed(&model, KvType::I16, &prefix);
        write(&folder.file(), &model, &prefix, &cache).unwrap();
        let good = fs::read(folder.file()).unwrap();
        let refuse = |model: &Model, tokens: &[u32], cache: &KvCache| {
            let error = write(&folder.file(), model, tokens, cache).unwrap_err();
            assert_eq!(fs::read(folder.file()).unwrap(), good, "{error}: the old file stays");
            assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "{error}: nothing else");
            error
        };
        let misuse = |error| assert!(matches!(error, Error::Misuse(_)), "{error}");
        misuse(refuse(&model, &prefix[1..], &cache));
        misuse(refuse(&model, &[], &model.transformer().cache(1, KvType::I16)));
        misuse(refuse(&model, &[u32::MAX; 70], &cache));
        misuse(refuse(&storyteller(), &prefix, &cache));
        let nowhere = folder.0.join("no such folder").join("prefix");
        let error = write(&nowhere, &model, &prefix, &cache).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        misuse(write(Path::new("/"), &model, &prefix, &cache).unwrap_err());

        let part = cache.part_mut(2, 1, 1).unwrap();
        part[4 * 5..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let error = refuse(&model, &prefix, &cache);
        assert!(matches!(error, Error::NonFinite(_)), "{error}");
        // A position that is not held may be anything.
        cache.truncate(64 + 5).unwrap();
        write(&folder.file(), &model, &prefix[..69], &cache).unwrap();
        read_free(&folder.file(), &model, KvType::I16).unwrap();
    }
}
