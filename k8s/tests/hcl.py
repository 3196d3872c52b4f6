"""A reader of HCL that keeps expressions as they are written. For questions that Terraform
answers only with its providers: what is declared, and what refers to it."""

import dataclasses
import pathlib
import re

BLOCK = re.compile(r'([A-Za-z_][\w-]*)((?:\s+(?:"[^"]*"|[A-Za-z_][\w-]*))*)\s*\{')
ATTRIBUTE = re.compile(r"([A-Za-z_][\w-]*)\s*=(?!=)\s*")


@dataclasses.dataclass
class Body:
    """A block: what is set in it, in order, and the blocks in it."""

    kind: str = ""
    labels: list = dataclasses.field(default_factory=list)
    attributes: dict = dataclasses.field(default_factory=dict)
    blocks: list = dataclasses.field(default_factory=list)

    def all(self, kind):
        return [block for block in self.blocks if block.kind == kind]

    def expressions(self):
        """Every expression in it, also of the blocks inside."""
        yield from self.attributes.values()
        for block in self.blocks:
            yield from block.expressions()


def skip_string(text, at):
    """Behind the closing quote; interpolations may have quotes of their own."""
    at += 1
    while text[at] != '"':
        if text[at] == "\\":
            at += 1
        elif text.startswith(("${", "%{"), at) and text[at - 1] != text[at]:
            at = skip_brackets(text, at + 1) - 1
        at += 1
    return at + 1


def skip_heredoc(text, at):
    marker = re.match(r"<<-?(\w+)\n", text[at:])
    end = re.compile(rf"^\s*{marker[1]}$", re.M).search(text, at + marker.end())
    return end.end()


def skip_brackets(text, at):
    """Behind the bracket that closes the one here."""
    depth = 0
    while True:
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
            if depth == 0:
                return at + 1
        if text[at] == '"':
            at = skip_string(text, at)
        elif re.match(r"<<-?\w+\n", text[at:]):
            at = skip_heredoc(text, at)
        else:
            at += 1


def skip_expression(text, at, ends="\n}"):
    """To the end of the line that ends it; in a map, a comma does too."""
    while at < len(text) and text[at] not in ends:
        if text[at] in "([{":
            at = skip_brackets(text, at)
        elif text[at] == '"':
            at = skip_string(text, at)
        elif re.match(r"<<-?\w+\n", text[at:]):
            at = skip_heredoc(text, at)
        else:
            at += 1
    return at


def without_comments(text):
    """Lines that are comments, and comments behind something, without touching strings."""
    kept = []
    for line in text.splitlines():
        at, end = 0, len(line)
        while at < end:
            if line[at] == '"':
                try:
                    at = skip_string(line, at)
                    continue
                except IndexError:
                    break
            if line[at] == "#" or line.startswith("//", at):
                line = line[:at]
                break
            at += 1
        kept.append(line.rstrip())
    return "\n".join(kept) + "\n"


def parse(text, at=0, end=None):
    body = Body()
    end = len(text) if end is None else end
    while True:
        while at < end and text[at] in " \t\n":
            at += 1
        if at >= end:
            return body
        attribute = ATTRIBUTE.match(text, at)
        if attribute:
            stop = skip_expression(text, attribute.end())
            body.attributes[attribute[1]] = text[attribute.end() : stop].strip()
            at = stop
            continue
        block = BLOCK.match(text, at)
        assert block, f"neither an attribute nor a block: {text[at : at + 60]!r}"
        close = skip_brackets(text, block.end() - 1)
        inner = parse(text, block.end(), close - 1)
        inner.kind = block[1]
        inner.labels = re.findall(r'"([^"]*)"|([A-Za-z_][\w-]*)', block[2])
        inner.labels = [quoted or plain for quoted, plain in inner.labels]
        body.blocks.append(inner)
        at = close


def entries(text):
    """The keys of a map, each with its expression; None where it is not written out as one."""
    text = text.strip()
    if not text.startswith("{") or re.match(r"\{\s*for\b", text) or skip_brackets(text, 0) != len(text):
        return None
    found, at = {}, 1
    while True:
        while text[at] in " \t\n,":
            at += 1
        key = ATTRIBUTE.match(text, at)
        if not key:
            assert text[at] == "}", f"no key: {text[at : at + 60]!r}"
            return found
        stop = skip_expression(text, key.end(), "\n,}")
        found[key[1]] = text[key.end() : stop].strip()
        at = stop


def arguments(text):
    """Those of a call, as `merge(a, b)`."""
    at = text.index("(") + 1
    while text[at:].strip(" \t\n") != ")":
        stop = skip_expression(text, at, ",)")
        yield text[at:stop].strip()
        at = stop + (text[stop] == ",")


class Module:
    """The files of one folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.body = Body()
        for path in sorted(self.folder.glob("*.tf")):
            part = parse(without_comments(path.read_text()))
            self.body.blocks += part.blocks

    def named(self, kind):
        return {block.labels[0]: block for block in self.body.all(kind)}

    def resources(self, kind="resource"):
        return {tuple(block.labels): block for block in self.body.all(kind)}

    def locals(self):
        return {name: text for block in self.body.all("locals") for name, text in block.attributes.items()}

    def text(self):
        return "\n".join(self.body.expressions())


def modules(root):
    """The root module and all below it."""
    folders = sorted({path.parent for path in pathlib.Path(root).rglob("*.tf") if ".terraform" not in path.parts})
    return {str(folder.relative_to(root)): Module(folder) for folder in folders}
