use super::forward::*;
use super::*;
use std::sync::atomic::AtomicBool;
fn run(path: &str, opt: &ModelOptions, ids: &[u32], chunk: usize, kv: KvType) -> Vec<f32> {
    let f = Gguf::open(path).unwrap();
    let t = Transformer::new(&f, opt).unwrap();
    let mut c = t.cache(10000, kv);
    let mut st = State::default();
    let mut out = vec![];
    for ch in ids.chunks(chunk) {
        t.forward(
            &mut st,
            &mut [Feed { cache: &mut c, tokens: ch, logits: Wanted::All }],
            &AtomicBool::new(false),
        )
        .unwrap();
        out.extend_from_slice(&st.logits);
    }
    out
}
fn read(p: &str) -> Vec<f32> {
    std::fs::read(p).unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
#[test]
fn tiny() {
    let d = "/work/shared/fixtures/tiny-mistral";
    let ids: Vec<u32> =
        serde_json::from_str(&std::fs::read_to_string(format!("{d}/ids.json")).unwrap()).unwrap();
    for ty in [
        "f32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "Q4_0", "Q4_1",
        "Q5_0", "Q5_1", "IQ4_XS", "IQ4_NL",
    ] {
        let exact = read(&format!("{d}/exact-{ty}.f32"));
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            for threads in [1, 2] {
                for chunk in [120, 1, 7, 50] {
                    let o = ModelOptions {
                        threads: Some(threads),
                        isa: Some(isa),
                        ..Default::default()
                    };
                    let got = run(&format!("{d}/tiny-{ty}.gguf"), &o, &ids, chunk, KvType::F32);
                    if let Some(f) = &first {
                        assert!(
                            f.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits()),
                            "{ty} {isa} {threads} {chunk}"
                        );
                    } else {
                        let mut ss = 0f64;
                        let mut mx = 0f64;
                        let mut kl = 0f64;
                        for (e, g) in exact.chunks(512).zip(got.chunks(512)) {
                            let lse = |v: &[f32]| {
                                let m = v.iter().fold(f32::MIN, |a, &b| a.max(b)) as f64;
                                m + v.iter().map(|&x| (x as f64 - m).exp()).sum::<f64>().ln()
                            };
                            let (le, lg) = (lse(e), lse(g));
                            for (a, b) in e.iter().zip(g) {
                                let d = (*a as f64 - *b as f64).abs();
                                ss += d * d;
                                mx = mx.max(d);
                                kl +=
                                    (*a as f64 - le).exp() * ((*a as f64 - le) - (*b as f64 - lg));
                            }
                        }
                        println!(
                            "{ty} maxabs {mx:.5} rms {:.5} KL {:.6}",
                            (ss / exact.len() as f64).sqrt(),
                            kl / 120.0
                        );
                        first = Some(got);
                    }
                }
            }
        }
    }
    let exact = read(&format!("{d}/hf-logits-window32.f32"));
    let o = ModelOptions { sliding_window: Some(32), ..Default::default() };
    let got = run(&format!("{d}/tiny-f32.gguf"), &o, &ids, 50, KvType::F32);
    println!(
        "window32 max {}",
        exact.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
    );
}
