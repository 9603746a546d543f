"""The other engines behind the protocol of bench_model.cc: `python workers.py llama|openvino MODEL THREADS`.

Both are measured without their samplers wherever that is possible: it can only flatter them.
"""

import ctypes
import json
import sys
import time


def synthetic_prompt(row: int, n: int) -> list[int]:
    """The same tokens as bench_model.cc."""
    state = (12345 + 7919 * row) & 0xFFFFFFFF
    tokens = []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        tokens.append(100 + (state >> 8) % 40000)
    return tokens


class Llama:
    """llama.cpp through llama-cpp-python's low-level batch API."""

    MAX_ROWS = 16
    BATCH = 512

    def __init__(self, model: str, threads: int):
        import llama_cpp
        import numpy

        self.lib, self.numpy = llama_cpp, numpy
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), parameters)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = self.MAX_ROWS * 1024
        context.n_batch = context.n_ubatch = self.BATCH
        context.n_seq_max = self.MAX_ROWS
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(self.BATCH, 0, 1)

    def describe(self) -> dict:
        info = self.lib.llama_print_system_info().decode()
        return {"engine": "llama.cpp", "version": self.lib.__version__, "system_info": info}

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def decode(self, entries):
        """entries: (token, position, row, wants_logits)."""
        self.batch.n_tokens = len(entries)
        for i, (token, position, row, logits) in enumerate(entries):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = row
            self.batch.logits[i] = logits
        status = self.lib.llama_decode(self.context, self.batch)
        assert status == 0, status
        self.lib.llama_synchronize(self.context)

    def prefill_row(self, tokens, row):
        for begin in range(0, len(tokens), self.BATCH):
            part = tokens[begin : begin + self.BATCH]
            last = begin + len(part) == len(tokens)
            self.decode([(t, begin + i, row, last and i == len(part) - 1) for i, t in enumerate(part)])

    def greedy(self, n: int, prompt: list[int]) -> dict:
        self.clear()
        self.prefill_row(prompt, 0)
        out, position = [], len(prompt)
        for _ in range(n):
            logits = self.lib.llama_get_logits_ith(self.context, -1)
            values = self.numpy.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.vocab_size,))
            out.append(int(values.argmax()))
            self.decode([(out[-1], position, 0, True)])
            position += 1
        return {"tokens": out}

    def prefill(self, n: int) -> dict:
        self.clear()
        prompt = synthetic_prompt(0, n)
        begin = time.perf_counter()
        self.prefill_row(prompt, 0)
        return {"seconds": time.perf_counter() - begin, "tokens": n}

    def decode_rows(self, rows: int, context: int, n: int) -> dict:
        self.clear()
        for row in range(rows):
            self.prefill_row(synthetic_prompt(row, context), row)
        begin = time.perf_counter()
        for i in range(n):
            self.decode([(1000 + i, context + i, row, True) for row in range(rows)])
        return {"seconds": time.perf_counter() - begin, "tokens": rows * n}


class OpenVino:
    """OpenVINO GenAI's ContinuousBatchingPipeline over the same GGUF."""

    def __init__(self, model: str, threads: int):
        import openvino
        import openvino_genai

        self.genai, self.openvino = openvino_genai, openvino
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        scheduler.max_num_batched_tokens = 512
        scheduler.max_num_seqs = 32
        scheduler.enable_prefix_caching = False
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )

    def describe(self) -> dict:
        return {"engine": "OpenVINO GenAI", "version": self.genai.__version__, "system_info": self.openvino.__version__}

    def run(self, prompts: list[list[int]], n: int):
        config = self.genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = n
        config.ignore_eos = True
        config.do_sample = False
        tensors = [self.openvino.Tensor(self.numpy_array(p)) for p in prompts]
        begin = time.perf_counter()
        results = self.pipeline.generate(tensors, [config] * len(tensors))
        return time.perf_counter() - begin, results

    @staticmethod
    def numpy_array(tokens):
        import numpy

        return numpy.array([tokens], dtype=numpy.int64)

    def greedy(self, n: int, prompt: list[int]) -> dict:
        _, results = self.run([prompt], n)
        return {"tokens": [int(t) for t in results[0].m_generation_ids[0]]}

    def prefill(self, n: int) -> dict:
        seconds, _ = self.run([synthetic_prompt(0, n)], 1)
        return {"seconds": seconds, "tokens": n}

    def decode_rows(self, rows: int, context: int, n: int) -> dict:
        """The pipeline tells no step times: a run of n + 1 tokens less a run of one."""
        prompts = [synthetic_prompt(row, context) for row in range(rows)]
        short, _ = self.run(prompts, 1)
        long, _ = self.run(prompts, n + 1)
        return {"seconds": long - short, "tokens": rows * n}


def main():
    engine = {"llama": Llama, "openvino": OpenVino}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    print(json.dumps(engine.describe()), flush=True)
    for line in sys.stdin:
        words = line.split()
        numbers = [int(w) for w in words[1:]]
        if words[0] == "greedy":
            answer = engine.greedy(numbers[0], numbers[1:])
        elif words[0] == "prefill":
            answer = engine.prefill(numbers[0])
        else:
            answer = engine.decode_rows(*numbers)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
