//! The sampler through its public interface.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions: a panic is the report")]

use proptest::prelude::*;
use tramontane::Error;
use tramontane::sampler::{Sampler, SamplerOptions, TokenLogprob};

const MASKED: f32 = f32::NEG_INFINITY;

/// Every filter and penalty off, temperature 1: the model's own distribution.
fn plain(seed: u64) -> SamplerOptions {
    SamplerOptions::default().with_temperature(1.0).with_top_k(0).with_top_p(1.0).with_seed(seed)
}

fn sampler(options: SamplerOptions, n_vocab: usize) -> Sampler {
    Sampler::new(options, n_vocab).unwrap()
}

fn draw(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
    (0..n).map(|_| sampler.sample(logits).unwrap().token).collect()
}

fn misuse(options: SamplerOptions) -> String {
    match Sampler::new(options, 10) {
        Err(Error::Misuse(text)) => text,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Uneven logits of a vocabulary of `n`, the same on every machine.
fn uneven(n: u32) -> Vec<f32> {
    (0..n).map(|token| (token.wrapping_mul(2_654_435_761) >> 16) as f32 / 8192.0).collect()
}

#[test]
fn defaults_are_those_of_ollama() {
    let options = SamplerOptions::default();
    assert_eq!((options.temperature, options.top_k, options.top_p), (0.8, 40, 0.9));
    assert_eq!((options.min_p, options.typical_p), (0.0, 1.0));
    assert_eq!((options.repeat_last_n, options.repeat_penalty), (64, 1.0));
    assert_eq!((options.presence_penalty, options.frequency_penalty), (0.0, 0.0));
    assert_eq!((options.seed, options.top_logprobs, options.logprobs), (None, 0, false));
    assert!(options.logit_bias.is_empty());
    assert!(SamplerOptions::greedy().temperature <= 0.0);
}

#[test]
fn refusals_name_the_option_and_what_it_accepts() {
    let base = SamplerOptions::default;
    let cases = [
        (base().with_top_p(1.5), "option \"top_p\" must be between 0 and 1, got 1.5"),
        (base().with_top_p(f32::NAN), "option \"top_p\" must be between 0 and 1, got NaN"),
        (base().with_min_p(-0.1), "option \"min_p\" must be between 0 and 1, got -0.1"),
        (base().with_typical_p(2.0), "option \"typical_p\" must be between 0 and 1, got 2"),
        (
            base().with_temperature(f32::NAN),
            "option \"temperature\" must be a finite number, got NaN",
        ),
        (
            base().with_temperature(f32::INFINITY),
            "option \"temperature\" must be a finite number, got inf",
        ),
        (
            base().with_repeat_penalty(0.0),
            "option \"repeat_penalty\" must be greater than 0, got 0",
        ),
        (
            base().with_repeat_penalty(f32::INFINITY),
            "option \"repeat_penalty\" must be a finite number, got inf",
        ),
        (
            base().with_presence_penalty(f32::NAN),
            "option \"presence_penalty\" must be a finite number, got NaN",
        ),
        (
            base().with_frequency_penalty(f32::NEG_INFINITY),
            "option \"frequency_penalty\" must be a finite number, got -inf",
        ),
        (
            base().with_repeat_last_n(-2),
            "option \"repeat_last_n\" must be -1 (the whole context), 0 (off) or a number of tokens, got -2",
        ),
        (base().with_top_logprobs(21), "option \"top_logprobs\" must be between 0 and 20, got 21"),
        (
            base().with_logit_bias(vec![(10, 1.0)]),
            "option \"logit_bias\" must name tokens from 0 to 9, got 10",
        ),
        (
            base().with_logit_bias(vec![(3, f32::NAN)]),
            "option \"logit_bias\" must be a finite number, got NaN for token 3",
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(misuse(options), expected);
    }
    assert!(matches!(Sampler::new(base(), 0), Err(Error::Misuse(_))));
}

#[test]
fn a_wrong_number_of_logits_is_refused() {
    let mut sampler = sampler(plain(1), 3);
    for wrong in [0, 2, 4] {
        let error = sampler.sample(&vec![0.0; wrong]).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)));
        assert_eq!(error.to_string(), format!("the sampler was made for 3 logits, got {wrong}"));
    }
}

