"""Gemma 3 270M: perplexity beside llama.cpp's; with --llama.cpp also choices and speed, in one
run; with TRAMONTANE chat and embeddings by the server. See real-model."""

import contextlib
import glob
import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import numpy as np

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TEXT = "tests/data/corpora/wiki.test.raw"
# llama-cpp-python 0.3.36 on the same file and text, measured by this script.
LLAMA_CPP_PERPLEXITY = 21.0644
PROMPTS = [
    "Water boils at a temperature of",
    "The capital of France is",
    "Once upon a time, there was a",
    "def fibonacci(n):\n",
    "In 1969, the first human",
    "The three primary colors are",
    "Dear Sir or Madam,\n\nI am writing to",
    "Photosynthesis is the process by which",
    "1, 2, 3, 5, 8, 13,",
    "Die Hauptstadt von Deutschland ist",
]
# Tokens generated of each prompt, and the lead of the likeliest one that makes it clear.
GENERATED, MARGIN = 40, 0.3
CTX, CHUNKS, THREADS = 512, 12, 2
# Of a speed, whose median counts.
REPETITIONS = 3
# Bounds: perplexity apart, times as fast.
PERPLEXITY, SPEED = 0.003, 1.2
EXAMPLES = os.environ["EXAMPLES"]


def model_file(cache):
    """The parts in the packages, joined."""
    path = os.path.join(cache, "gemma.gguf")
    if not os.path.exists(path):
        parts = {}
        for wheel in glob.glob(os.path.join(cache, "gemma3_270m*.whl")):
            with zipfile.ZipFile(wheel) as package:
                for name in package.namelist():
                    if ".gguf.part" in name:
                        parts[os.path.basename(name)] = package.read(name)
        whole = b"".join(parts[name] for name in sorted(parts))
        found = hashlib.sha256(whole).hexdigest()
        assert found == SHA256, f"the parts in {cache} are not the model; remove its wheels"
        with open(path + ".part", "wb") as file:
            file.write(whole)
        os.rename(path + ".part", path)
    return path


