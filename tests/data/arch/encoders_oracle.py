#!/usr/bin/env python3
"""Tiny encoders of random weights with their exact hidden states.

    python3 encoders_oracle.py FOLDER

writes the folders jina-bert-v2, jina-bert-v2-code and nomic-bert-moe, each with
mini-f32.gguf, ids.json (token ids) and exact-mini-f32.f32 (hidden states of the last 32
positions, [32, hidden], little-endian). Needs numpy only. The arithmetic is float64, written after the models' own code:
jinaai/jina-bert-implementation, jinaai/jina-bert-v2-qk-post-norm and
nomic-ai/nomic-bert-2048 (modeling files); tensors are named as llama.cpp's converter does.
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
LAST = 32


def packed_string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def packed_value(value):
    """Type and bytes of a value of the metadata."""
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return U32, struct.pack("<I", value)
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    if isinstance(value, str):
        return STRING, packed_string(value)
    if isinstance(value[0], int):
        return ARRAY, struct.pack(f"<IQ{len(value)}i", I32, len(value), *value)
    kinds = [packed_value(item) for item in value]
    head = struct.pack("<IQ", kinds[0][0], len(kinds))
    return ARRAY, head + b"".join(raw for _, raw in kinds)


def write_gguf(path, metadata, tensors):
    """Tensors are float32, their dimensions written from the innermost on."""
    out = bytearray(struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        kind, raw = packed_value(value)
        out += packed_string(key) + struct.pack("<I", kind) + raw
    offset = 0
    for name, tensor in tensors.items():
        dims = tensor.shape[::-1]
        out += packed_string(name) + struct.pack("<I", len(dims))
        out += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", 0, offset)
        offset += -(-tensor.nbytes // 32) * 32
    for tensor in tensors.values():
        out += b"\0" * (-len(out) % 32)
        out += tensor.astype("<f4").tobytes()
    path.write_bytes(out)


class Weights:
    """Random weights by name. Their low 16 bits are zero, so that files pack well."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.all = {}

    def new(self, name, *shape, mean=0.0, scale=None):
        scale = 1.0 / math.sqrt(shape[-1]) if scale is None else scale
        values = (mean + scale * self.random.standard_normal(shape)).astype(np.float32)
        values = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
        self.all[name] = values

    def linear(self, name, rows, cols, bias=True, scale=None):
        self.new(f"{name}.weight", rows, cols, scale=scale)
        if bias:
            self.new(f"{name}.bias", rows, scale=0.1)

    def norm(self, name, width):
        self.new(f"{name}.weight", width, mean=1.0, scale=0.2)
        self.new(f"{name}.bias", width, scale=0.1)

    def __getitem__(self, name):
        return self.all[name].astype(np.float64)

    def apply(self, name, x):
        """x times a matrix, with its bias if there is one."""
        y = x @ self[f"{name}.weight"].T
        return y + self[f"{name}.bias"] if f"{name}.bias" in self.all else y

    def normalize(self, name, x, epsilon):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        scaled = centred / np.sqrt(variance + epsilon)
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def attend(q, k, v, heads, bias):
    """Two-sided attention; `bias` [heads, rows, rows] is added to the scores."""
    rows, width = q.shape
    split = lambda x: x.reshape(rows, heads, width // heads).transpose(1, 0, 2)
    q, k, v = split(q), split(k), split(v)
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(width // heads)
    return (softmax(scores + bias) @ v).transpose(1, 0, 2).reshape(rows, width)


def alibi_slopes(heads):
    """As in rebuild_alibi_tensor of Jina's implementation."""

    def of_power_of_two(n):
        start = 2.0 ** (-(2.0 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(heads).is_integer():
        return of_power_of_two(heads)
    closest = 2 ** math.floor(math.log2(heads))
    return of_power_of_two(closest) + alibi_slopes(2 * closest)[0::2][: heads - closest]


def jina(seed, code):
    """`code`: as jina-embeddings-v2-base-code, else as -small-en and -base-en."""
    hidden, heads, wide, layers, vocab, epsilon = 48, 6, 32, 2, 64, 1e-12
    w = Weights(seed)
    w.new("token_embd.weight", vocab, hidden, scale=1.0)
    w.new("token_types.weight", 2, hidden, scale=0.5)
    w.norm("token_embd_norm", hidden)
    for i in range(layers):
        for part in ["attn_q", "attn_k"]:
            # Sharp enough that distance and content both count.
            w.linear(f"blk.{i}.{part}", hidden, hidden, scale=0.4)
            if code:
                w.norm(f"blk.{i}.{part}_norm", hidden)
        for part in ["attn_v", "attn_output"]:
            w.linear(f"blk.{i}.{part}", hidden, hidden)
        w.norm(f"blk.{i}.attn_output_norm", hidden)
        if code:
            w.norm(f"blk.{i}.attn_norm_2", hidden)
        w.linear(f"blk.{i}.ffn_gate", wide, hidden, bias=False, scale=0.3)
        w.linear(f"blk.{i}.ffn_up", wide, hidden, bias=False, scale=0.3)
        w.linear(f"blk.{i}.ffn_down", hidden, wide, scale=0.3)
        w.norm(f"blk.{i}.layer_output_norm", hidden)

    ids = np.random.default_rng(seed + 1).integers(5, vocab, 300)
    at = np.arange(len(ids))
    distance = np.abs(at[None, :] - at[:, None])
    bias = -np.array(alibi_slopes(heads))[:, None, None] * distance

    x = w["token_embd.weight"][ids] + w["token_types.weight"][0]
    x = w.normalize("token_embd_norm", x, epsilon)
    for i in range(layers):
        q, k, v = (w.apply(f"blk.{i}.attn_{part}", x) for part in "qkv")
        if code:
            q = w.normalize(f"blk.{i}.attn_q_norm", q, epsilon)
            k = w.normalize(f"blk.{i}.attn_k_norm", k, epsilon)
        a = w.apply(f"blk.{i}.attn_output", attend(q, k, v, heads, bias))
        a = w.normalize(f"blk.{i}.attn_output_norm", a + x, epsilon)
        if code:
            # layer_norm_1(residual + attention_output)
            a = w.normalize(f"blk.{i}.attn_norm_2", a + x, epsilon)
        inner = gelu(w.apply(f"blk.{i}.ffn_gate", a)) * w.apply(f"blk.{i}.ffn_up", a)
        y = w.apply(f"blk.{i}.ffn_down", inner)
        x = w.normalize(f"blk.{i}.layer_output_norm", y + a, epsilon)

    arch = "jina-bert-v2"
    metadata = {
        "general.architecture": arch,
        f"{arch}.block_count": layers,
        f"{arch}.context_length": 8192,
        f"{arch}.embedding_length": hidden,
        f"{arch}.feed_forward_length": wide,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.layer_norm_epsilon": epsilon,
        f"{arch}.attention.causal": False,
        f"{arch}.pooling_type": 1,
    }
    return metadata | word_pieces(vocab, 2), w.all, ids, x


def word_pieces(vocab, types):
    control = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123"
    pieces = ["\u2581" + letter for letter in letters] + list(letters)
    tokens = (control + pieces)[:vocab]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "jina-v2-en",
        "tokenizer.ggml.token_type_count": types,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(control) + [1] * (vocab - len(control)),
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }


def unigrams(vocab):
    control = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["\u2581"] + list(letters) + ["\u2581" + letter for letter in letters]
    tokens = (control + pieces)[:vocab]
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 1,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 4 + [-1.0 - 0.01 * i for i in range(vocab - 4)],
        "tokenizer.ggml.token_type": [3, 3, 3, 2] + [1] * (vocab - 4),
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 3,
    }


def rotate(x, heads, base):
    """Rotary embedding of halves, of every head."""
    rows, width = x.shape
    half = width // heads // 2
    angles = np.arange(rows)[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x = x.reshape(rows, heads, 2 * half)
    low, high = x[..., :half], x[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1).reshape(rows, width)


def nomic_moe(seed):
    hidden, heads, wide, layers, vocab, epsilon = 32, 4, 32, 2, 64, 1e-5
    experts, used, base = 4, 2, 10000.0
    w = Weights(seed)
    w.new("token_embd.weight", vocab, hidden, scale=1.0)
    w.new("token_types.weight", 1, hidden, scale=0.5)
    w.norm("token_embd_norm", hidden)
    for i in range(layers):
        w.linear(f"blk.{i}.attn_qkv", 3 * hidden, hidden, scale=0.3)
        w.linear(f"blk.{i}.attn_output", hidden, hidden)
        w.norm(f"blk.{i}.attn_output_norm", hidden)
        if i % 2 == 1:
            w.new(f"blk.{i}.ffn_gate_inp.weight", experts, hidden, scale=0.4)
            w.new(f"blk.{i}.ffn_up_exps.weight", experts, wide, hidden, scale=0.3)
            w.new(f"blk.{i}.ffn_down_exps.weight", experts, hidden, wide, scale=0.4)
        else:
            w.linear(f"blk.{i}.ffn_up", wide, hidden, scale=0.3)
            w.linear(f"blk.{i}.ffn_down", hidden, wide, scale=0.4)
        w.norm(f"blk.{i}.layer_output_norm", hidden)

    ids = np.random.default_rng(seed + 1).integers(4, vocab, 160)
    x = w["token_embd.weight"][ids] + w["token_types.weight"][0]
    x = w.normalize("token_embd_norm", x, epsilon)
    least_gap = math.inf
    for i in range(layers):
        q, k, v = np.split(w.apply(f"blk.{i}.attn_qkv", x), 3, -1)
        q, k = rotate(q, heads, base), rotate(k, heads, base)
        a = w.apply(f"blk.{i}.attn_output", attend(q, k, v, heads, 0.0))
        a = w.normalize(f"blk.{i}.attn_output_norm", a + x, epsilon)
        if i % 2 == 1:
            weights = softmax(a @ w[f"blk.{i}.ffn_gate_inp.weight"].T)
            ranked = np.sort(weights, -1)
            least_gap = min(least_gap, (ranked[:, -used] - ranked[:, -used - 1]).min())
            chosen = weights >= ranked[:, -used, None]
            y = np.zeros_like(a)
            for e in range(experts):
                inner = gelu(a @ w[f"blk.{i}.ffn_up_exps.weight"][e].T)
                out = inner @ w[f"blk.{i}.ffn_down_exps.weight"][e].T
                y += (weights * chosen)[:, e, None] * out
        else:
            y = w.apply(f"blk.{i}.ffn_down", gelu(w.apply(f"blk.{i}.ffn_up", a)))
        x = w.normalize(f"blk.{i}.layer_output_norm", y + a, epsilon)
    # Rounding must not change a choice.
    assert least_gap > 1e-4, least_gap

    arch = "nomic-bert-moe"
    metadata = {
        "general.architecture": arch,
        f"{arch}.block_count": layers,
        f"{arch}.context_length": 512,
        f"{arch}.embedding_length": hidden,
        f"{arch}.feed_forward_length": wide,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.layer_norm_epsilon": epsilon,
        f"{arch}.attention.causal": False,
        f"{arch}.pooling_type": 1,
        f"{arch}.rope.freq_base": base,
        f"{arch}.moe_every_n_layers": 2,
        f"{arch}.expert_count": experts,
        f"{arch}.expert_used_count": used,
    }
    return metadata | unigrams(vocab), w.all, ids, x


def main():
    models = {
        "jina-bert-v2": jina(1, code=False),
        "jina-bert-v2-code": jina(2, code=True),
        "nomic-bert-moe": nomic_moe(3),
    }
    for name, (metadata, tensors, ids, hidden) in models.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        write_gguf(folder / "mini-f32.gguf", metadata, tensors)
        (folder / "ids.json").write_text(json.dumps(ids.tolist()))
        hidden[-LAST:].astype("<f4").tofile(folder / "exact-mini-f32.f32")


if __name__ == "__main__":
    main()
