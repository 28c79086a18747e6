"""llama.cpp through the C API of llama-cpp-python: decodes, never samples.

    llama_worker.py MODEL REPACK          repack 0 or 1; then per line of stdin
        ROW FLASH_ATTENTION THREADS REPETITIONS
    answers one line of JSON: tokens per second of each repetition.

    llama_worker.py MODEL REPACK --first FLASH_ATTENTION THREADS PROMPT_TOKENS
    answers seconds from loading the model to the logits after the prompt (the start
    of Python and its imports, about 0.2 s, do not count).
"""

import ctypes
import json
import random
import sys
import time

import llama_cpp.llama_cpp as lc

START = time.perf_counter()

import rows  # noqa: E402


class Model:
    def __init__(self, path, repack):
        lc.llama_backend_init()
        self.silence = lc.llama_log_callback(lambda level, text, data: None)
        lc.llama_log_set(self.silence, None)
        params = lc.llama_model_default_params()
        params.use_extra_bufts = repack
        self.model = lc.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        vocab = lc.llama_model_get_vocab(self.model)
        self.n_vocab = lc.llama_vocab_n_tokens(vocab)
        self.random = random.Random(1)

    def context(self, length, sequences, flash_attention, threads):
        params = lc.llama_context_default_params()
        # Without a unified cache every sequence gets its share of n_ctx.
        share = -(-length // 256) * 256
        params.n_ctx = share * sequences
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(flash_attention)
        context = lc.llama_init_from_model(self.model, params)
        if not context:
            raise SystemExit("llama.cpp cannot make a context")
        return context

    def decode(self, context, batch, places, last_only):
        """Runs one batch of random tokens at `places`, (sequence, position) pairs."""
        batch.n_tokens = len(places)
        for i, (sequence, position) in enumerate(places):
            batch.token[i] = self.random.randrange(self.n_vocab)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = not last_only or i + 1 == len(places)
        if lc.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")

    def prompt(self, context, batch, first, n):
        """Appends `n` tokens to sequence 0, in parts of llama.cpp's n_batch."""
        for start in range(first, first + n, 2048):
            end = min(start + 2048, first + n)
            self.decode(context, batch, [(0, p) for p in range(start, end)], True)
        lc.llama_synchronize(context)

    def measure(self, row, flash_attention, threads, repetitions):
        """Tokens per second of each repetition."""
        context = self.context(row.length, row.batch, flash_attention, threads)
        batch = lc.llama_batch_init(2048, 0, 1)
        memory = lc.llama_get_memory(context)
        if row.depth:
            self.prompt(context, batch, 0, row.depth)
            for sequence in range(1, row.batch):
                lc.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        rates = []
        for repetition in range(repetitions + 1):
            # The first repetition warms up; a few steps are enough for that.
            n = row.n if repetition else min(row.n, 16)
            start = time.perf_counter()
            if row.prompt:
                self.prompt(context, batch, row.depth, n)
            else:
                for position in range(row.depth, row.depth + n):
                    places = [(sequence, position) for sequence in range(row.batch)]
                    self.decode(context, batch, places, False)
                    lc.llama_synchronize(context)
            rates.append(row.batch * n / (time.perf_counter() - start))
            for sequence in range(row.batch):
                lc.llama_memory_seq_rm(memory, sequence, row.depth, -1)
        lc.llama_batch_free(batch)
        lc.llama_free(context)
        return rates[1:]


def main():
    path, repack = sys.argv[1], sys.argv[2] == "1"
    model = Model(path, repack)
    if sys.argv[3:4] == ["--first"]:
        flash_attention, threads, n = map(int, sys.argv[4:7])
        context = model.context(n + 1, 1, flash_attention, threads)
        batch = lc.llama_batch_init(2048, 0, 1)
        model.prompt(context, batch, 0, n)
        logits = lc.llama_get_logits(context)
        max(range(model.n_vocab), key=lambda token: logits[token])
        print(json.dumps(time.perf_counter() - START), flush=True)
        return
    info = ctypes.string_at(lc.llama_print_system_info()).decode()
    print(json.dumps({"system": info}), flush=True)
    for line in sys.stdin:
        name, flash_attention, threads, repetitions = line.split()
        row = rows.parse(name)
        rates = model.measure(row, int(flash_attention), int(threads), int(repetitions))
        print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    main()
