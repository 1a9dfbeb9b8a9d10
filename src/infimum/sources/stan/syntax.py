"""The words of a Stan program: enough syntax to find its blocks, statements and data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WORD = re.compile(
    r"""(?P<space> \s+ | //[^\n]* | /\*.*?\*/ ) | "[^"\n]*" | [A-Za-z_]\w* | \d[\w.]* | . """,
    flags=re.VERBOSE | re.DOTALL,
)
"""A comment or white space; or a string, a name, the digits of a number, or one other character."""

CLOSING = {"(": ")", "[": "]", "{": "}"}

HEADED = ("for", "while", "if", "profile")
"""Words that begin a statement with something in parentheses, after which another one begins."""

STARTS_STATEMENT = (
    *HEADED,
    "else",
    "return",
    "break",
    "continue",
    "print",
    "reject",
    "fatal_error",
)
"""Words that only a statement begins with: a brace before one of them opens a block."""


class Token(NamedTuple):
    """One word of a program, and where it is in the text."""

    text: str
    start: int
    end: int

    @property
    def named(self) -> bool:
        """Whether it is a name or a keyword."""
        return self.text[0].isalpha() or self.text[0] == "_"


def tokens_of(text: str) -> list[Token]:
    """The words of a program, without comments and white space."""
    return [
        Token(match[0], match.start(), match.end())
        for match in WORD.finditer(text)
        if match["space"] is None
    ]


def closing(tokens: Sequence[Token], opening: int) -> int:
    """The place of the bracket that closes the one at `opening`; the end if there is none."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += (tokens[i].text in CLOSING) - (tokens[i].text in CLOSING.values())
        if depth == 0:
            return i
    return len(tokens)


def blocks_of(tokens: Sequence[Token]) -> dict[str, tuple[int, int]]:
    """The places of the braces around each block, by its name: `transformed data`, say."""
    blocks = {}
    names: list[str] = []
    i = 0
    while i < len(tokens):
        if tokens[i].text == "{":
            end = closing(tokens, i)
            blocks[" ".join(names)] = i, end
            names, i = [], end
        else:
            names.append(tokens[i].text)
        i += 1
    return blocks


def functions_of(tokens: Sequence[Token], block: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    """Each function that the block of functions defines: its name, and its body's braces."""
    i = block[0] + 1
    name = ""
    while i < block[1]:
        if tokens[i].text == "(":
            name, i = tokens[i - 1].text, closing(tokens, i)
        elif tokens[i].text == "{":
            end = closing(tokens, i)
            yield name, i, end
            i = end
        i += 1


def statements_of(tokens: Sequence[Token], block: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Each statement that consists of no other statements: its first token, and its semicolon."""
    i, end = block[0] + 1, block[1]
    while i < end:
        word = tokens[i].text
        if word in HEADED and tokens[i + 1].text == "(":
            i = closing(tokens, i + 1) + 1
        elif word in ("else", "}", ";") or (word == "{" and _opens_block(tokens, i)):
            i += 1
        else:
            first = i
            while i < end and tokens[i].text != ";":
                i = closing(tokens, i) + 1 if tokens[i].text in CLOSING else i + 1
            yield first, i
            i += 1


def _opens_block(tokens: Sequence[Token], i: int) -> bool:
    """Whether the brace at a statement's beginning opens a block, not an array {a, b}."""
    inside = [token.text for token in tokens[i + 1 : closing(tokens, i)]]
    return not inside or ";" in inside or inside[0] in STARTS_STATEMENT


def declared_names(tokens: Sequence[Token], block: tuple[int, int]) -> list[str]:
    """Names of the variables that a block of declarations alone declares."""
    names: list[str] = []
    for first, end in statements_of(tokens, block):
        bounds, last, i = 0, "", first
        while i < end:
            word = tokens[i].text
            bounds += (word == "<") - (word == ">")
            if bounds == 0 and word == ",":
                names.append(last)
            elif bounds == 0 and tokens[i].named:
                last = word
            i = closing(tokens, i) + 1 if word in CLOSING else i + 1
        names.append(last)
    return names
