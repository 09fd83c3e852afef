# SPDX-License-Identifier: Apache-2.0
"""Fails on a link in a page that leads nowhere, and on a snippet that is not what its file says.

A snippet is a fenced block under `<!-- from FILE -->`, FILE being relative to
the repository's root. Its lines must stand in FILE, one after the other,
whatever their common indentation. One that has a main function is a program
to paste: it holds everything from FILE's first include to its end.
"""
import re
import textwrap

import tree

LINK = re.compile(r"\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
SOURCE = re.compile(r"^<!-- from (\S+) -->$")
FENCE = re.compile(r"^(`{3,})")


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


def link_problems(root, page, prose):
    for number, line in prose:
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            path = target.split("#")[0]
            if not path or re.match(r"[a-z]+:", path):
                continue
            if not ((root / page).parent / path).exists():
                yield f"{page}:{number}: the link to {target} leads nowhere"


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


def check(root):
    problems = []
    for page in tree.files(root, ".md"):
        prose, blocks = split_fences(tree.lines(root, page))
        problems += link_problems(root, page, prose)
        problems += snippet_problems(root, page, prose, blocks)
    return problems


if __name__ == "__main__":
    tree.main(check)