#[test]
fn unsound_logits_are_refused_and_the_sampler_lives_on() {
    let penalized = plain(1).with_repeat_penalty(1.5).with_logit_bias(vec![(1, 5.0)]);
    for options in [plain(1), SamplerOptions::greedy(), SamplerOptions::default(), penalized] {
        let mut sampler = sampler(options, 3);
        sampler.accept(1);
        for bad in [f32::NAN, f32::INFINITY] {
            for at in 0..3 {
                let mut logits = [0.0; 3];
                logits[at] = bad;
                let error = sampler.sample(&logits).unwrap_err();
                assert!(matches!(error, Error::NonFinite(_)), "{error}");
            }
        }
        assert!(matches!(sampler.sample(&[MASKED; 3]), Err(Error::NonFinite(_))));
        assert!(sampler.sample(&[0.0; 3]).is_ok());
    }
}

#[test]
fn masked_tokens_are_never_drawn() {
    let logits = [MASKED, 0.0, MASKED, 0.0, MASKED];
    // Not by a flat temperature, nor by a bias, nor by a negative penalty.
    let options = plain(3)
        .with_temperature(1e6)
        .with_logit_bias(vec![(0, 100.0), (2, f32::MAX)])
        .with_frequency_penalty(f32::MIN);
    for options in [options.clone(), options.with_top_k(4), SamplerOptions::greedy()] {
        let mut sampler = sampler(options, 5);
        sampler.accept(4);
        assert!(draw(&mut sampler, &logits, 500).iter().all(|&token| token == 1 || token == 3));
    }
}

#[test]
fn greedy_takes_the_lowest_of_the_best() {
    for temperature in [0.0, -0.0, -1.0, -1e30] {
        let options = SamplerOptions::greedy().with_temperature(temperature);
        let mut sampler = sampler(options, 4);
        assert_eq!(sampler.sample(&[1.0, 5.0, 5.0, -2.0]).unwrap().token, 1);
        assert_eq!(sampler.sample(&[-7.0; 4]).unwrap().token, 0);
    }
}

#[test]
fn a_vocabulary_of_one() {
    let all_on = plain(1)
        .with_top_k(7)
        .with_typical_p(0.0)
        .with_top_p(0.0)
        .with_min_p(1.0)
        .with_repeat_penalty(1.3)
        .with_presence_penalty(1.0)
        .with_logprobs(true)
        .with_top_logprobs(20);
    for logit in [0.0, f32::MAX, f32::MIN, -3.0] {
        let mut sampler = sampler(all_on.clone(), 1);
        sampler.accept(0);
        let sampled = sampler.sample(&[logit]).unwrap();
        assert_eq!((sampled.token, sampled.logprob), (0, Some(0.0)));
        assert_eq!(sampled.top_logprobs.len(), 1);
    }
}

#[test]
fn the_same_seed_draws_the_same() {
    let logits = uneven(500);
    let first = draw(&mut sampler(plain(42), 500), &logits, 200);
    assert_eq!(first, draw(&mut sampler(plain(42), 500), &logits, 200));
    assert_ne!(first, draw(&mut sampler(plain(43), 500), &logits, 200));

    let mut again = sampler(plain(42), 500);
    draw(&mut again, &logits, 17);
    again.reset();
    assert_eq!(first, draw(&mut again, &logits, 200));

    let unseeded = plain(0).with_seed(None::<u64>);
    let mut from_entropy = sampler(unseeded.clone(), 500);
    let drawn = draw(&mut from_entropy, &logits, 50);
    assert_eq!(drawn, draw(&mut sampler(plain(from_entropy.seed()), 500), &logits, 50));
    assert_ne!(from_entropy.seed(), sampler(unseeded, 500).seed());
    assert_eq!(sampler(plain(42), 500).seed(), 42);
}

#[test]
fn golden_draws() {
    // From an independent program in Python. These may change only with a
    // reason: users rely on their seeds.
    let logits = uneven(1000);
    let ollama = SamplerOptions::default().with_seed(42);
    let typical = plain(42).with_typical_p(0.7).with_min_p(0.05);
    let cases = [
        (ollama, [542, 521, 55, 809, 377, 453, 288, 309, 809, 631, 288, 110]),
        (plain(42), [747, 160, 283, 346, 42, 872, 220, 804, 343, 621, 205, 495]),
        (typical, [791, 741, 474, 529, 398, 922, 419, 901, 152, 105, 652, 317]),
    ];
    for (options, golden) in cases {
        assert_eq!(draw(&mut sampler(options.clone(), 1000), &logits, 12), golden, "{options:?}");
    }
}

