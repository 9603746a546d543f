"""A server and a load generator as processes: started on cores of their own, watched through /proc and /metrics, ended."""

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import signal
import ssl
import statistics
import subprocess
import threading
import time
import urllib.request

READY = re.compile(r"at (https?://[^:\s]+:\d+)(?:, gRPC at [^:]+:(\d+))?")


def on_cores(*cores: int):
    """For preexec_fn: the process stays on these cores and may open as many files as is allowed."""

    def prepare():
        if os.cpu_count() > 1:
            os.sched_setaffinity(0, set(cores))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return prepare


@contextlib.contextmanager
def started(command: list[str], log: pathlib.Path, cores: tuple[int, ...] = (0,)):
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=on_cores(*cores))
    try:
        line = ""
        while not (found := READY.search(line)):
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{command[0]} did not get ready: {log.read_text()[-1000:]}")
        yield process.pid, found[1], int(found[2] or 0)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stdout.close()


def run_load(binary: str, flags: list[str], output: pathlib.Path) -> dict:
    command = [binary, "bench", "serve", "--json", str(output), *flags]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, preexec_fn=on_cores(1))
    if done.returncode not in (0, 2):
        raise SystemExit(f"the load generator ended with {done.returncode}: {' '.join(command)}")
    return json.loads(output.read_text())


def make_certificate(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"openssl made no certificate: {done.stderr[-500:]}")
    return cert, key


def metrics(url: str, tls: ssl.SSLContext | None) -> dict[str, float]:
    samples: dict[str, float] = {}
    for line in urllib.request.urlopen(f"{url}/metrics", timeout=10, context=tls).read().decode().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            bare = name.split("{")[0]
            samples[bare] = samples.get(bare, 0) + float(value)
    return samples


def wait_idle(url: str, tls: ssl.SSLContext | None, seconds: float = 30) -> dict[str, float]:
    end = time.monotonic() + seconds
    while True:
        now = metrics(url, tls)
        busy = any(now[f"sluice_{what}"] for what in ("running_sequences", "waiting_sequences", "open_streams"))
        if not busy or time.monotonic() > end:
            return now
        time.sleep(0.05)


def cpu_of(stat: pathlib.Path) -> tuple[str, float]:
    """The name and the user and system seconds, by the kernel's ticks, of a process or thread."""
    name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
    user, system = fields.split()[11:13]
    return name, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int) -> float:
    """The second opinion on what the load generator read."""
    return cpu_of(pathlib.Path(f"/proc/{pid}/stat"))[1]


def cpu_by_thread_s(pid: int) -> dict[str, float]:
    """By the threads' names: those of one name together."""
    seconds: dict[str, float] = {}
    for name, cpu_s in map(cpu_of, pathlib.Path(f"/proc/{pid}/task").glob("*/stat")):
        seconds[name] = seconds.get(name, 0) + cpu_s
    return seconds


def process_rss_bytes(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Beside:
    """A thread that runs beside a `with` block, until the block ends."""

    def __init__(self):
        self.stop, self.thread = threading.Event(), threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class MemoryWatch(Beside):
    """The resident memory of a process, each second."""

    def __init__(self, pid: int):
        super().__init__()
        self.pid, self.bytes = pid, []

    def run(self):
        while not self.stop.wait(1):
            self.bytes.append(process_rss_bytes(self.pid))

    def growth_bytes(self) -> int:
        """From the second fifth of the time, when everything has been used once, to the last; none in a short run."""
        if len(self.bytes) < 2:
            return 0
        fifth = max(1, len(self.bytes) // 5)
        return round(statistics.median(self.bytes[-fifth:]) - statistics.median(self.bytes[fifth : 2 * fifth]))


class LongPrompts(Beside):
    """Prompts of 100,000 tokens, each another, one after the other, an answer of one token each."""

    WORDS = "time people way water day word other about many then these some would make like into look two more".split()

    def __init__(self, url: str):
        super().__init__()
        self.url, self.seconds = url, []

    def run(self):
        draw = random.Random(1)
        while not self.stop.is_set():
            prompt = " ".join(draw.choices(self.WORDS, k=100_000))
            body = json.dumps({"model": "default", "prompt": prompt, "max_tokens": 1}).encode()
            begin = time.monotonic()
            request = urllib.request.Request(f"{self.url}/v1/completions", body, {"Content-Type": "application/json"})
            assert json.load(urllib.request.urlopen(request, timeout=60))["usage"]["prompt_tokens"] >= 99_000
            self.seconds.append(time.monotonic() - begin)
