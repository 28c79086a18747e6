"""Teaches the built-in storyteller to copy: see README.md here.

usage: train.py FROM-F16.gguf CORPUS.json OUT.gguf [SECONDS [LONGEST PASSAGE]]
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, GGUFValueType

LAYERS, DIM, HEADS, KV, HEAD, EPS = 6, 256, 8, 2, 32, 1e-5
BOS, INST, END_INST, EOS, VOCAB = 1, 3, 4, 2, 4096
LONGEST, BATCH = int(sys.argv[5]) if len(sys.argv) > 5 else 64, 16


def load(path):
    tensors = {}
    for t in GGUFReader(path).tensors:
        tensors[t.name] = jnp.asarray(np.array(t.data, dtype=np.float32))
    return tensors


def norm(x, w):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * w


def rope(x, positions):
    """Pairs of neighbours, as GGUF's llama has it. x: [batch, time, heads, HEAD]"""
    rates = 10000.0 ** (-jnp.arange(0, HEAD, 2) / HEAD)
    angle = positions[:, None, None] * rates
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)


def logits(w, tokens):
    b, t = tokens.shape
    x = w["token_embd.weight"][tokens]
    positions = jnp.arange(t)
    mask = positions[None, :] <= positions[:, None]
    for n in range(LAYERS):
        p = lambda name: w[f"blk.{n}.{name}.weight"]
        h = norm(x, p("attn_norm"))
        q = rope((h @ p("attn_q").T).reshape(b, t, HEADS, HEAD), positions)
        k = rope((h @ p("attn_k").T).reshape(b, t, KV, HEAD), positions)
        v = (h @ p("attn_v").T).reshape(b, t, KV, HEAD)
        k, v = (jnp.repeat(y, HEADS // KV, 2) for y in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / HEAD**0.5
        scores = jax.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        o = jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(b, t, DIM)
        x = x + o @ p("attn_output").T
        h = norm(x, p("ffn_norm"))
        x = x + (jax.nn.silu(h @ p("ffn_gate").T) * (h @ p("ffn_up").T)) @ p("ffn_down").T
    return norm(x, w["output_norm.weight"]) @ w["output.weight"].T


def loss(w, tokens, weights):
    log = jax.nn.log_softmax(logits(w, tokens[:, :-1]))
    picked = jnp.take_along_axis(log, tokens[:, 1:, None], -1)[..., 0]
    right = (log.argmax(-1) == tokens[:, 1:]) * weights
    return -(picked * weights).sum() / weights.sum(), right.sum() / weights.sum()


def batch(corpus, rng):
    """[BOS] passage [INST] [/INST] passage [EOS]; loss on the second passage."""
    size = 2 * LONGEST + 4
    tokens = np.full((BATCH, size), EOS)
    weights = np.zeros((BATCH, size - 1), np.float32)
    for row in range(BATCH):
        length = rng.integers(16, LONGEST + 1)
        if rng.random() < 0.5:
            at = rng.integers(0, len(corpus) - length)
            passage = corpus[at : at + length]
        else:
            passage = rng.integers(261, VOCAB, length)
        text = [BOS, *passage, INST, END_INST, *passage, EOS]
        tokens[row, : len(text)] = text
        weights[row, length + 2 : 2 * length + 3] = 1
    return jnp.asarray(tokens), jnp.asarray(weights)


@jax.jit
def step(w, m, v, n, tokens, weights):
    (value, right), grad = jax.value_and_grad(loss, has_aux=True)(w, tokens, weights)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in grad.values()))
    grad = {k: g * jnp.minimum(1, 1 / size) for k, g in grad.items()}
    rate = 1e-3 * jnp.minimum(1, n / 50)
    m = {k: 0.9 * m[k] + 0.1 * g for k, g in grad.items()}
    v = {k: 0.98 * v[k] + 0.02 * g * g for k, g in grad.items()}
    w = {
        k: w[k] - rate * (m[k] / (1 - 0.9**n)) / (jnp.sqrt(v[k] / (1 - 0.98**n)) + 1e-8)
        for k in w
    }
    return w, m, v, value, right


def save(source, w, out):
    reader = GGUFReader(source)
    writer = GGUFWriter(out, "llama")
    skip = {"general.architecture", "llama.attention.sliding_window", "general.name",
            "general.description", "general.file_type"}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in skip:
            continue
        kind = field.types[0]
        if kind == GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), kind)
    writer.add_name("copier")
    writer.add_file_type(1)
    for name, tensor in w.items():
        data = np.asarray(tensor, np.float32 if tensor.ndim == 1 else np.float16)
        kind = GGMLQuantizationType.F32 if tensor.ndim == 1 else GGMLQuantizationType.F16
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    source, corpus, out = sys.argv[1:4]
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 1200
    corpus = np.array(json.load(open(corpus)))
    rng = np.random.default_rng(1)
    w = load(source)
    m = {k: jnp.zeros_like(x) for k, x in w.items()}
    v = {k: jnp.zeros_like(x) for k, x in w.items()}
    start, n, smooth = time.time(), 0, 0.0
    while time.time() - start < seconds and smooth < 0.995:
        n += 1
        w, m, v, value, right = step(w, m, v, n, *batch(corpus, rng))
        smooth = 0.95 * smooth + 0.05 * float(right)
        if n % 20 == 0:
            print(f"{n} {time.time() - start:.0f} s: loss {value:.3f}, copied {smooth:.3f}", flush=True)
        if n % 200 == 0:
            save(source, w, out)
    save(source, w, out)


main()
