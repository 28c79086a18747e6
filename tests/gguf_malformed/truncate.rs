//! MG-01, MG-31: every prefix of real files.

use rayon::prelude::*;
use tramontane::{Error, Gguf, Place};

use super::{kind_and_place, parse_static, real_files};

fn data_start(file: &Gguf, bytes: &[u8]) -> usize {
    let first = file.tensors()[0].bytes();
    // A model of static bytes lends them out: pointers tell the place.
    first.as_ptr() as usize - bytes.as_ptr() as usize
}

#[test]
fn every_prefix_of_the_front_is_refused() {
    for (path, bytes) in real_files() {
        let front = data_start(&Gguf::from_bytes(bytes).unwrap(), bytes);
        // Every byte; without optimization only every 61st of a long vocabulary.
        let short = front < 20_000 || !cfg!(debug_assertions);
        let cuts = (0..=front)
            .into_par_iter()
            .filter(|&len| short || len < 2048 || len + 8192 > front || len % 61 == 0);
        cuts.for_each(|len| {
            let error = parse_static(&bytes[..len])
                .map(drop)
                .expect_err(&format!("{path} cut to {len} bytes was accepted"));
            let Error::File { at, .. } = &error else { panic!("{path} cut to {len}: {error:?}") };
            match at {
                Place::Header => assert!(len < 4, "{path} cut to {len}: {error}"),
                Place::Offset(offset) => assert!(*offset <= len as u64, "{error}"),
                Place::Key(_) | Place::Tensor(_) => {}
                other => panic!("{path} cut to {len}: {other:?}"),
            }
            let text = error.to_string();
            assert!(len < 4 || text.contains("download may be incomplete"), "{text}");
        });
    }
}

#[test]
fn a_cut_in_the_data_names_the_first_tensor_that_is_lost() {
    for (path, bytes) in real_files() {
        let file = Gguf::from_bytes(bytes).unwrap();
        for tensor in file.tensors() {
            let start = tensor.bytes().as_ptr() as usize - bytes.as_ptr() as usize;
            let end = start + tensor.bytes().len();
            for len in [start - 1, start, start + 1, end - 1] {
                let error = parse_static(&bytes[..len]).unwrap_err();
                assert!(matches!(kind_and_place(&error).1, Place::Tensor(_)), "{path}: {error}");
                assert!(error.to_string().contains("past the end of the file"), "{error}");
            }
            let next_is_lost = parse_static(&bytes[..end]);
            let is_last = end == bytes.len();
            assert_eq!(next_is_lost.is_ok(), is_last, "{path} cut after {}", tensor.name());
        }
    }
}

/// Real files end with the last tensor's padding, or without any.
#[test]
fn trailing_junk_is_accepted() {
    for (_, bytes) in real_files() {
        let longer = [bytes, b"junk"].concat();
        assert!(Gguf::from_bytes(longer).is_ok());
    }
}