/// Pearson's statistic of `n` draws against `expected` probabilities.
fn chi_square(drawn: &[u32], expected: &[f64]) -> f64 {
    let n = drawn.len() as f64;
    let count = |token| drawn.iter().filter(|&&drawn| drawn as usize == token).count() as f64;
    let term = |(token, &p): (usize, &f64)| (count(token) - n * p).powi(2) / (n * p);
    expected.iter().enumerate().filter(|(_, p)| **p > 0.0).map(term).sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.3, 1.2, -0.5, 2.0, 0.0, MASKED, 1.9, -1.0, 0.7, 1.1];
    for temperature in [0.5, 1.0, 2.0, 1e6] {
        let options = plain(2026).with_temperature(temperature);
        let drawn = draw(&mut sampler(options, 10), &logits, 40_000);
        let statistic = chi_square(&drawn, &softmax(&logits, f64::from(temperature)));
        // 8 degrees of freedom: 26.1 is exceeded once in a thousand.
        assert!(statistic < 26.1, "temperature {temperature}: {statistic}");
    }
}

#[test]
fn filters_renormalise_what_is_left() {
    // Probabilities 0.4, 0.3, 0.2, 0.1; top_p 0.65 keeps the first two.
    let logits = [0.4f32.ln(), 0.1f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
    let options = plain(5).with_top_p(0.65);
    let drawn = draw(&mut sampler(options, 4), &logits, 20_000);
    assert!(drawn.iter().all(|&token| token == 0 || token == 2));
    // 1 degree of freedom.
    assert!(chi_square(&drawn, &[4.0 / 7.0, 0.0, 3.0 / 7.0, 0.0]) < 10.9);
    // After top_k = 3 the shares are 4/9, 3/9, 2/9, so 0.75 now keeps two.
    let options = plain(5).with_top_k(3).with_top_p(0.75);
    let drawn = draw(&mut sampler(options, 4), &logits, 2_000);
    assert!(drawn.iter().all(|&token| token == 0 || token == 2));
}

#[test]
fn extreme_temperatures() {
    let logits = [1.0, 1.001, 0.999, -5.0];
    let cold = plain(9).with_temperature(1e-6);
    assert_eq!(draw(&mut sampler(cold, 4), &logits, 200), [1; 200]);
    let coldest = plain(9).with_temperature(f32::from_bits(1));
    assert_eq!(draw(&mut sampler(coldest, 4), &[f32::MIN, f32::MAX, 0.0, 0.0], 50), [1; 50]);
    for temperature in [1e6, f32::MAX] {
        let hot = plain(9).with_temperature(temperature);
        let drawn = draw(&mut sampler(hot, 4), &logits, 10_000);
        assert!(chi_square(&drawn, &[0.25; 4]) < 16.3);
    }
}

#[test]
fn a_top_k_beyond_the_vocabulary_is_no_filter() {
    let logits = uneven(50);
    let all = draw(&mut sampler(plain(8), 50), &logits, 100);
    for top_k in [50, 51, i32::MAX, 0, -1, i32::MIN] {
        let options = plain(8).with_top_k(top_k);
        assert_eq!(draw(&mut sampler(options, 50), &logits, 100), all);
    }
    let one = plain(8).with_top_k(1);
    assert_eq!(draw(&mut sampler(one, 4), &[0.0, 1.0, 1.0, 0.0], 50), [1; 50]);
}

#[test]
fn a_bias_of_100_decides() {
    let logits = [3.0, 0.0, 2.0];
    let for_one = plain(1).with_logit_bias(vec![(1, 100.0)]);
    assert_eq!(draw(&mut sampler(for_one, 3), &logits, 300), [1; 300]);
    let against = plain(1).with_logit_bias(vec![(0, -100.0), (2, -100.0)]);
    assert_eq!(draw(&mut sampler(against, 3), &logits, 300), [1; 300]);
    // Given twice, it adds up; and it counts for greedy too.
    let twice = SamplerOptions::greedy().with_logit_bias(vec![(1, 2.0), (1, 2.0)]);
    assert_eq!(sampler(twice, 3).sample(&logits).unwrap().token, 1);
}

#[test]
fn penalties_work_on_the_biased_logit() {
    let options = SamplerOptions::greedy().with_repeat_penalty(2.0).with_logit_bias(vec![(0, 4.0)]);
    let mut sampler = sampler(options, 2);
    sampler.accept(0);
    // Bias first: (−1 + 4) / 2 = 1.5. Penalty first: −1 · 2 + 4 = 2.
    assert_eq!(sampler.sample(&[-1.0, 1.75]).unwrap().token, 1);
}

/// Token 0 against rivals whose logits bracket where it should land.
fn assert_lands(options: &SamplerOptions, history: &[u32], logit: f32, expected: f32) {
    let margin = 1e-4 * expected.abs().max(1.0);
    for (rival, winner) in [(expected - margin, 0), (expected + margin, 1)] {
        let mut sampler = sampler(options.clone(), 3);
        history.iter().for_each(|&token| sampler.accept(token));
        let drawn = sampler.sample(&[logit, rival, MASKED]).unwrap().token;
        assert_eq!(drawn, winner, "{options:?} {history:?} {logit} → {expected}");
    }
}

#[test]
fn the_window_of_the_penalties() {
    let options = |repeat_last_n| {
        SamplerOptions::greedy().with_repeat_last_n(repeat_last_n).with_frequency_penalty(1.0)
    };
    let history = [0, 0, 2, 0, 2];
    for (last_n, times) in [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 3.0), (-1, 3.0)] {
        assert_lands(&options(last_n), &history, 5.0, 5.0 - times);
    }
    assert_lands(&options(1), &[2, 0], 5.0, 4.0);
    assert_lands(&options(i32::MAX), &history, 5.0, 2.0);
    assert_lands(&options(-1), &[0; 300], 5.0, -295.0);
    assert_lands(&options(64), &[0; 300], 5.0, -59.0);
    // Tokens that no logit belongs to take their place and change nothing.
    assert_lands(&options(2), &[0, u32::MAX, 7], 5.0, 5.0);
}

