# SPDX-License-Identifier: Apache-2.0
"""Fails on a public name that no page and no example shows, and on a page's row about one that is not there.

A public name is a type, a function, an alias, a concept, a constant or a macro that a header under include/isobar/
declares outside of a class and of namespace detail. It has to stand as code, between backticks or in a block, in
README.md or a page of docs/, or in a program of examples/. A section of docs/reference/ is about a header, which must
declare what the rows below say.
"""
import re

import check_docs
import tree

# Names that are on their way out of include/: they may do without a page until then.
LEAVING = set()

SPACES = re.compile(r"(?:namespace\s+([\w:]*)|extern\s*\"C\")\s*$")
TYPE = re.compile(r"^(?:class|struct|union|enum(?:\s+class|\s+struct)?)\s+(?:\[\[.*?\]\]\s*)?([A-Za-z_]\w*)(?!\s*::)")
ALIAS = re.compile(r"^(?:using|concept)\s+([A-Za-z_]\w*)\s*=")
VALUE = re.compile(r"^(?:extern|inline|constexpr|static|const)\b.*?\b(k[A-Z]\w*)\s*(?:[={]|$)", re.DOTALL)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(ISOBAR_\w+)", re.MULTILINE)
SECTION = re.compile(r"^## \[[^\]]*\]\(([^)]+\.hpp)\)")
ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \|")


def without_comments(text):
    """Code alone, in which strings are empty."""
    token = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])'", re.DOTALL)
    return token.sub(lambda found: '""' if found[0][0] in "\"'" else " ", text)


def without_angles(statement):
    """The statement without what stands between < and >, innermost first."""
    before = None
    while before != statement:
        before = statement
        statement = re.sub(r"<[^<>()]*(?:\([^<>()]*\)[^<>()]*)*>", "", statement)
    return statement


def name_of(statement, is_body):
    """The name that a statement of a namespace declares; None for none. `is_body`: a block in braces follows."""
    statement = re.sub(r"\[\[.*?\]\]", "", statement)
    statement = re.sub(r"^\s*(template\s*<.*?>\s*(?=(?:class|struct|concept|using|inline|constexpr|[\w:]+[\s<])))", "",
                       statement.strip(), flags=re.DOTALL).strip()
    if statement.startswith("friend"):
        return None
    found = TYPE.match(statement)
    if found:
        return found[1] if is_body else None  # what is only declared is elsewhere, or private
    found = ALIAS.match(statement)
    if found:
        return found[1]
    plain = without_angles(statement)
    found = re.match(r"[^(=]*?\b([A-Za-z_]\w*)\s*\(", plain, re.DOTALL)
    if found and "operator" not in plain.split("(")[0]:
        return found[1]
    found = VALUE.match(plain)
    return found[1] if found else None


def declared(text):
    """The public names of a header, in order."""
    names = MACRO.findall(text)
    code = without_comments(re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", "", text, flags=re.MULTILINE))
    spaces, statement, parens, at = [], "", 0, 0
    while at < len(code):
        char = code[at]
        at += 1
        parens += (char == "(") - (char == ")")
        if char == "{" and parens == 0:
            space = SPACES.search(statement.strip())
            if space and "detail" not in (space[1] or ""):
                spaces.append(space[1])
                statement = ""
                continue
            end = closing(code, at)
            if not space:
                is_value = re.search(r"\b(constexpr|const)\b[^(]*$", statement) is not None
                names.append(name_of(statement, is_body=not is_value))
            if re.match(r"\s*;", code[end:]):
                end = code.index(";", end) + 1
            statement, at = "", end
        elif char == "}" and parens == 0:
            spaces = spaces[:-1]
            statement = ""
        elif char == ";" and parens == 0:
            names.append(name_of(statement, is_body=False))
            statement = ""
        else:
            statement += char
    return list(dict.fromkeys(name for name in names if name))


def closing(code, at):
    """Where the block ends that was opened before `at`."""
    depth = 1
    while at < len(code) and depth:
        depth += (code[at] == "{") - (code[at] == "}")
        at += 1
    return at


def public_names(root):
    """(header, its names) of every public header."""
    for header in tree.files(root, ".hpp"):
        if header.parts[:2] == ("include", "isobar"):
            yield header, declared((root / header).read_text(encoding="utf-8"))


def code_of_page(root, page):
    prose, blocks = check_docs.split_fences(tree.lines(root, page))
    spans = [span for _, line in prose for span in re.findall(r"`([^`]+)`", line)]
    indented = [line for _, line in prose if line.startswith("    ")]
    return "\n".join(spans + indented + [line for _, block in blocks for line in block])


def shown_words(root):
    """Every word that a page or an example shows as code."""
    words = set()
    for name in tree.files(root, ".md", ".cpp"):
        if name.suffix == ".md" and (name.parts[0] == "docs" or name.parts == ("README.md",)):
            words |= set(re.findall(r"\w+", code_of_page(root, name)))
        elif name.suffix == ".cpp" and name.parts[0] == "examples":
            words |= set(re.findall(r"\w+", without_comments((root / name).read_text(encoding="utf-8"))))
    return words


def stale_rows(root, page, names):
    """Rows of a page of docs/reference/ whose header declares no such name."""
    there, header = None, ""
    for number, line in tree.lines(root, page):
        section, row = SECTION.match(line), ROW.match(line)
        if section:
            header = section[1]
            path = ((root / page).parent / header).resolve()
            there = names.get(path.relative_to(root.resolve())) if path.is_relative_to(root.resolve()) else None
        for name in re.findall(r"\w+", row[1]) if row and header else []:
            if name not in (there or []):
                yield f"{page}:{number}: {header} does not declare {name}"


def check(root):
    names = dict(public_names(root))
    words = shown_words(root)
    problems = [f"{header}:1: {name} stands in no page of docs/ and no example; say in docs/reference/ what it is for"
                for header, those in names.items() for name in those if name not in words and name not in LEAVING]
    for page in tree.files(root, ".md"):
        if page.parts[:2] == ("docs", "reference"):
            problems += stale_rows(root, page, names)
    return problems


if __name__ == "__main__":
    tree.main(check)
