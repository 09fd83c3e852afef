# SPDX-License-Identifier: Apache-2.0
"""Fails where two files of a layer give one name to two things at namespace scope.

Read is what a file defines outside of classes and functions: types, functions, constants and
aliases, in unnamed namespaces too. One name may have overloads in one file, overloads that headers
declare, specialisations, and aliases that say the same. What stands in for something that is absent
(no_mpi.cpp) is not read.
"""
import re

import tree

# By layer, names that still have two meanings. One that has not any more fails until it is struck out here.
KNOWN = {}
# Of which a build compiles one.
ALTERNATIVES = {"product_versions.cpp", "product_versions_x86.cpp"}

NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
    r"|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.DOTALL | re.MULTILINE)
TOKEN = re.compile(r"[A-Za-z_]\w*|::|->|\d[\w.']*|<=>|&&|==|[^\s\w]")
WORD = re.compile(r"[A-Za-z_]\w*$")
NAMESPACE = re.compile(r"(?:inline )?namespace(?: \w+(?: :: \w+)*)?$")
TYPE_WORDS = {"struct", "class", "union", "enum"}
SKIPPED = {"static_assert", "extern", "friend", "namespace"}


def without_noise(text):
    """The code: comments, preprocessor's lines and texts taken out, lines kept."""
    def blank(match):
        kept = "\n" * match[0].count("\n")
        return '""' + kept if match[0][0] in "\"R'" else kept
    # A digit separator is no character's beginning.
    return NOISE.sub(blank, re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text))


def statements(text):
    """(line, whether it is the file's alone, tokens) of each statement at namespace scope; of a body its brace."""
    found, tokens, spaces = [], [], []
    first, line, at, braces, rounds = 1, 1, 0, 0, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        token = match[0]
        if braces > 0:
            braces += {"{": 1, "}": -1}.get(token, 0)
            if braces == 0 and rounds == 0 and not continues(tokens):
                found.append((first, "" in spaces, tokens))
                tokens = []
            continue
        if not tokens:
            first = line
        rounds += {"(": 1, ")": -1}.get(token, 0)
        said = " ".join(tokens)
        if token == "{" and NAMESPACE.match(said):
            spaces.append(said.partition("namespace")[2].strip())
            tokens = []
        elif token == "}" and not tokens:
            spaces = spaces[:-1]
        elif token == ";" and rounds == 0:
            found.append((first, "" in spaces, tokens))
            tokens = []
        else:
            tokens.append(token)
            braces = 1 if token == "{" else 0
    return found


def continues(tokens):
    """Whether more belongs to a statement than a body that has ended: a type's, one of initial values or of a lambda."""
    head = outside_parentheses(without_template(tokens))
    if not head or "operator" in head:
        return False
    if head[0] in TYPE_WORDS or "=" in head or "(" not in head:
        return True
    # A constructor's list of members: name{...}, or name{...} {...}
    return ":" in head and WORD.match(tokens[-2]) is not None and tokens[-2] not in ("const", "noexcept", "override")


def outside_parentheses(tokens):
    kept, depth = [], 0
    for token in tokens:
        depth -= 1 if token == ")" else 0
        if depth == 0:
            kept.append(token)
        depth += 1 if token == "(" else 0
    return kept


def without_template(tokens):
    """The tokens behind template <...>, attributes and words that say how."""
    rest = list(tokens)
    while rest:
        if rest[0] == "template":
            depth = 0
            for i, token in enumerate(rest[1:], start=1):
                depth += {"<": 1, ">": -1}.get(token, 0)
                if depth == 0:
                    break
            rest = rest[i + 1:]
            if rest and rest[0] == "requires":
                return []
        elif rest[:2] == ["[", "["]:
            rest = rest[rest.index("]") + 2:]
        elif len(rest) > 3 and rest[0] in TYPE_WORDS and rest[1] == "alignas":
            rest = rest[:1] + rest[rest.index(")") + 1:]
        elif rest[0] in ("inline", "static", "constexpr", "thread_local", "typedef", "consteval", "const"):
            rest = rest[1:]
        else:
            return rest
    return rest