def ours(example, *arguments):
    command = [f"{EXAMPLES}/{example}", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def our_perplexity(path):
    output = ours("perplexity", "-m", path, "--file", TEXT, "--ctx", CTX, "--chunks", CHUNKS)
    return float(output.split("=")[1].split()[0])


def load(path, flash=False, logits_all=True):
    import llama_cpp

    return llama_cpp.Llama(
        model_path=path,
        n_ctx=CTX + 128,
        n_batch=CTX,
        n_ubatch=CTX,
        n_threads=THREADS,
        n_threads_batch=THREADS,
        flash_attn=flash,
        logits_all=logits_all,
        verbose=False,
    )


def log_softmax(row):
    row = row.astype(np.float64)
    return row - row.max() - math.log(np.exp(row - row.max()).sum())


def perplexity(model):
    with open(TEXT, encoding="utf-8") as file:
        tokens = model.tokenize(file.read().encode(), add_bos=True)
    total, count = 0.0, 0
    for chunk in range(CHUNKS):
        part = list(tokens[chunk * CTX : (chunk + 1) * CTX])
        part[0] = model.token_bos()
        model.reset()
        model.eval(part)
        for at in range(CTX // 2, CTX - 1):
            total -= log_softmax(model.scores[at])[part[at + 1]]
            count += 1
    return math.exp(total / count)


def greedy(model, prompt):
    """Prompt and answer as tokens, and the lead of each token of the answer."""
    tokens = list(model.tokenize(prompt.encode(), add_bos=True))
    model.reset()
    model.eval(tokens)
    leads = []
    for _ in range(GENERATED):
        row = model.scores[len(tokens) - 1]
        second, first = np.partition(row, -2)[-2:]
        leads.append(float(first - second))
        tokens.append(int(row.argmax()))
        model.eval(tokens[-1:])
    return tokens, leads


def choices(model, path):
    """Of llama.cpp's choices: how many are clear, and how many of these we would not make."""
    clear, wrong = 0, 0
    for prompt in PROMPTS:
        tokens, leads = greedy(model, prompt)
        with tempfile.NamedTemporaryFile(suffix=".f32") as out:
            ours("logits", "-m", path, "--ids", ",".join(map(str, tokens)), "--out", out.name)
            logits = np.fromfile(out.name, dtype="<f4").reshape(len(tokens), -1)
        start = len(tokens) - GENERATED
        for at, lead in enumerate(leads):
            if lead > MARGIN:
                clear += 1
                wrong += int(logits[start + at - 1].argmax()) != tokens[start + at]
    return clear, wrong


def speeds_of_llama_cpp(model):
    """Tokens per second of a prompt, and one by one."""
    tokens = [2] + [1000 + 37 * i % 20000 for i in range(CTX - 1)]
    prompts, texts = [], []
    for _ in range(REPETITIONS):
        model.reset()
        start = time.perf_counter()
        model.eval(tokens)
        prompts.append(CTX / (time.perf_counter() - start))
        start = time.perf_counter()
        for i in range(32):
            model.eval([1000 + i])
        texts.append(32 / (time.perf_counter() - start))
    return np.median(prompts), np.median(texts)


def our_speeds(path):
    options = ["-p", CTX, "-n", 32, "-d", 0, "-t", THREADS, "-r", REPETITIONS, "--json"]
    rows = json.loads(ours("bench", "-m", path, *options))
    by_kind = {row["test"][:2]: row["tok_s"] for row in rows}
    return by_kind["pp"], by_kind["tg"]


def speed(path, rounds=5):
    """Ratios of prompt and decode speed to llama.cpp's best, measured in turns."""
    models = [load(path, flash, logits_all=False) for flash in (False, True)]
    ratios = []
    for _ in range(rounds):
        theirs = np.max([speeds_of_llama_cpp(model) for model in models], axis=0)
        ratios.append(np.array(our_speeds(path)) / theirs)
    return np.median(ratios, axis=0), np.min(ratios, axis=0), np.max(ratios, axis=0)


def beside_llama_cpp(path):
    model = load(path)
    theirs = perplexity(model)
    print(f"llama.cpp's perplexity: {theirs:.4f}")
    clear, wrong = choices(model, path)
    print(f"greedy: {clear} clear choices of {len(PROMPTS) * GENERATED}, {wrong} others")
    del model
    for name, *figures in zip(("prompt", "decode"), *speed(path)):
        median, least, most = figures
        print(f"{name}: {median:.2f} times llama.cpp's best ({least:.2f} to {most:.2f})")
        if median < SPEED:
            print(f"NOT MET: {name} {SPEED} times as fast")
    assert wrong == 0, "the model chooses something else"
    return theirs


def ask(port, route, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{route}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)


@contextlib.contextmanager
def server(binary):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as store:
        names = dict(os.environ, OLLAMA_HOST=f"127.0.0.1:{port}", OLLAMA_MODELS=store)
        process = subprocess.Popen([binary, "serve"], env=names, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/")
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"{binary} serve does not start; run it to see why")
            yield port, names
        finally:
            process.terminate()
            process.wait()


def in_the_server(path, binary):
    with server(binary) as (port, names), tempfile.NamedTemporaryFile("w") as modelfile:
        modelfile.write(f"FROM {os.path.abspath(path)}\n")
        modelfile.flush()
        command = [binary, "create", "gemma", "-f", modelfile.name]
        subprocess.run(command, env=names, check=True, capture_output=True)
        question = {"role": "user", "content": "What is the capital of France? One word."}
        options = {"temperature": 0, "num_predict": 20}
        body = {"model": "gemma", "messages": [question], "stream": False, "options": options}
        answer = ask(port, "/api/chat", body)["message"]["content"]
        print(f"chat: {answer!r}")
        assert "Paris" in answer
        texts = ["A cat sleeps on the sofa.", "A kitten is napping.", "The stock market fell."]
        vectors = np.array(ask(port, "/api/embed", {"model": "gemma", "input": texts})["embeddings"])
        print(f"embeddings: {vectors.shape}, cosines {np.round(vectors[0] @ vectors[1:].T, 3)}")
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def main():
    path = model_file(sys.argv[1])
    theirs = beside_llama_cpp(path) if sys.argv[2] == "--llama.cpp" else LLAMA_CPP_PERPLEXITY
    own = our_perplexity(path)
    apart = abs(own / theirs - 1)
    print(f"Gemma 3 270M: perplexity {own:.4f}, llama.cpp {theirs:.4f}, {100 * apart:.2f} % apart")
    assert apart <= PERPLEXITY
    if "TRAMONTANE" in os.environ:
        in_the_server(path, os.environ["TRAMONTANE"])


main()
