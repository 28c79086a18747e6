//! Options by name, as Ollama and llama.cpp call them.

use serde_json::Value;

use crate::error::{Error, Result};

use super::{GenerateOptions, SessionOptions};

impl GenerateOptions {
    /// Sets an option by its name in Ollama's API; whether there is one of that name.
    ///
    /// Names: `special`, `temperature`, `top_k`, `top_p`, `min_p`, `typical_p`, `seed` (−1: from
    /// entropy), `num_predict` (negative: no limit), `stop` (an array of strings, or one),
    /// `repeat_last_n`, `repeat_penalty`, `presence_penalty`, `frequency_penalty`,
    /// `logit_bias` (an object: token ids and what is added), `logprobs`, `top_logprobs`.
    /// Numbers may stand in quotes; decimals of whole ones are cut off. Ranges are checked
    /// when a generation begins.
    ///
    /// ```
    /// use tramontane::GenerateOptions;
    /// let mut options = GenerateOptions::default();
    /// assert!(options.set("temperature", &0.2.into())?);
    /// assert!(!options.set("num_ctx", &2048.into())?, "an option of the session");
    /// let error = options.set("top_k", &"many".into()).unwrap_err();
    /// assert_eq!(error.to_string(), "option \"top_k\" must be of type integer");
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Misuse`], which names the option, for a value of the wrong type.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<bool> {
        let sampler = &mut self.sampler;
        match name {
            "temperature" => sampler.temperature = float(name, value)?,
            "top_k" => sampler.top_k = small(name, value)?,
            "top_p" => sampler.top_p = float(name, value)?,
            "min_p" => sampler.min_p = float(name, value)?,
            "typical_p" => sampler.typical_p = float(name, value)?,
            "repeat_last_n" => sampler.repeat_last_n = small(name, value)?,
            "repeat_penalty" => sampler.repeat_penalty = float(name, value)?,
            "presence_penalty" => sampler.presence_penalty = float(name, value)?,
            "frequency_penalty" => sampler.frequency_penalty = float(name, value)?,
            "seed" => sampler.seed = seed(name, value)?,
            "logit_bias" => sampler.logit_bias = biases(name, value)?,
            "logprobs" => sampler.logprobs = value.as_bool().ok_or_else(|| wrong(name, "bool"))?,
            "top_logprobs" => {
                // What does not fit is out of range anyway.
                sampler.top_logprobs = usize::try_from(integer(name, value)?).unwrap_or(usize::MAX);
            }
            "num_predict" => self.num_predict = usize::try_from(integer(name, value)?).ok(),
            "stop" => self.stop = strings(name, value)?,
            "special" => self.special = value.as_bool().ok_or_else(|| wrong(name, "bool"))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl SessionOptions {
    /// Sets an option by its name in Ollama's API; whether there is one of that name.
    ///
    /// Names: `num_ctx` (0 and below: the default), `num_batch`, and `kv_type` (`i16`,
    /// `q8_0`, `f32`). Decimals of whole numbers are cut off.
    ///
    /// # Errors
    /// [`Error::Misuse`], which names the option, for a value of the wrong type.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<bool> {
        let positive = |name, value| -> Result<Option<usize>> {
            Ok(usize::try_from(integer(name, value)?).ok().filter(|number| *number > 0))
        };
        match name {
            "num_ctx" => self.num_ctx = positive(name, value)?,
            "num_batch" => self.num_batch = positive(name, value)?,
            "kv_type" => {
                let text = value.as_str().ok_or_else(|| wrong(name, "string"))?;
                self.kv_type = text.parse()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The sentence that Ollama's clients know.
fn wrong(name: &str, kind: &str) -> Error {
    Error::misuse(format!("option {name:?} must be of type {kind}"))
}

/// A whole number; decimals are cut off.
fn integer(name: &str, value: &Value) -> Result<i64> {
    let quoted = || value.as_str().and_then(|text| text.trim().parse().ok());
    let number = value.as_i64().or_else(quoted);
    number
        .or_else(|| number_of(value).map(|number| number as i64))
        .ok_or_else(|| wrong(name, "integer"))
}

/// A number, or one in quotes.
fn number_of(value: &Value) -> Option<f64> {
    let quoted = || value.as_str()?.trim().parse().ok();
    value.as_f64().or_else(quoted).filter(|number: &f64| number.is_finite())
}

fn small(name: &str, value: &Value) -> Result<i32> {
    Ok(integer(name, value)?.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

fn float(name: &str, value: &Value) -> Result<f32> {
    let number = number_of(value).map(|number| number as f32);
    number.filter(|number| number.is_finite()).ok_or_else(|| wrong(name, "float32"))
}

fn seed(name: &str, value: &Value) -> Result<Option<u64>> {
    // Seeds above what an i64 holds are as good as others.
    if let Some(seed) = value.as_u64() {
        return Ok(Some(seed));
    }
    let seed = integer(name, value)?;
    Ok((seed != -1).then_some(seed as u64))
}

fn strings(name: &str, value: &Value) -> Result<Vec<String>> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        Value::String(_) => std::slice::from_ref(value),
        _ => return Err(wrong(name, "array")),
    };
    let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
    texts
        .collect::<Option<_>>()
        .ok_or_else(|| Error::misuse(format!("option {name:?} must be of an array of strings")))
}

/// OpenAI's form: an object of token ids and what is added to their logits.
fn biases(name: &str, value: &Value) -> Result<Vec<(u32, f32)>> {
    let one = |(token, bias): (&String, &Value)| {
        let bias = bias.as_f64().map(|bias| bias as f32).filter(|bias| bias.is_finite());
        Some((token.parse::<u32>().ok()?, bias?))
    };
    let all = value.as_object().and_then(|map| map.iter().map(one).collect());
    all.ok_or_else(|| Error::misuse(format!("option {name:?} must be an object of numbers")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SamplerOptions;

    #[test]
    fn every_option_is_set_by_its_name() {
        let mut options = GenerateOptions::default();
        for (name, value) in [
            ("temperature", json!(0.5)),
            ("top_k", json!(7.9)),
            ("top_p", json!(0.6)),
            ("min_p", json!(0.1)),
            ("typical_p", json!(0.7)),
            ("repeat_last_n", json!(-1)),
            ("repeat_penalty", json!(1.25)),
            ("presence_penalty", json!(0.5)),
            ("frequency_penalty", json!(1)),
            ("seed", json!(42)),
            ("logit_bias", json!({"5": -1.5})),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(3)),
            ("num_predict", json!(10)),
            ("stop", json!(["a", "b"])),
            ("special", json!(true)),
        ] {
            assert!(options.set(name, &value).unwrap(), "{name}");
        }
        let sampler = SamplerOptions {
            temperature: 0.5,
            top_k: 7,
            top_p: 0.6,
            min_p: 0.1,
            typical_p: 0.7,
            repeat_last_n: -1,
            repeat_penalty: 1.25,
            presence_penalty: 0.5,
            frequency_penalty: 1.0,
            seed: Some(42),
            logit_bias: vec![(5, -1.5)],
            top_logprobs: 3,
            logprobs: true,
        };
        let expected = GenerateOptions::default().with_sampler(sampler).with_num_predict(10);
        assert_eq!(options, expected.with_stop(["a", "b"]).with_special(true));
        let before = options.clone();
        for (name, value) in [("temperature", " 0.5"), ("top_k", "7.9"), ("seed", "42")] {
            options.set(name, &json!(value)).unwrap();
        }
        assert_eq!(options, before);
        options.set("stop", &json!("a")).unwrap();
        assert_eq!(options.stop, ["a"]);
        options.set("seed", &json!(-1)).unwrap();
        options.set("num_predict", &json!(-1)).unwrap();
        assert_eq!((options.sampler.seed, options.num_predict), (None, None));

        let mut session = SessionOptions::default();
        session.set("num_ctx", &json!(100)).unwrap();
        session.set("kv_type", &json!("q8_0")).unwrap();
        assert_eq!((session.num_ctx, session.kv_type.name()), (Some(100), "q8_0"));
        assert!(!session.set("seed", &json!(1)).unwrap());
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_option() {
        for name in ["top_k", "temperature", "seed", "stop", "logit_bias", "num_predict"] {
            for value in [json!(null), json!({"a": []}), json!(true), json!("text")] {
                if (name, &value) == ("stop", &json!("text")) {
                    continue;
                }
                let mut options = GenerateOptions::default();
                let error = options.set(name, &value).unwrap_err().to_string();
                assert!(error.starts_with(&format!("option {name:?} must be")), "{error}");
                assert_eq!(options, GenerateOptions::default());
            }
        }
    }
}
