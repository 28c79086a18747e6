//! One hand-built file per way to break the rules: MG-02 to MG-31.

use tramontane::{Error, Place};

use super::Kind::{Broken, Foreign};
use super::build::File;
use super::{Kind, kind_and_place, parse};

/// `file` must be refused as `kind`, in a text that has all of `parts`.
#[track_caller]
fn refused(name: &str, file: &File, kind: Kind, parts: &[&str]) {
    let error = match parse(file.bytes()) {
        Ok(_) => panic!("{name}: accepted"),
        Err(error) => error,
    };
    assert_eq!(kind_and_place(&error).0, kind, "{name}: {error:?}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{name}: {part:?} is not in: {text}");
    }
}

#[track_caller]
fn accepted(name: &str, file: &File) {
    if let Err(error) = parse(file.bytes()) {
        panic!("{name}: {error}");
    }
}

/// A value that breaks a rule of its type does not keep the rest from being read: only who
/// asks for it fails, and it is written again as it was.
#[track_caller]
fn unreadable(name: &str, file: &File, parts: &[&str]) {
    let bytes = file.bytes();
    let read = parse(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let metadata = read.metadata();
    let error = metadata.opt_bool("the.key").map(drop).unwrap_err().to_string();
    assert!(error.starts_with("key \"the.key\": "), "{name}: {error}");
    for part in parts {
        assert!(error.contains(part), "{name}: {error}");
    }
    let (key, problem) = metadata.unreadable().next().unwrap();
    assert!(key == "the.key" && error.ends_with(problem), "{name}: {problem}");
    let mut again = Vec::new();
    read.write_to(&mut again).unwrap();
    assert_eq!(parse(again).unwrap().metadata(), metadata, "{name}");
}

/// A number at a place in the file, as declared lengths are.
fn le(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

/// A key/value pair whose key has the declared length `len`.
fn key_of_len(len: u64) -> File {
    File::new().raw_pair(&[&le(len)[..], &[b'k'; 64]].concat())
}

fn record(name: &[u8], n_dims: u32, dims: &[u64], type_id: u32, offset: u64) -> File {
    let mut bytes = File::string(name);
    bytes.extend_from_slice(&n_dims.to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend_from_slice(&le(*dim)));
    bytes.extend_from_slice(&type_id.to_le_bytes());
    bytes.extend_from_slice(&le(offset));
    File::new().raw_tensor(&bytes).data(4096)
}

#[test]
fn mg_02_03_magic_and_version() {
    for magic in [b"FUGG", b"ggml", b"gguf", b"GGUf"] {
        let file = File { magic: *magic, ..File::new() };
        refused("magic", &file, Broken, &["GGUF header: not a GGUF file"]);
    }
    let version = |version| File { version, ..File::new() };
    refused("version 0", &version(0), Broken, &["GGUF header", "version 0"]);
    for (number, part) in [
        (1, "version 1"),
        (4, "version 4"),
        (u32::MAX, "version 4294967295"),
        (0x0300_0000, "big-endian"),
        (0x0100_0000, "big-endian"),
    ] {
        refused("version", &version(number), Foreign, &["GGUF header", part]);
    }
    accepted("version 2", &version(2));
}

#[test]
fn mg_04_05_06_counts() {
    for n in [u64::MAX, 1 << 63, 1 << 32, 1 << 24, 4096 / 33 + 1] {
        let file = File { n_tensors: Some(n), ..File::new() }.data(4064);
        refused("tensors", &file, Broken, &["byte 24", &format!("{n} tensors declared")]);
    }
    for n in [u64::MAX, 1 << 63, 0x0555_5555_5555_555A, 4096 / 14 + 1] {
        let file = File { n_pairs: Some(n), ..File::new() }.data(4064);
        refused("pairs", &file, Broken, &["byte 24", &format!("{n} key/value pairs declared")]);
    }
    accepted("MG-06: nothing at all", &File::new());
    let many = File { n_pairs: Some(8193), ..File::new() }.data(8193 * 14);
    refused("pairs over the cap", &many, Foreign, &["8193 key/value pairs; at most 8192"]);
    let many = File { n_tensors: Some(16_385), ..File::new() }.data(16_385 * 33);
    refused("tensors over the cap", &many, Foreign, &["16385 tensors; at most 16384"]);
}

#[test]
fn mg_07_08_keys() {
    refused("length 0", &key_of_len(0), Broken, &["byte 24", "key is empty"]);
    for len in [u64::MAX, u64::MAX - 7, 1 << 63, 65] {
        let part = format!("{len} bytes of key declared");
        refused("length", &key_of_len(len), Broken, &["byte 32", &part]);
    }
    let longest = "k".repeat(65_536);
    accepted("65,536 bytes", &File::new().pair(&longest, 0, &[1]));
    let longer = "k".repeat(65_537);
    refused("65,537 bytes", &File::new().pair(&longer, 0, &[1]), Foreign, &["byte 32", "65537"]);
    let megabyte = "k".repeat(1 << 20);
    refused("1 MiB", &File::new().pair(&megabyte, 0, &[1]), Foreign, &["byte 32", "1048576"]);
    for key in ["\0", "a\0", "\0b"] {
        let file = File::new().pair(key, 0, &[1]);
        refused("NUL", &file, Broken, &["byte 24", "contains a NUL"]);
    }
    let file = File::new().raw_pair(&[&le(3)[..], b"a\xFFb", &[0; 5]].concat());
    refused("not UTF-8", &file, Broken, &["byte 33", "key is not UTF-8"]);
}

#[test]
fn mg_09_10_11_values() {
    for id in [13, 255, u32::MAX] {
        let file = File::new().pair("the.key", id, &[0; 16]);
        refused("type", &file, Broken, &["key \"the.key\"", &format!("value type {id}")]);
    }
    for byte in [2, 255] {
        let file = File::new().pair("the.key", 7, &[byte]);
        unreadable("bool", &file, &[&format!("a boolean is {byte}")]);
        let array = [&File::array_head(7, 3)[..], &[0, 1, byte]].concat();
        let file = File::new().pair("the.key", 9, &array);
        unreadable("bools", &file, &[&format!("a boolean is {byte}")]);
    }
    for len in [u64::MAX, 1 << 63, 17] {
        let file = File::new().pair("the.key", 8, &[&le(len)[..], &[b'x'; 16]].concat());
        let part = format!("{len} bytes of string declared");
        refused("string", &file, Broken, &["key \"the.key\"", &part, "byte 51"]);
    }
    accepted("empty string", &File::new().pair("the.key", 8, &le(0)));
    let file = File::new().pair("the.key", 8, &File::string(b"ab\xC3"));
    unreadable("half a character", &file, &["not UTF-8", "byte 53"]);
    let long = File::string(&vec![b'x'; (1 << 24) + 1]);
    let file = File::new().pair("the.key", 8, &long);
    refused("16 MiB and 1", &file, Foreign, &["key \"the.key\"", "16777217"]);
    for width in 0..4 {
        let file = File::new().pair("the.key", 4, &[0; 4][..width]);
        refused("value cut", &file, Broken, &["the file ends inside the value"]);
    }
}

#[test]
fn mg_12_13_14_arrays() {
    let array = |element: u32, count: u64, rest: &[u8]| {
        File::new().pair("the.key", 9, &[&File::array_head(element, count)[..], rest].concat())
    };
    unreadable("of arrays", &array(9, 1, &[0; 12]), &["arrays of arrays"]);
    let strings = [File::array_head(8, 2), File::string(b"a"), File::string(b"")].concat();
    let arrays = [strings, File::array_head(9, 1), File::array_head(5, 1), vec![0; 4]].concat();
    unreadable("of several", &array(9, 2, &arrays), &["arrays of arrays"]);
    refused("cut", &array(9, 3, &arrays), Broken, &["key \"the.key\"", "download"]);
    for id in [13, 64, u32::MAX] {
        let part = format!("array element type {id}");
        refused("type", &array(id, 1, &[0; 64]), Broken, &["key \"the.key\"", &part]);
        refused("type, empty", &array(id, 0, &[]), Broken, &["key \"the.key\"", &part]);
    }
    for (id, width) in [(0, 1), (2, 2), (5, 4), (6, 4), (7, 1), (8, 8), (11, 8), (12, 8)] {
        let fit = 64 / width;
        for count in [u64::MAX, 1 << 63, u64::MAX / width - 1, 0x1000_0000_0000_0001, fit + 1] {
            let part = format!("{count} array elements declared, but only 64 bytes follow");
            refused("count", &array(id, count, &[0; 64]), Broken, &["key \"the.key\"", &part]);
        }
        accepted("as many as fit", &array(id, fit, &[0; 64]));
        accepted("none", &array(id, 0, &[]));
    }
    let many = array(0, (1 << 24) + 1, &vec![0; (1 << 24) + 1]);
    refused("over the cap", &many, Foreign, &["key \"the.key\"", "16777217 array elements"]);
    // Valid as a whole, but a character lies across two strings.
    let halves = [File::string(b"ok"), File::string(b"\xC3"), File::string(b"\xA9")].concat();
    unreadable("halves", &array(8, 3, &halves), &["string 1 ", "UTF-8"]);
    let bad = [File::string(b""), File::string(b"ok"), File::string(b"x\xFF")].concat();
    unreadable("bad string", &array(8, 3, &bad), &["string 2 ", "UTF-8"]);
    let long = [&le(1 << 40)[..], &[0; 8]].concat();
    refused("long string", &array(8, 2, &long), Broken, &["key \"the.key\"", "1099511627776"]);
}

#[test]
fn mg_15_a_key_twice() {
    let once = File::new().pair("a", 0, &[1]).pair("the.key", 0, &[1]);
    for value_type in [0, 1, 7] {
        let twice = once.clone().pair("the.key", value_type, &[1]);
        refused("twice", &twice, Broken, &["key \"the.key\": appears twice"]);
    }
    accepted("another", &once.clone().pair("the.key ", 0, &[1]));
    refused("trailing NUL", &once.pair("the.key\0", 0, &[1]), Broken, &["NUL"]);
}

/// MG-16 to MG-18 are the getters': `tests/gguf_read.rs`. Here: a value that no
/// model can use is still read as what it is.
#[test]
fn mg_17_odd_floats_are_read() {
    for bits in [f32::NAN.to_bits(), f32::INFINITY.to_bits(), 1, 0x8000_0000] {
        let file = parse(File::new().pair("x", 6, &bits.to_le_bytes()).bytes()).unwrap();
        assert_eq!(file.metadata().f32("x").unwrap().to_bits(), bits);
    }
}

/// MG-19: refused by its count, before a single pair is read.
#[test]
fn mg_19_a_million_pairs() {
    let mut file = File::new();
    for n in 0..1_000_000u32 {
        file = file.raw_pair(&[&le(4)[..], &n.to_le_bytes(), &[0; 5]].concat());
    }
    refused("a million", &file, Foreign, &["1000000 key/value pairs"]);
}

#[test]
fn mg_20_tensor_names() {
    for len in [u64::MAX, 1 << 63, 1 << 20] {
        let file = File::new().raw_tensor(&[&le(len)[..], &[0; 64]].concat());
        let part = format!("{len} bytes of tensor name declared");
        refused("length", &file, Broken, &["byte 32", &part]);
    }
    refused("empty", &record(b"", 1, &[4], 0, 0), Broken, &["byte 24", "tensor name is empty"]);
    refused("NUL", &record(b"a\0b", 1, &[4], 0, 0), Broken, &["byte 24", "contains a NUL"]);
    refused("not UTF-8", &record(b"a\xFF", 1, &[4], 0, 0), Broken, &["byte 33", "UTF-8"]);
    // ggml allows 63 bytes; a name is only a name here, never a path.
    for name in [&[b'n'; 64][..], &[b'n'; 65], b"../x", b"/etc/passwd"] {
        accepted("name", &record(name, 1, &[4], 0, 0));
    }
    let file = File::new().tensor("a", &[4], 0, 0).tensor("a", &[4], 0, 32).data(64);
    refused("twice", &file, Broken, &["tensor \"a\": appears twice"]);
    let long = "n".repeat(1000);
    refused("long", &record(long.as_bytes(), 0, &[], 0, 0), Broken, &["nnnnnn…\": has 0"]);
}

#[test]
fn mg_21_22_23_dimensions() {
    for n in [0, 5, 100, u32::MAX] {
        let part = format!("tensor \"t\": has {n} dimensions");
        refused("n_dims", &record(b"t", n, &[4, 1, 1, 1, 1], 0, 0), Broken, &[&part]);
    }
    let huge = u64::MAX;
    for dims in [
        &[huge][..],
        &[1 << 63],
        &[4, huge],
        &[1 << 32, 1 << 32],
        &[1 << 31, 1 << 31, 1 << 31],
        &[1 << 62, 1, 1, 4],
        &[4, 1 << 62],
        &[1 << 62],
    ] {
        let file = record(b"t", dims.len() as u32, dims, 0, 0);
        refused("overflow", &file, Broken, &["tensor \"t\": dimensions", "overflow"]);
    }
    // Bytes fit a u64, but no file; padding them would wrap (we never pad).
    for (type_id, dims) in [(0, &[(1 << 62) - 1][..]), (8, &[32, (1 << 58) - 1]), (0, &[1 << 40])] {
        let file = record(b"t", dims.len() as u32, dims, type_id, 0);
        refused("large", &file, Broken, &["tensor \"t\": ", "past the end of the file"]);
    }
    // Two tensors whose sizes wrap only as a sum.
    let half = 1u64 << 61;
    let file = File::new().tensor("a", &[half - 8], 0, 0).tensor("b", &[half - 8], 0, 0).data(64);
    refused("sum", &file, Broken, &["tensor \"a\": ", "past the end of the file"]);
}

#[test]
fn mg_24_zero_dimensions_make_a_container() {
    for dims in [&[0][..], &[0, 5], &[32, 0], &[32, 4, 0, 2], &[0, 0, 0, 0]] {
        for type_id in [0, 1, 8] {
            let file = record(b"t", dims.len() as u32, dims, type_id, 0);
            let file = parse(file.bytes()).unwrap();
            let tensor = &file.tensors()[0];
            assert_eq!((tensor.dims(), tensor.bytes(), tensor.row(0)), (dims, &[][..], &[][..]));
            assert!(tensor.to_f32().unwrap().is_empty());
        }
    }
    let file = record(b"t", 2, &[1 << 62, 0], 0, 0);
    refused("row overflow", &file, Broken, &["tensor \"t\": dimensions", "overflow"]);
}

#[test]
fn mg_25_types() {
    for id in [4, 5, 9, 15, 31, 32, 33, 36, 37, 38, 1000, 1 << 31, u32::MAX] {
        let part = format!("tensor \"t\": type id {id} ");
        refused("no type", &record(b"t", 1, &[256], id, 0), Broken, &[&part]);
    }
    for (id, name) in [(24, "I8"), (26, "I32"), (28, "F64")] {
        let part = format!("tensor \"t\": type {name} is not supported; supported are F32 F16");
        refused("not ours", &record(b"t", 1, &[256], id, 0), Foreign, &[&part]);
    }
}

#[test]
fn mg_26_rows_of_whole_blocks() {
    use tramontane::Format;
    for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
        let block = format.block_len() as u64;
        // The tensor is a whole number of blocks, but its rows are not.
        for dims in [[block / 2, 2], [block + 1, block], [1, block]] {
            let file = record(b"t", 2, &dims, format.ggml_id(), 0);
            let part = format!("tensor \"t\": rows of {} are no whole number of {format}", dims[0]);
            refused("rows", &file, Broken, &[&part]);
        }
        accepted("one block", &record(b"t", 2, &[block, 1], format.ggml_id(), 0));
    }
}

#[test]
fn mg_27_28_offsets() {
    for offset in [1, 16, 33, u64::MAX, u64::MAX - 15] {
        let part = format!("tensor \"t\": offset {offset} is no multiple of the alignment 32");
        refused("unaligned", &record(b"t", 1, &[4], 0, offset), Broken, &[&part]);
    }
    for offset in [4096, 8192, 1 << 40, 1 << 63, u64::MAX - 31] {
        let part = format!("tensor \"t\": 16 bytes at data offset {offset} reach past the end");
        refused("past the end", &record(b"t", 1, &[4], 0, offset), Broken, &[&part]);
    }
    accepted("up to the end", &record(b"t", 1, &[1024], 0, 0));
    refused("one more", &record(b"t", 1, &[1025], 0, 0), Broken, &["tensor \"t\": 4100 bytes"]);
    let file = File::new().tensor("t", &[4], 0, 0).data(15);
    refused("one byte short", &file, Broken, &["tensor \"t\": 16 bytes"]);
}

#[test]
fn mg_29_overlaps_and_gaps() {
    // (offset, values) of tensors a and b of F32.
    for (name, a, b) in [
        ("identical", (0, 16), (0, 16)),
        ("same start", (0, 16), (0, 8)),
        ("partial", (0, 16), (32, 16)),
        ("containing", (0, 64), (64, 8)),
        ("the wrong way round", (64, 8), (0, 64)),
    ] {
        let file = File::new().tensor("a", &[a.1], 0, a.0).tensor("b", &[b.1], 0, b.0).data(1024);
        refused(name, &file, Broken, &["tensor \"", "overlaps tensor \""]);
    }
    let two = |a, b| File::new().tensor("a", &[8], 0, a).tensor("b", &[8], 0, b);
    accepted("out of order", &two(32, 0).data(64));
    accepted("gap of one alignment", &two(0, 64).data(96));
    accepted("gap at the start", &two(512, 544).data(1024));
    accepted("trailing junk", &two(0, 32).data(65));
    let shared = File::new().tensor("a", &[0], 0, 32).tensor("b", &[8], 0, 32).data(64);
    accepted("a tensor without bytes shares a start", &shared);
    // An overlap between tensors that are no neighbours in the directory.
    let file = two(0, 64).tensor("c", &[1], 0, 32).tensor("d", &[9], 0, 32).data(1024);
    refused("far apart", &file, Broken, &["overlaps tensor"]);
}

#[test]
fn mg_30_alignment() {
    let with = |value: u32| File::new().pair("general.alignment", 4, &value.to_le_bytes());
    for value in [0, 3, 13, 24, 33, 1 << 17, 1 << 31, u32::MAX] {
        let part = format!("key \"general.alignment\": is {value}; a power of two");
        refused("value", &with(value), Broken, &[&part]);
    }
    for (value_type, width) in [(0, 1), (5, 4), (10, 8)] {
        let bytes = &[64, 0, 0, 0, 0, 0, 0, 0][..width];
        let file = parse(File::new().pair("general.alignment", value_type, bytes).bytes());
        assert_eq!(file.unwrap().alignment(), 64);
    }
    let file = File::new().pair("general.alignment", 8, &File::string(b"64"));
    let part = "key \"general.alignment\": should be an integer, but is string";
    refused("type", &file, Broken, &[part]);
    refused("twice", &with(32).pair("general.alignment", 4, &[0; 4]), Broken, &["appears twice"]);
    for alignment in [1, 2, 8, 64, 1 << 16] {
        let file = with(alignment).tensor("t", &[4], 0, u64::from(alignment));
        let file = file.pad(alignment as usize);
        let end = file.front_len().next_multiple_of(alignment as usize);
        let mut bytes = file.bytes();
        bytes.resize(end + alignment as usize, 0);
        bytes.extend_from_slice(&[7; 16]);
        let file = parse(bytes).unwrap();
        assert_eq!(file.alignment(), alignment);
        assert_eq!(file.tensors()[0].bytes(), [7; 16]);
    }
    let file = with(1 << 16).tensor("t", &[4], 0, 0).data(64);
    refused("data starts past the end", &file, Broken, &["tensor \"t\"", "past the end"]);
    accepted("no tensors, no padding", &with(1 << 16));
    // Laid out with 8, declared 64.
    let file = with(64).tensor("a", &[2], 0, 0).tensor("b", &[2], 0, 8).data(256);
    refused("inconsistent", &file, Broken, &["tensor \"b\": offset 8 is no multiple"]);
}

/// MG-31, for the hand-built file that has everything: every prefix.
#[test]
fn mg_31_every_prefix_of_a_small_file() {
    let array = [&File::array_head(8, 2)[..], &File::string(b"ab"), &File::string(b"")].concat();
    let file = File::new()
        .pair("general.alignment", 4, &32u32.to_le_bytes())
        .pair("strings", 9, &array)
        .pair("flag", 7, &[1])
        .tensor("a", &[32, 2], 8, 0)
        .tensor("b", &[4], 0, 96)
        .data(112)
        .bytes();
    for len in 0..file.len() {
        let error = parse(file[..len].to_vec()).map(drop).expect_err("a prefix was accepted");
        assert!(matches!(error, Error::File { .. }), "{len}: {error:?}");
        let place = kind_and_place(&error).1;
        assert_eq!(*place == Place::Header, len < 4, "{len}: {error}");
    }
    assert!(parse(file).is_ok());
}