#[test]
fn reset_forgets_the_history() {
    let options = SamplerOptions::greedy().with_presence_penalty(10.0);
    let mut sampler = sampler(options, 2);
    sampler.accept(0);
    assert_eq!(sampler.sample(&[1.0, 0.0]).unwrap().token, 1);
    sampler.reset();
    assert_eq!(sampler.sample(&[1.0, 0.0]).unwrap().token, 0);
}

#[test]
fn sampling_accepts_nothing_by_itself() {
    let options = SamplerOptions::greedy().with_presence_penalty(10.0);
    assert_eq!(draw(&mut sampler(options, 2), &[1.0, 0.0], 5), [0; 5]);
}

#[test]
fn extreme_penalties_stay_finite() {
    let extreme = [f32::MIN, -1.0, 0.0, 1.0, f32::MAX];
    for (presence, frequency) in extreme.iter().flat_map(|&a| extreme.map(|b| (a, b))) {
        for repeat in [f32::MIN_POSITIVE, 1.0, f32::MAX] {
            let options = plain(1)
                .with_presence_penalty(presence)
                .with_frequency_penalty(frequency)
                .with_repeat_penalty(repeat)
                .with_logit_bias(vec![(0, f32::MAX), (1, f32::MIN)]);
            let mut sampler = sampler(options, 5);
            [0, 0, 1, 2, 3, 4, 4].iter().for_each(|&token| sampler.accept(token));
            assert!(sampler.sample(&extreme).is_ok());
        }
    }
}

#[test]
fn logprobs_are_of_the_raw_distribution() {
    let logits = [1.0, 3.0, MASKED, 2.0, 3.0];
    let options = plain(1)
        .with_temperature(0.1)
        .with_top_k(1)
        .with_logit_bias(vec![(0, 100.0)])
        .with_logprobs(true)
        .with_top_logprobs(3);
    let sampled = sampler(options.clone(), 5).sample(&logits).unwrap();
    let expected = softmax(&logits, 1.0);
    assert_eq!(sampled.token, 0);
    assert!((f64::from(sampled.logprob.unwrap()) - expected[0].ln()).abs() < 1e-6);
    let top: Vec<u32> = sampled.top_logprobs.iter().map(|t| t.token).collect();
    assert_eq!(top, [1, 4, 3]);
    for TokenLogprob { token, logprob } in sampled.top_logprobs {
        assert!((f64::from(logprob) - expected[token as usize].ln()).abs() < 1e-6);
    }
    // Masked tokens are not alternatives. Alternatives bring the token's own probability.
    let more = options.clone().with_top_logprobs(20);
    assert_eq!(sampler(more, 5).sample(&logits).unwrap().top_logprobs.len(), 4);
    let implied = options.clone().with_logprobs(false);
    let implied = sampler(implied, 5).sample(&logits).unwrap();
    assert!(implied.logprob.is_some() && implied.top_logprobs.len() == 3);
    let none = options.clone().with_logprobs(false).with_top_logprobs(0);
    let sampled = sampler(none, 5).sample(&logits).unwrap();
    assert!(sampled.logprob.is_none() && sampled.top_logprobs.is_empty());
    let only_one = options.with_top_logprobs(0);
    let sampled = sampler(only_one, 5).sample(&logits).unwrap();
    assert!(sampled.logprob.is_some() && sampled.top_logprobs.is_empty());
}

