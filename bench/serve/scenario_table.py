"""The named load scenarios: what the server and the load generator are told, and what is compared."""

import dataclasses
from dataclasses import dataclass, field

STEP_S = 0.010  # of the simulated device in steady.toml


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
    "--concurrency", "1000", "--output-tokens", "uniform:150,350", "--prompt-tokens", "16",
    "--grpc-connections", "10",
]  # fmt: skip
SCENARIOS = {
    "sse-1000": Scenario(
        "1000 streams over HTTP, a token each 10 ms", 15, ROWS_1000,
        ["--concurrency", "1000", "--output-tokens", "uniform:150,350", "--prompt-tokens", "16"], raw=True,
    ),
    "grpc-1000": Scenario(
        "1000 streams over 10 gRPC connections, a token each 10 ms", 15, ROWS_1000,
        [*GRPC_1000, "--protocol", "grpc"], raw=True, grpc=True,
    ),
    "grpc-h2-1000": Scenario(
        "the same, with the server's transport over nghttp2", 15, [*ROWS_1000, "--grpc-transport", "nghttp2"],
        [*GRPC_1000, "--protocol", "grpc"], raw=True, grpc=True,
    ),
    "kserve-1000": Scenario(
        "the same over the Open Inference Protocol", 15, [*ROWS_1000, "--grpc-transport", "nghttp2"],
        [*GRPC_1000, "--protocol", "kserve"], raw=True, grpc=True,
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
