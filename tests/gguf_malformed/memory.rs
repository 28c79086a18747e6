//! The heap each thread holds, counted by the allocator.

#![allow(clippy::print_stdout, reason = "the figures are worth reading in the test's output")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tramontane::{Error, Gguf};

use super::build::File;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are
// constant-initialized thread locals, which allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    // `realloc` is the default one: the old and the new block, both counted.
}

/// What `work` returns, and the most heap it held on this thread.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

#[test]
fn the_counter_counts() {
    let (_, peak) = peak_of(|| drop(vec![0u8; 1 << 20]));
    assert!((1 << 20..(1 << 20) + 64).contains(&peak), "{peak}");
}

/// A file that is as expensive as `items` small things can make it. `parse`
/// checks the bound.
fn hold(name: &str, file: File) -> Result<Gguf, Error> {
    let bytes = file.bytes();
    let len = bytes.len();
    let (result, peak) = peak_of(|| Gguf::from_bytes(bytes));
    assert!(peak <= 4 * len + (1 << 20), "{name}: {peak} bytes of heap for a file of {len}");
    println!("{name}: file {len}, heap {peak} ({:.2} x)", peak as f64 / len as f64);
    result
}

/// Keys of `n` different numbers in as few bytes as possible.
fn short_name(n: usize) -> String {
    char::from_u32(1 + n as u32).map_or_else(|| n.to_string(), String::from)
}

#[test]
fn many_of_the_smallest_pairs() {
    for n in [127, 8192] {
        let mut file = File::new();
        for index in 0..n {
            file = file.pair(&short_name(index), 0, &[7]);
        }
        assert_eq!(hold("smallest pairs", file).unwrap().metadata().len(), n);
    }
    let mut file = File::new();
    for index in 0..8193 {
        file = file.pair(&short_name(index), 0, &[7]);
    }
    assert!(hold("too many pairs", file).is_err());
}

#[test]
fn many_of_the_smallest_records() {
    for n in [127, 16_384] {
        let mut file = File::new();
        for index in 0..n {
            file = file.tensor(&short_name(index), &[0], 0, 0);
        }
        let file = file.pad(32);
        assert_eq!(hold("smallest records", file).unwrap().tensors().len(), n);
    }
}

#[test]
fn many_strings() {
    let n = 1 << 18;
    let hold = |name, text: &str| {
        let mut array = File::array_head(8, n);
        for _ in 0..n {
            array.extend_from_slice(&(text.len() as u64).to_le_bytes());
            array.extend_from_slice(text.as_bytes());
        }
        hold(name, File::new().pair("tokens", 9, &array)).unwrap()
    };
    let file = hold("empty strings", "");
    assert_eq!(file.metadata().strings("tokens").unwrap().len(), n as usize);
    hold("short strings", "x");
    hold("long strings", &"x".repeat(40));
}

#[test]
fn many_small_arrays() {
    let mut file = File::new();
    for index in 0..8192 {
        let strings = [&File::array_head(8, 1)[..], &0u64.to_le_bytes()].concat();
        let empty = File::array_head(8, 0);
        file = file.pair(&short_name(index), 9, if index % 2 == 0 { &strings } else { &empty });
    }
    assert_eq!(hold("small arrays", file).unwrap().metadata().len(), 8192);
}

#[test]
fn large_arrays_of_each_type() {
    for (id, width) in [(0, 1), (1, 1), (2, 2), (4, 4), (6, 4), (7, 1), (10, 8), (12, 8)] {
        let n = 1 << 20;
        let mut array = File::array_head(id, n);
        array.resize(array.len() + n as usize * width, 1);
        let file = hold(&format!("array of type {id}"), File::new().pair("a", 9, &array)).unwrap();
        assert!(file.metadata().get("a").is_some());
    }
}

/// MG-12: nested arrays are skipped, up to a depth.
#[test]
fn nested_arrays() {
    for depth in [1, 8, 9, 64, 10_000] {
        let mut array = Vec::new();
        for _ in 0..depth {
            array.extend_from_slice(&File::array_head(9, 1));
        }
        array.extend_from_slice(&File::array_head(0, 0));
        match hold("nested arrays", File::new().pair("deep", 9, &array)) {
            Ok(file) => {
                assert!(depth <= 8, "{depth}");
                let (key, problem) = file.metadata().unreadable().next().unwrap();
                assert_eq!((key, problem), ("deep", "arrays of arrays are not supported"));
            }
            Err(error) => {
                assert!(matches!(error, Error::Unsupported { .. }), "{error}");
                let said = r#"key "deep": arrays nested more than 8 deep"#;
                assert!(depth > 8 && error.to_string().contains(said), "{error}");
            }
        }
    }
}
