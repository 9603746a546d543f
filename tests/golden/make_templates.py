"""Writes what Python's jinja2 gives, set up as transformers does it: templates.json for snippets, template_chats.json
for chat templates.

Needs jinja2 (3.1.6 made the committed file). Run: python make_templates.py   (from any folder)
The chat templates in templates/ are our own, in the shapes that model families use; smollm2.jinja is the one in the
default model's file.
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

from template_conversations import CONVERSATIONS
from template_snippets import SNIPPETS, VARIABLES

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


class Generation(jinja2.ext.Extension):
    """{% generation %} as transformers has it, without the tracking."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, variables):
    """The output, or None if jinja2 refuses."""
    try:
        return env.from_string(source).render(**variables, bos_token="<s>", eos_token="</s>")
    except Exception:  # jinja2 lets Python's own errors through
        return None


def write(name, out):
    (HERE / name).write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def main():
    env = environment()
    snippets = [{"template": s, "expected": render(env, s, VARIABLES)} for s in SNIPPETS]
    chats = []
    for path in sorted((HERE / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for name, variables in CONVERSATIONS.items():
            with_prompt, without = (render(env, source, {**variables, "add_generation_prompt": prompt})
                                    for prompt in (True, False))
            if with_prompt is not None and without is not None and with_prompt.startswith(without):
                without = len(without.encode())  # that many bytes of the other
            chats.append({"template": path.stem, "conversation": name, "expected": with_prompt,
                          "without_prompt": without})
    write("templates.json", {"variables": VARIABLES, "snippets": snippets})
    write("template_chats.json", {"conversations": CONVERSATIONS, "chats": chats})
    refused = sum(s["expected"] is None for s in snippets), sum(c["expected"] is None for c in chats)
    print(f"{len(snippets)} snippets ({refused[0]} refused), {len(chats)} chats ({refused[1]} refused)")



if __name__ == "__main__":
    main()