proptest! {
    #[test]
    fn logprobs_sum_to_one(logits in prop::collection::vec(-20.0..20.0f32, 1..=20)) {
        let options = SamplerOptions::default().with_logprobs(true).with_top_logprobs(20);
        let sampled = sampler(options, logits.len()).sample(&logits).unwrap();
        prop_assert_eq!(sampled.top_logprobs.len(), logits.len());
        prop_assert!(sampled.top_logprobs.is_sorted_by(|a, b| a.logprob >= b.logprob));
        let sum: f64 = sampled.top_logprobs.iter().map(|t| f64::from(t.logprob).exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
        let own = sampled.top_logprobs.iter().find(|t| t.token == sampled.token);
        prop_assert_eq!(own.map(|t| t.logprob), sampled.logprob);
    }

    #[test]
    fn penalties_match_a_naive_count(
        history in prop::collection::vec(0u32..3, 0..40), last_n in -1i32..45,
        logit in -10.0..10.0f32, repeat in 0.5..2.0f32,
        presence in -2.0..2.0f32, frequency in -2.0..2.0f32,
    ) {
        let start = if last_n < 0 { 0 } else { history.len().saturating_sub(last_n as usize) };
        let count = history[start..].iter().filter(|&&token| token == 0).count();
        // The rival must not be penalized: it is a token the history lacks.
        let history: Vec<u32> = history.iter().map(|&t| if t == 1 { 2 } else { t }).collect();
        let mut expected = logit;
        if count > 0 {
            expected = if expected > 0.0 { expected / repeat } else { expected * repeat };
            expected -= count as f32 * frequency + presence;
        }
        let options = SamplerOptions::greedy().with_repeat_last_n(last_n).with_repeat_penalty(repeat).with_presence_penalty(presence).with_frequency_penalty(frequency);
        assert_lands(&options, &history, logit, expected);
    }

    #[test]
    fn any_options_and_any_logits_give_an_unmasked_token_or_an_error(
        logits in prop::collection::vec(
            prop_oneof![
                4 => -30.0..30.0f32, 1 => Just(MASKED), 1 => Just(f32::MIN), 1 => Just(f32::MAX)
            ], 1..400),
        temperature in prop_oneof![Just(0.0f32), 1e-6..2.0f32, Just(1e6f32)],
        top_k in -1i32..500, top_p in 0.0..=1.0f32, min_p in 0.0..=1.0f32,
        typical_p in 0.0..=1.0f32, repeat_last_n in -1i32..50, seed in any::<u64>(),
        history in prop::collection::vec(0u32..400, 0..60),
    ) {
        let options = SamplerOptions::default().with_temperature(temperature).with_top_k(top_k).with_top_p(top_p).with_min_p(min_p).with_typical_p(typical_p).with_repeat_last_n(repeat_last_n).with_seed(seed).with_repeat_penalty(1.1).with_presence_penalty(0.5).with_frequency_penalty(0.2).with_logprobs(true).with_top_logprobs(5).with_logit_bias(vec![(0, -100.0)]);
        let mut sampler = sampler(options, logits.len());
        history.iter().for_each(|&token| sampler.accept(token));
        match sampler.sample(&logits) {
            Ok(sampled) => {
                prop_assert!(logits[sampled.token as usize] > MASKED);
                prop_assert!(sampled.logprob.is_some_and(|logprob| logprob <= 0.0));
            }
            Err(error) => {
                prop_assert!(matches!(error, Error::NonFinite(_)));
                prop_assert!(logits.iter().all(|&logit| logit == MASKED));
            }
        }
    }
}