def is_specialisation(tokens):
    return tokens[:3] == ["template", "<", ">"]


def outside_brackets(tokens):
    """The tokens that lie in no <...> of a type's arguments."""
    kept, depth = [], 0
    for token in tokens:
        if token == "<":
            depth += 1
        elif token == ">" and depth > 0:
            depth -= 1
        elif depth == 0:
            kept.append(token)
    return kept


def has_body(tokens):
    """Whether a brace follows the parameters, as it does where a function is defined."""
    depth = 0
    for token in tokens[tokens.index("("):]:
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "{" and depth == 0:
            return True
    return False


def defined_name(tokens):
    """(name, what it names) that a statement defines: "function", "alias: <its text>" or "thing".

    None for declarations and members' definitions.
    """
    if not tokens or is_specialisation(tokens) or tokens[0] in SKIPPED:
        return None
    head = without_template(tokens)
    if not head:
        return None
    if head[0] == "using":
        return (head[1], "alias: " + " ".join(head[2:])) if "=" in head else None
    if head[0] == "concept":
        return head[1], "thing"
    if head[0] in TYPE_WORDS and "{" in head and "(" not in head[:head.index("{")]:
        said = outside_brackets(head[:head.index("{")])
        said = said[:said.index(":")] if ":" in said else said
        names = [t for t in said if WORD.match(t) and t not in TYPE_WORDS | {"final"}]
        return (names[-1], "thing") if names and "::" not in said else None
    plain = outside_brackets(head)
    for i, token in enumerate(plain):
        if token == "operator":
            return None
        if token in ("(", "=", "{", "["):
            name, before = plain[i - 1] if i > 0 else "", plain[i - 2] if i > 1 else "::"
            if not WORD.match(name) or before in ("::", "~"):
                return None  # a macro's call, a member's definition
            if token == "(":
                return (name, "function") if has_body(plain) else None
            return name, "thing"
    return None


def layer_of(name):
    return name.parts[1] if name.parts[0] == "lib" and len(name.parts) > 2 else None


def definitions(root):
    """By layer and name: (file, line, whether it is the file's alone, what it names)."""
    found = {}
    for name in tree.files(root, *tree.CODE):
        layer = layer_of(name)
        if layer is None or name.name.startswith("no_") or name.name in ALTERNATIVES:
            continue
        for line, is_local, tokens in statements(without_noise((root / name).read_text(encoding="utf-8"))):
            defined = defined_name(tokens)
            if defined:
                found.setdefault((layer, defined[0]), []).append((name, line, is_local, defined[1]))
    return found


def is_one(places):
    """Whether a name is one file's, an overload that headers declare, or an alias of one type."""
    if len({name for name, *_ in places}) == 1:
        return True
    kinds = {what for _, _, _, what in places}
    if kinds == {"function"}:
        return not any(is_local for _, _, is_local, _ in places)
    return len(kinds) == 1 and kinds.pop().startswith("alias")


def check(root, known=None):
    known = KNOWN if known is None else known
    problems, met = [], set()
    for (layer, defined), places in definitions(root).items():
        if is_one(places):
            continue
        met.add((layer, defined))
        if defined in known.get(layer, ()):
            continue
        first, at = places[0][:2]
        problems += [f"{name}:{line}: {layer} has a '{defined}' already, in {first}:{at}"
                     for name, line, _, _ in places[1:] if name != first]
    own = "tests/conventions/check_names.py"
    problems += [f"{own}:1: {layer}'s '{defined}' has one meaning now; strike it out of KNOWN"
                 for layer, names in known.items() for defined in names if (layer, defined) not in met]
    return sorted(problems)


if __name__ == "__main__":
    tree.main(check)
