"""Named load scenarios: a server with a simulated device on one core, the load generator on another.

`./dev bench serve --scenario NAME` prints JSON with raw counts and checks, and closes with one line. Figures are never
asserted; what must be true whatever the machine does (contents, counts that agree, nothing left behind) is, by the exit
status. Standard library only."""

import argparse
import contextlib
import dataclasses
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
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEVICE = ROOT / "bench/serve/steady.toml"
DEVICE_SECONDS = ("sluice_simulated_device_idle_seconds_total", "sluice_simulated_device_busy_seconds_total")
STEP_S = 0.010  # of that device
READY = re.compile(r"at (https?://[^:\s]+:\d+)(?:, gRPC at [^:]+:(\d+))?")


@dataclass
class Scenario:
    about: str
    seconds: float  # of load, by default
    server: list[str] = field(default_factory=list)
    load: list[str] = field(default_factory=list)
    expected_errors: set[str] = field(default_factory=set)
    raw: bool = False  # compare with raw sending
    grpc: bool = False
    step_s: float = STEP_S
    long_prompts: bool = False  # beside the load, one after the other
    tls: bool = False  # with a certificate that the script makes
    connections: bool = False  # what new connections cost: the load, less the same without them
    cores: tuple[int, ...] = (0,)  # of the server
    base: str = ""  # a second run to compare with: the same ...
    base_less: tuple[str, ...] = ()  # ... without these flags


ROWS_1000 = ["--max-rows", "1024", "--max-step-tokens", "4096", "--max-waiting-requests", "2048"]
GRPC_1000 = [
    "--concurrency", "1000", "--output-tokens", "uniform:150,350", "--prompt-tokens", "16", "--protocol", "grpc",
    "--grpc-connections", "10",
]  # fmt: skip
SCENARIOS = {
    "sse-1000": Scenario(
        "1000 streams over HTTP, a token each 10 ms", 15, ROWS_1000,
        ["--concurrency", "1000", "--output-tokens", "uniform:150,350", "--prompt-tokens", "16"], raw=True,
    ),
    "grpc-1000": Scenario(
        "1000 streams over 10 gRPC connections, a token each 10 ms", 15, ROWS_1000, GRPC_1000, raw=True, grpc=True,
    ),
    "grpc-h2-1000": Scenario(
        "the same, with the server's transport over nghttp2", 15, [*ROWS_1000, "--grpc-transport", "nghttp2"], GRPC_1000,
        raw=True, grpc=True,
    ),
    "overload-3x": Scenario(
        "three times the requests that 32 rows can serve", 20,
        ["--max-rows", "32", "--max-waiting-requests", "64"],
        ["--rate", "480", "--output-tokens", "20", "--prompt-tokens", "16", "--slo", "ttft=1s"], {"http_429"},
    ),
    "slow-clients": Scenario(
        "200 streams, one in ten of which is hardly read", 15, ["--max-rows", "256", "--max-step-tokens", "2048"],
        ["--concurrency", "200", "--output-tokens", "100", "--prompt-tokens", "16", "--slow-fraction", "0.1",
         "--slow-pause-s", "0.2"],
        base="without slow clients", base_less=("--slow-fraction", "--slow-pause-s"),
    ),
    "io-threads": Scenario(
        "1600 streams over HTTP through two I/O threads, on both cores", 15,
        ["--max-rows", "2048", "--max-step-tokens", "4096", "--max-waiting-requests", "4096", "--io-threads", "2"],
        ["--concurrency", "1600", "--output-tokens", "uniform:150,350", "--prompt-tokens", "16"],
        cores=(0, 1), base="with one I/O thread", base_less=("--io-threads",),
    ),
    "idle-10k": Scenario(
        "10,000 idle connections beside 100 streams", 15,
        ["--max-rows", "128", "--max-connections", "12000", "--idle-timeout-s", "3600", "--read-timeout-s", "3600"],
        ["--concurrency", "100", "--output-tokens", "100", "--prompt-tokens", "16", "--idle-connections", "10000",
         "--max-connections", "200"],
    ),
    "sse-250k": Scenario(
        "1024 streams over HTTP, a token each 4 ms, eight to a chunk: 256,000 tokens/s", 15, ROWS_1000,
        ["--concurrency", "1024", "--output-tokens", "uniform:400,800", "--prompt-tokens", "16",
         "--extra-body", '{"stream_interval": 8}'], raw=True, step_s=0.004,
    ),
    "connections": Scenario(
        "5000 new connections a second, each for one GET /livez, beside 8 streams", 15, ["--max-rows", "32"],
        ["--concurrency", "8", "--output-tokens", "100", "--prompt-tokens", "16", "--connection-rate", "5000"], raw=True,
        connections=True,
    ),
    "soak": Scenario(
        "bursts of conversations, some hardly read, some given up", 600, ["--max-rows", "64"],
        ["--rate", "40", "--arrivals", "gamma", "--cv", "3", "--turns", "3", "--output-tokens", "lognormal:40,0.8",
         "--prompt-tokens", "lognormal:60,0.7", "--slow-fraction", "0.02", "--slow-pause-s", "0.2", "--timeout-s", "3"],
        {"timeout", "http_429"},
    ),
    "short-requests": Scenario(
        "1,000,000 requests of a token or two", 3600, ["--max-rows", "256", "--max-step-tokens", "4096"],
        ["--concurrency", "128", "--output-tokens", "uniform:1,2", "--prompt-tokens", "4", "--requests", "1000000"],
        step_s=0.001,
    ),
    "long-prompts": Scenario(
        "100 streams beside prompts of 100,000 tokens", 15,
        ["--max-rows", "128", "--max-step-tokens", "4096", "--model-shape", "llama-3.1-8b"],
        ["--concurrency", "100", "--output-tokens", "100", "--prompt-tokens", "16"], long_prompts=True,
        base="without long prompts",
    ),
}  # fmt: skip
SCENARIOS |= {f"{name}-tls": dataclasses.replace(SCENARIOS[name], about=f"{SCENARIOS[name].about}, with TLS", tls=True)
              for name in ("sse-1000", "idle-10k")}  # fmt: skip


