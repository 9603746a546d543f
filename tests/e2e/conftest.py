"""A real server process for every test that asks for one, on free ports, ended by its process id."""

import contextlib
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

READY = re.compile(r"is ready: (\S+) at (https?)://([^:]+):(\d+)(?:, gRPC at [^:]+:(\d+))?(?:, admin at http://127.0.0.1:(\d+))?")


def binary() -> str:
    return os.environ.get("SLUICE_BINARY", str(ROOT / "build/release/sluice"))


def model_path() -> str:
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    path = os.environ.get("SLUICE_MODEL", str(default / "sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert os.path.exists(path), f"the model is not at {path}; ./dev test fetches it"
    return path


class Server:
    """One `sluice serve` process."""

    def __init__(
        self, *flags: str, model: str | None = "", env: dict[str, str] | None = None, log_path: pathlib.Path | None = None
    ):
        """`model`: a path; "" for the default one, None where the flags name models."""
        command = [binary(), "serve", "--http-port", "0", "--grpc-port", "0"]
        if model is not None:
            command += ["--model", model or model_path()]
        if "--kv-cache-mib" not in flags:
            command += ["--kv-cache-mib", "256"]
        command += flags
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")} | (env or {})
        self.log_file = open(log_path or os.devnull, "w+b")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log_file, env=environment)
        self.model, self.scheme, self.host, self.port, self.grpc_port, self.admin_port = self._wait_ready()

    def _wait_ready(self):
        end = time.monotonic() + 120
        line = b""
        while time.monotonic() < end:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if readable:
                line = self.process.stdout.readline()
                found = READY.search(line.decode())
                if found:
                    model, scheme, host, port, grpc_port, admin = found.groups()
                    return model, scheme, host, int(port), int(grpc_port or -1), int(admin or -1)
            if self.process.poll() is not None:
                break
        raise AssertionError(f"the server did not get ready: {line!r}, exit {self.process.poll()}, log: {self.log()}")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def grpc_target(self) -> str:
        return f"{self.host}:{self.grpc_port}"

    def log(self) -> str:
        self.log_file.flush()
        self.log_file.seek(0)
        return self.log_file.read().decode(errors="replace")

    def metrics(self) -> dict[str, float]:
        """Samples by name with labels, e.g. 'sluice_running_sequences{model_name="m"}'; also by bare name when unique."""
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=10).read().decode()
        samples: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("#") or not line:
                continue
            key, value = line.rsplit(" ", 1)
            samples[key] = float(value)
            samples.setdefault(key.split("{")[0], float(value))
        return samples

    def wait_until(self, condition, what: str, seconds: float = 20.0):
        """Polls a condition on the metrics; the bound only ends a broken run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            last = self.metrics()
            if condition(last):
                return last
            time.sleep(0.01)
        interesting = {k: v for k, v in last.items() if re.match(r"sluice_(running|waiting|kv_blocks|orphan|open)", k)}
        raise AssertionError(f"never happened: {what}; metrics: {interesting}")

    def wait_idle(self):
        """No running row, no held block, no open stream: what must be true when no client is left."""
        model = self.model

        def idle(m):
            return (
                m["sluice_running_sequences"] == 0
                and m["sluice_waiting_sequences"] == 0
                and m[f'sluice_kv_blocks{{model_name="{model}",state="referenced"}}'] == 0
                and m["sluice_open_streams"] == 0
            )

        samples = self.wait_until(idle, "the server becomes idle")
        assert samples["sluice_orphaned_requests"] == 0
        return samples

    def signal(self, number: int):
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(timeout=seconds)

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log_file.close()

    def connect(self, timeout: float = 30.0) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout)


@contextlib.contextmanager
def running(*flags: str, **kwargs):
    server = Server(*flags, **kwargs)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(log_path=tmp_path_factory.mktemp("server") / "log") as one:
        yield one


@pytest.fixture
def start(tmp_path):
    """start(*flags) → Server, stopped when the test ends."""
    with contextlib.ExitStack() as stack:
        count = 0

        def starter(*flags: str, **kwargs) -> Server:
            nonlocal count
            count += 1
            kwargs.setdefault("log_path", tmp_path / f"log{count}")
            return stack.enter_context(running(*flags, **kwargs))

        yield starter


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The generated gRPC stubs: (inference_pb2, inference_pb2_grpc)."""
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("stubs")
    status = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", "sluice/v1/inference.proto"]
    )
    assert status == 0
    sys.path.insert(0, str(out))  # the generated files import each other by this path
    import importlib

    return importlib.import_module("sluice.v1.inference_pb2"), importlib.import_module("sluice.v1.inference_pb2_grpc")
