"""`sluice chat` in a terminal: it streams, and Ctrl-C cancels the answer, not the program."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time

from conftest import binary, model_path


def set_controlling_terminal(slave: int):
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


class Terminal:
    def __init__(self, *flags: str):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [binary(), "chat", "--model", model_path(), "--kv-cache-mib", "128", *flags],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=lambda: set_controlling_terminal(slave),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def read_until(self, condition, what: str, seconds: float = 60):
        end = time.monotonic() + seconds
        while not condition(self.seen):
            assert time.monotonic() < end, f"{what} never came: {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")

    def type(self, text: str):
        self.seen = ""
        os.write(self.master, text.encode())

    def interrupt_an_answer(self):
        """Types questions until an answer is still growing when Ctrl-C is pressed: the model may end one at any token."""
        for _ in range(5):
            self.type("Write a very long story about the sea.\n")
            self.read_until(lambda s: len(s) > 60 or s.endswith("> "), "the beginning of the answer")
            os.write(self.master, b"\x03")
            self.read_until(lambda s: s.endswith("> "), "a new prompt")
            if "[cancelled]" in self.seen:
                return
        raise AssertionError(f"no answer was cancelled: {self.seen!r}")


def test_ctrl_c_cancels_the_answer_and_the_chat_goes_on():
    terminal = Terminal()
    terminal.read_until(lambda s: s.endswith("> "), "the prompt")
    terminal.interrupt_an_answer()
    terminal.type("\x03")
    terminal.read_until(lambda s: s.endswith("> "), "a new prompt after Ctrl-C on an empty line")
    terminal.interrupt_an_answer()
    terminal.type("/exit\n")
    assert terminal.process.wait(timeout=20) == 0
    os.close(terminal.master)