def process_cpu_s(pid: int) -> float:
    """User and system seconds by the kernel's ticks: the second opinion on what the load generator read."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_by_thread_s(pid: int) -> dict[str, float]:
    """By the threads' names: those of one name together."""
    seconds: dict[str, float] = {}
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        fields = fields.split()
        seconds[name] = seconds.get(name, 0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def process_rss_bytes(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
        """From the second fifth of the time, when everything has been used once, to the last."""
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


def num_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


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
        busy = {k: now[k] for k in ("sluice_running_sequences", "sluice_waiting_sequences", "sluice_open_streams")}
        if not any(busy.values()) or time.monotonic() > end:
            return now
        time.sleep(0.05)


def without(flags: list[str], *names: str) -> list[str]:
    """Without these flags and their values."""
    return [flag for before, flag in zip([""] + flags, flags, strict=False) if flag not in names and before not in names]


def within(a: float, b: float, part: float, slack: float = 0) -> bool:
    return abs(a - b) <= part * max(abs(a), abs(b)) + slack


class Run:
    """One scenario on one server."""

    def __init__(self, args: argparse.Namespace, name: str):
        self.args, self.name, self.scenario = args, name, SCENARIOS[name]
        self.seconds = args.seconds or self.scenario.seconds
        self.folder = pathlib.Path(args.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checks: dict[str, dict] = {}
        self.tls, self.tls_server_flags, self.tls_load_flags = None, [], []
        if self.scenario.tls:
            cert, key = make_certificate(self.folder)
            self.tls = ssl.create_default_context(cafile=str(cert))
            self.tls_server_flags, self.tls_load_flags = ["--tls-cert", str(cert), "--tls-key", str(key)], ["--tls-ca", str(cert)]

    def check(self, name: str, ok: bool, **values):
        self.checks[name] = {"ok": bool(ok), **values}

    def device(self) -> pathlib.Path:
        if self.scenario.step_s == STEP_S:
            return DEVICE
        device = self.folder / f"{self.name}-device.toml"
        device.write_text(re.sub(r"^step-s = .*", f"step-s = {self.scenario.step_s}", DEVICE.read_text(), flags=re.MULTILINE))
        return device

    def load_flags(self) -> list[str]:
        warmup = min(3.0, self.seconds / 5)
        flags = [*self.scenario.load, "--duration-s", str(self.seconds), "--warmup-s", str(warmup), "--seed", str(self.args.seed)]
        return flags + self.tls_load_flags + (["--quiet"] if self.args.quiet else [])

    def run(self) -> dict:
        server = [
            self.args.binary, "serve", "--backend", "sim", "--sim-device", str(self.device()), "--model", self.args.model,
            "--http-port", "0", "--grpc-port", "0", "--log-level", "warn", *self.scenario.server, *self.tls_server_flags,
        ]  # fmt: skip
        with started(server, self.folder / f"{self.name}-server.log", self.scenario.cores) as (pid, url, grpc_port):
            facts = {"rss_before_bytes": process_rss_bytes(pid), "files_before": num_files(pid)}
            before, cpu_before, threads_before = metrics(url, self.tls), process_cpu_s(pid), cpu_by_thread_s(pid)
            flags = [*self.load_flags(), "--url", url, "--check-script", "--server-pid", str(pid)]
            if self.scenario.grpc:
                flags += ["--grpc-port", str(grpc_port)]
            with MemoryWatch(pid) as memory, LongPrompts(url) if self.scenario.long_prompts else contextlib.nullcontext() as long:
                result = run_load(self.args.binary, flags, self.folder / f"{self.name}.json")
            if long:
                facts["long_prompt_seconds"] = long.seconds
                self.check("long prompts were answered", bool(long.seconds), answered=len(long.seconds))
            facts |= {"rss_each_second_bytes": memory.bytes, "rss_growth_bytes": memory.growth_bytes() if memory.bytes else 0}
            cpu_after, after = process_cpu_s(pid), wait_idle(url, self.tls)
            threads = {name: s - threads_before.get(name, 0) for name, s in cpu_by_thread_s(pid).items()}
            facts["thread_us_per_token"] = {name: s * 1e6 / max(1, result["tokens"]["whole_run"]) for name, s in threads.items() if s > 0}
            idle, busy = (after[name] - before.get(name, 0) for name in DEVICE_SECONDS)
            facts |= {"rss_after_bytes": process_rss_bytes(pid), "files_after": num_files(pid), "device_idle": idle / (idle + busy)}
            self.check_run(result, before, after, cpu_after - cpu_before, facts)
        out = {"scenario": self.name, "about": self.scenario.about, "seconds": self.seconds, "load": result, "server": facts}
        if self.scenario.raw:
            raw = self.raw_command(result)
            out["raw_send"] = self.run_again(raw, "raw", ("--protocol", "--grpc-connections"))
        if self.scenario.connections:
            out["without_connections"] = self.run_again(server, "base", ("--connection-rate",))
            out["raw_without_connections"] = self.run_again(raw, "raw-base", ("--connection-rate",))
        if self.scenario.base:
            out["base"] = self.run_again(server, "base", self.scenario.base_less)
        out["checks"] = self.checks
        return out

    def raw_command(self, result: dict) -> list[str]:
        """A server that does nothing but send, with chunks of the same size as in `result`."""
        wire = result["wire"]
        lines = wire["data_lines"] or wire["chunks"]
        size = max(200, round(wire["bytes"] / lines)) if wire["data_lines"] else 282
        step = ["--step-ms", str(self.scenario.step_s * 1000)]
        return [self.args.binary, "bench", "raw-send", *step, "--chunk-bytes", str(size), *self.tls_server_flags]

    def run_again(self, server: list[str], what: str, left_out: tuple[str, ...]) -> dict:
        """The same, less some flags, on a server of its own."""
        with started(without(server, *left_out), self.folder / f"{self.name}-{what}.log", self.scenario.cores) as (pid, url, _):
            flags = [*without(self.load_flags(), *left_out), "--url", url, "--server-pid", str(pid)]
            return run_load(self.args.binary, flags, self.folder / f"{self.name}-{what}.json")

    def check_run(self, result: dict, before: dict, after: dict, cpu_s: float, facts: dict):
        requests, wire, tokens = result["requests"], result["wire"], result["tokens"]
        errors = {kind: error["count"] for kind, error in result["errors"].items()}
        self.check("only expected errors", set(errors) <= self.scenario.expected_errors, errors=errors)
        self.check("some requests completed", requests["completed"] > 0, completed=requests["completed"])
        # The readers' chunks against lines counted in raw bytes: beside its chunks a completed answer has the role, the
        # finish, often with the last text, the usage and [DONE]; one that was given up has some of these.
        if not self.scenario.grpc:
            most = wire["chunks"] + 4 * requests["whole_run"]
            least = wire["chunks"] + 3 * (requests["whole_run"] - sum(errors.values()))
            self.check("data lines agree", least * 0.98 <= wire["data_lines"] <= most * 1.02,
                       on_the_wire=wire["data_lines"], read_at_least=least, read_at_most=most)  # fmt: skip
        server_tokens = after["sluice_output_tokens_total"] - before.get("sluice_output_tokens_total", 0)
        if not errors.keys() & {"timeout", "unfinished"}:  # those lose tokens on the way
            told = tokens["whole_run"]
            self.check("tokens agree with the server's own count", within(told, server_tokens, 0.02), read=told, server=server_tokens)
        own = result["cpu"]["server_whole_run_s"]
        # The ticks also hold what the load generator asks before its run, and the closing of what it held open.
        slack = 0.1 + 100e-6 * result["connections"]["idle_open"]
        self.check("CPU time agrees with the kernel's ticks", within(own, cpu_s, 0.02, slack), read=own, ticks=cpu_s)
        self.check("nothing is left behind", after["sluice_open_streams"] == 0 and after["sluice_running_sequences"] == 0
                   and after["sluice_orphaned_requests"] == 0)  # fmt: skip
        self.check("no file is left open", facts["files_after"] <= facts["files_before"] + 8, **facts)
        if self.scenario.connections:
            opened = result["new_connections"]
            self.check("new connections are answered and closed", opened["failed"] == 0 < opened["answered"],
                       answered=opened["answered"], errors=opened["errors"])  # fmt: skip
        if "--idle-connections" in self.scenario.load:
            idle = result["connections"]["idle_open"]
            self.check("idle connections stay open", idle == 10000, open=idle)
        grown, limit = facts["rss_growth_bytes"], facts["rss_after_bytes"] / 50 + (4 << 20)
        if len(facts["rss_each_second_bytes"]) < 60:  # buffers and pools are still being filled
            limit = 256 << 20
        self.check("memory is flat", grown < limit, grown_bytes=grown, limit_bytes=limit)


def us_per_connection(result: dict, base: dict) -> float:
    """Server CPU beyond what the streams alone take, by new connection."""
    cores = result["cpu"]["server_cores"] - base["cpu"]["server_cores"]
    return cores * 1e6 / result["new_connections"]["answered_per_s"]


def closing_line(out: dict) -> str:
    load = out["load"]
    if "without_connections" in out:
        opened = load["new_connections"]
        own = us_per_connection(load, out["without_connections"])
        raw = us_per_connection(out["raw_send"], out["raw_without_connections"])
        return (f"{out['scenario']}: {opened['answered_per_s']:.0f} connections/s, {own:.1f} us of server CPU each, "
                f"{own / raw:.2f}x raw send ({raw:.1f} us), p99 {opened['latency_ms']['p99']:.2f} ms")  # fmt: skip
    rates, latency, cpu = load["rates"], load["latency_ms"], load["cpu"]
    parts = [
        f"{rates['output_tokens_per_s']:.0f} tokens/s", f"{rates['completed_per_s']:.1f} requests/s",
        f"TTFT p50 {latency['ttft']['p50']:.1f} ms, p99 {latency['ttft']['p99']:.1f} ms",
        f"ITL p50 {latency['itl']['p50']:.2f} ms, p99 {latency['itl']['p99']:.2f} ms",
        f"{load['tokens']['chunks_per_token']:.3f} chunks per token", f"{cpu['server_us_per_token']:.2f} us of server CPU per token",
    ]  # fmt: skip
    threads = sorted(out["server"]["thread_us_per_token"].items(), key=lambda thread: -thread[1])
    parts[-1] += " (" + ", ".join(f"{name} {us:.2f}" for name, us in threads if us > 0.05) + ")"
    parts.append(f"device idle {out['server']['device_idle']:.1%}")
    if out["scenario"] == "overload-3x":
        capacity = 32 / (20 * STEP_S)
        refused = load["errors"].get("http_429")
        parts.append(f"goodput {rates['goodput_per_s']:.1f}/s of {capacity:.0f}/s capacity")
        if refused:
            after = refused["after_ms"]
            parts.append(f"{refused['count']} refused within {after['p50']:.2f} ms (p50), {after['p99']:.2f} ms (p99)")
    if "base" in out:
        base, itl = out["base"], out["base"]["latency_ms"]["itl"]
        parts.append(f"ITL max {latency['itl']['max']:.2f} ms; {SCENARIOS[out['scenario']].base} {base['rates']['output_tokens_per_s']:.0f} "
                     f"tokens/s, ITL p99 {itl['p99']:.2f} ms, max {itl['max']:.2f} ms, {base['tokens']['chunks_per_token']:.3f} chunks "
                     f"per token, {base['cpu']['server_us_per_token']:.2f} us")  # fmt: skip
    if "long_prompt_seconds" in out["server"]:
        parts.append(f"{len(out['server']['long_prompt_seconds'])} long prompts")
    if out["seconds"] >= 60:
        parts.append(f"memory {out['server']['rss_growth_bytes'] / 1e6:+.1f} MB of {out['server']['rss_after_bytes'] / 1e6:.0f} MB")
    if idle := load["connections"]["idle_open"]:
        server = out["server"]
        parts.append(f"{(server['rss_after_bytes'] - server['rss_before_bytes']) / idle / 1024:.1f} KiB per idle connection")
    if "raw_send" in out:
        raw = out["raw_send"]
        ratio = cpu["server_us_per_token"] / raw["cpu"]["server_us_per_token"]
        parts.append(f"{ratio:.2f}x raw send ({raw['cpu']['server_us_per_token']:.2f} us, "
                     f"{raw['tokens']['chunks_per_token']:.3f} chunks per token)")  # fmt: skip
    return f"{out['scenario']}: " + ", ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench serve", description=__doc__)
    parser.add_argument("--scenario", required=True, choices=sorted(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=0, help="of load; default: the scenario's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True, help="gives tokenizer and template")
    parser.add_argument("--out", default="build/bench-serve", help="folder for logs and results")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    if os.cpu_count() < 2:
        print("one core only: server and load share it", file=sys.stderr)
    run = Run(args, args.scenario)
    out = run.run()
    print(json.dumps(out))
    failed = [name for name, check in out["checks"].items() if not check["ok"]]
    for name in failed:
        print(f"check failed: {name}: {out['checks'][name]}", file=sys.stderr)
    print(closing_line(out))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
