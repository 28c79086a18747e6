//! The options of the sampler that a file recommends: `general.sampling.*`, which converters
//! take from `generation_config.json`.

use crate::error::{Result, Warning};
use crate::gguf::Metadata;
use crate::sampler::SamplerOptions;

/// Sets the option of a key.
type Set = fn(&mut SamplerOptions, &Metadata, &str) -> Result<()>;

/// The keys that this sampler has an option for.
const KEYS: [(&str, Set); 6] = [
    ("general.sampling.temp", |options, metadata, key| {
        options.temperature = metadata.f32(key)?;
        Ok(())
    }),
    ("general.sampling.top_k", |options, metadata, key| {
        options.top_k = whole(metadata, key)?;
        Ok(())
    }),
    ("general.sampling.top_p", |options, metadata, key| {
        options.top_p = metadata.f32(key)?;
        Ok(())
    }),
    ("general.sampling.min_p", |options, metadata, key| {
        options.min_p = metadata.f32(key)?;
        Ok(())
    }),
    ("general.sampling.penalty_repeat", |options, metadata, key| {
        options.repeat_penalty = metadata.f32(key)?;
        Ok(())
    }),
    ("general.sampling.penalty_last_n", |options, metadata, key| {
        options.repeat_last_n = whole(metadata, key)?;
        Ok(())
    }),
];

/// A whole number; one that is too large stands for all.
fn whole(metadata: &Metadata, key: &str) -> Result<i32> {
    // A float, as in some configurations, is cut off.
    let number = match metadata.opt_integer(key) {
        Ok(Some(number)) => number,
        _ => metadata.f32(key)? as i128,
    };
    Ok(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// What the file recommends, over the defaults. A value that no sampler takes is left out
/// with a warning.
pub(super) fn options(metadata: &Metadata, warnings: &mut Vec<Warning>) -> SamplerOptions {
    let mut options = SamplerOptions::default();
    for (key, set) in KEYS {
        if metadata.get(key).is_none() {
            continue;
        }
        let mut with = options.clone();
        match set(&mut with, metadata, key).and_then(|()| with.validate(1)) {
            Ok(()) => options = with,
            Err(error) => warnings.push(Warning::key(key, format!("is ignored: {error}"))),
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;

    #[test]
    fn keys_are_read_and_impossible_ones_left_out() {
        let mut metadata = Metadata::new();
        let mut warnings = Vec::new();
        assert_eq!(options(&metadata, &mut warnings), SamplerOptions::default());
        for (name, value) in [
            ("temp", Value::F32(0.6)),
            ("top_k", Value::I32(20)),
            ("top_p", Value::F64(0.95)),
            ("min_p", Value::F32(0.05)),
            ("penalty_repeat", Value::F32(1.05)),
            ("penalty_last_n", Value::U64(1 << 40)),
            ("xtc_threshold", Value::F32(0.1)),
        ] {
            metadata.push(format!("general.sampling.{name}"), value).unwrap();
        }
        let expected = SamplerOptions {
            temperature: 0.6,
            top_k: 20,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.05,
            repeat_last_n: i32::MAX,
            ..SamplerOptions::default()
        };
        assert_eq!(options(&metadata, &mut warnings), expected);
        assert!(warnings.is_empty(), "{warnings:?}");
        metadata.set("general.sampling.top_p", Value::F32(1.5)).unwrap();
        metadata.set("general.sampling.temp", Value::String("hot".into())).unwrap();
        let expected = SamplerOptions { temperature: 0.8, top_p: 0.9, ..expected };
        assert_eq!(options(&metadata, &mut warnings), expected);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}
