# SPDX-License-Identifier: Apache-2.0
"""Fails on a link in a page that leads nowhere, a snippet that is not what its file says, a line too long and an
error that no source has.

A snippet is a fenced block under `<!-- from FILE -->`, FILE being relative to
the repository's root. Its lines must stand in FILE, one after the other,
whatever their common indentation. One that has a main function is a program
to paste: it holds everything from FILE's first include to its end.

A line has 100 columns, not counting where its links lead. A table's row may have more under docs/results/, where
records of four columns cannot be set otherwise.

An error that a page explains is quoted in bold, **"no answer in"**: each part between dots (...) stands in a text of
the sources.
"""
import re
import textwrap

import tree

LINK = re.compile(r"\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
SOURCE = re.compile(r"^<!-- from (\S+) -->$")
FENCE = re.compile(r"^(`{3,})")
COLUMNS = 100
TARGET = re.compile(r"\]\([^()\s]+\)")
PATH = re.compile(r"`((?:lib|include|tests|bench|scripts|examples|docs|tests)/[^`\s]*)[^`]*`")
QUOTED = re.compile(r"\*\*\"([^\"]+)\"\*\*")
TEXT = re.compile(r"\"((?:\\.|[^\"\\\n])*)\"")


def split_fences(numbered):
    """(prose lines, blocks): a block is (line of its opening, its lines)."""
    prose, blocks, fence, block = [], [], None, None
    for number, line in numbered:
        match = FENCE.match(line)
        if fence is None and match:
            fence, block = match[1], (number, [])
        elif fence is not None and line.strip() == fence:
            blocks.append(block)
            fence = None
        elif fence is not None:
            block[1].append(line)
        else:
            prose.append((number, line))
    return prose, blocks


def anchors(root, page):
    """What a forge calls the page's headings."""
    prose, _ = split_fences(tree.lines(root, page))
    titles = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", line.lstrip("#").strip()) for _, line in prose if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def link_problems(root, page, prose):
    """Of links and, between backticks, paths of the repository."""
    for number, line in prose:
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            there = (root / page).parent / path if path else root / page
            lost = anchor and there.suffix == ".md" and there.exists() and anchor not in anchors(root, there)
            if not there.exists() or lost:
                yield f"{page}:{number}: the link to {target} leads nowhere"
        for path in PATH.findall(line) if page.name != "CHANGELOG.md" else []:
            if not re.search(r"[*<{}>]|\.\.\.", path) and not (root / path.rstrip(".,:")).exists():
                yield f"{page}:{number}: there is no {path}"


def contains(text, snippet):
    """Whether the snippet's lines follow each other in the text, up to their common indentation."""
    wanted = textwrap.dedent("\n".join(snippet)).splitlines()
    have = text.splitlines()
    windows = (have[start:start + len(wanted)] for start in range(len(have) - len(wanted) + 1))
    return any(textwrap.dedent("\n".join(window)).splitlines() == wanted for window in windows)


def is_whole(text, snippet):
    """Whether a snippet with a main function is all of the program."""
    if not any(re.match(r"int main\(", line) for line in snippet):
        return True
    program = text[text.index("#include"):] if "#include" in text else text
    return "\n".join(snippet).strip() == program.strip()


def snippet_problems(root, page, prose, blocks):
    by_opening = dict(blocks)
    for number, line in prose:
        match = SOURCE.match(line.strip())
        if not match:
            continue
        source = root / match[1]
        snippet = by_opening.get(number + 1)
        if not source.is_file():
            yield f"{page}:{number}: there is no {match[1]}"
        elif not snippet:
            yield f"{page}:{number}: no snippet follows in the next line"
        elif not contains(source.read_text(encoding="utf-8"), snippet):
            yield f"{page}:{number}: the snippet differs from {match[1]}"
        elif not is_whole(source.read_text(encoding="utf-8"), snippet):
            yield f"{page}:{number}: the snippet is a part of the program in {match[1]}"


def column_problems(page, numbered):
    for number, line in numbered:
        columns = len(TARGET.sub("]", line))
        is_record = page.parts[:2] == ("docs", "results") and line.startswith("|")
        if columns > COLUMNS and not is_record and " " in line.strip():
            yield f"{page}:{number}: {columns} columns, more than {COLUMNS}"


def source_texts(root):
    """What stands between quotes in the sources, with no break where a text goes on in the next line."""
    for name in tree.files(root, ".cpp", ".hpp"):
        if name.parts[0] in ("lib", "bench"):
            text = re.sub(r"\"\s*\n\s*\"", "", (root / name).read_text(encoding="utf-8"))
            yield "\n".join(found.replace("\\\"", "\"") for found in TEXT.findall(text))


def error_problems(root, page, prose, texts):
    if page.parts[0] != "docs":
        return
    for quoted in QUOTED.findall(" ".join(line.strip() for _, line in prose)):
        if not texts:
            texts.append("\n".join(source_texts(root)))
        for part in quoted.split("..."):
            if part.strip() not in texts[0]:
                yield f"{page}:1: no source says '{part.strip()}'"


def check(root):
    problems, texts = [], []
    for page in tree.files(root, ".md"):
        numbered = tree.lines(root, page)
        prose, blocks = split_fences(numbered)
        problems += link_problems(root, page, prose)
        problems += snippet_problems(root, page, prose, blocks)
        problems += column_problems(page, numbered)
        problems += error_problems(root, page, prose, texts)
    return problems


if __name__ == "__main__":
    tree.main(check)
