"""Named load scenarios: a server with a simulated device on one core, the load generator on another.

`./dev bench serve --scenario NAME` prints JSON with raw counts and checks, and closes with one line. Figures are never
asserted; what must be true whatever the machine does (contents, counts that agree, nothing left behind) is, by the exit
status. Standard library only."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import ssl
import sys

from processes import (
    LongPrompts, MemoryWatch, cpu_by_thread_s, make_certificate, metrics, num_files, process_cpu_s, process_rss_bytes, run_load,
    started, wait_idle,
)  # fmt: skip
from scenario_table import SCENARIOS, STEP_S

DEVICE = pathlib.Path(__file__).resolve().with_name("steady.toml")
DEVICE_SECONDS = ("sluice_simulated_device_idle_seconds_total", "sluice_simulated_device_busy_seconds_total")


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
        # Requests count that are sent after the warm-up: in a short run perhaps none but the first, sent before it ends.
        warmup = min(3.0, self.seconds / 5) if self.seconds >= 5 else 0
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
            facts |= {"rss_each_second_bytes": memory.bytes, "rss_growth_bytes": memory.growth_bytes()}
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
        size = max(200, round(wire["bytes"] / wire["data_lines"])) if wire["data_lines"] else 282
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
