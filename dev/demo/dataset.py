"""Question/answer pairs from the docstrings of Python's own standard library.

Real text that every machine already has: what a function's docstring says in its first sentence
is the answer, one of several phrasings asks for it. A tuned model answers in the terse voice of the
library's documentation, easy to tell from the chatty voice it had before. Content and order are
functions of the interpreter alone: phrasing and order come from sha256 of a name.

The held-out questions are named here, so that the example job can ask them before and after; what
they ask about appears in no training row.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from dev.demo.paths import DATASET, MODEL

MODULES: Final = """
argparse ast asyncio base64 bisect builtins bz2 calendar codecs collections configparser
contextlib copy csv dataclasses datetime decimal difflib dis email.utils enum filecmp fileinput
fnmatch fractions functools gettext glob gzip hashlib heapq hmac html http.client http.cookies
imaplib importlib.util inspect io ipaddress itertools json keyword linecache locale logging lzma
mailbox math mimetypes multiprocessing netrc operator os os.path pathlib pickle pkgutil platform
plistlib pprint queue quopri random re reprlib sched secrets select selectors shelve shlex shutil
signal smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess symtable
sys tarfile tempfile textwrap threading time timeit tokenize traceback types unicodedata
unittest urllib.parse urllib.request uuid warnings wave weakref webbrowser xml.etree.ElementTree
zipfile zlib
"""

HELD_OUT: Final = (
    "shutil.copytree",
    "statistics.median",
    "os.path.basename",
    "str.upper",
    "math.sqrt",
    "random.shuffle",
    "textwrap.dedent",
    "list.append",
    "os.path.isabs",
    "heapq.heappop",
    "fnmatch.filter",
    "glob.escape",
)
HELD_OUT_QUESTION: Final = "What does `{name}` do?"
QUESTIONS: Final = (
    HELD_OUT_QUESTION,
    "What is `{name}` for?",
    "Explain `{name}` in one sentence.",
    "In Python, what does `{name}` do?",
    "Describe `{name}` briefly.",
    "When would I use `{name}`?",
    "What can I do with `{name}`?",
    "Summarise the documentation of `{name}`.",
)
ANSWER_LENGTH: Final = range(20, 150)  # characters
MAX_TOKENS: Final = 80  # of a whole conversation, template included
MIN_TRAIN: Final = 500

Example = dict[str, list[dict[str, str]]]
CountTokens = Callable[[Example], int]


class DatasetError(Exception):
    """The interpreter's documentation does not yield the dataset that the demo needs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A public object of the library and the first sentence of its documentation."""

    name: str
    summary: str


def digest(text: str) -> int:
    """A number that depends on `text` alone, on every machine (hash() does not)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def summarise(docstring: str) -> str | None:
    """The first sentence of a docstring, or None when it is no clean sentence of prose."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=[a-z0-9)'`\"])\.(?:\s|$)", paragraph, maxsplit=1)[0].rstrip(".") + "."
    clean = (
        not sentence.startswith("Alias for field number")
        and len(sentence) in ANSWER_LENGTH
        and sentence.isascii()
        and re.match(r"[A-Z][a-z]+ [a-zA-Z]", sentence)  # prose, no signature
        and not re.search(r">>>|->|::|:\.|__|\*\*|\be\.g\.$|\bi\.e\.$|[{}|<>=]", sentence)
        and sentence.count("(") == sentence.count(")")
    )
    return sentence if clean else None


def public_objects(module_name: str) -> Iterator[tuple[str, Any]]:
    """Functions, classes and methods of a module that users see, by dotted name."""
    prefix = "" if module_name == "builtins" else f"{module_name}."
    module = importlib.import_module(module_name)
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or not callable(value):
            continue
        yield prefix + name, value
        if inspect.isclass(value) and not issubclass(value, BaseException):
            for attribute, member in sorted(vars(value).items()):
                if not attribute.startswith("_") and not inspect.isclass(member):
                    yield f"{prefix}{name}.{attribute}", member


def entries() -> list[Entry]:
    """Every documented object once; of objects with one and the same summary the first."""
    found: dict[str, Entry] = {}
    for module_name in MODULES.split():
        for name, value in public_objects(module_name):
            summary = summarise(inspect.getdoc(value) or "")
            if summary is None:
                continue
            if summary not in found or name in HELD_OUT:
                found[summary] = Entry(name, summary)
    unique = {entry.name: entry for entry in found.values()}
    return sorted(unique.values(), key=lambda entry: digest(entry.name))


def example(question: str, answer: str) -> Example:
    """One conversation in `messages` form."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def build(count_tokens: CountTokens) -> tuple[list[Example], list[Example]]:
    """Return training and held-out examples, none longer than MAX_TOKENS.

    Raises DatasetError when the interpreter documents too little for either.
    """
    by_name = {entry.name: entry for entry in entries()}
    missing = [name for name in HELD_OUT if name not in by_name]
    if missing:
        raise DatasetError(f"the standard library has no clean summary of {', '.join(missing)}")
    held_out = [example(HELD_OUT_QUESTION.format(name=n), by_name.pop(n).summary) for n in HELD_OUT]
    train = []
    for entry in by_name.values():
        phrasing = QUESTIONS[digest(f"phrasing of {entry.name}") % len(QUESTIONS)]
        candidate = example(phrasing.format(name=entry.name), entry.summary)
        if count_tokens(candidate) <= MAX_TOKENS:
            train.append(candidate)
    if len(train) < MIN_TRAIN:
        raise DatasetError(f"{len(train)} training pairs, expected at least {MIN_TRAIN}")
    return train, held_out


def write(examples: Sequence[Example], path: Path) -> None:
    """One JSON object per line."""
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in examples)
    path.write_text("".join(lines), encoding="utf-8")
    path.chmod(0o644)


def token_counter(model: Path) -> CountTokens:
    """Count tokens of a conversation as the trainer sees it: the model's own template applied."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    return lambda item: len(tokenizer.apply_chat_template(item["messages"])["input_ids"])


def make(target: Path) -> tuple[int, int]:
    """Make the folder `target` in one step; return the numbers of training and held-out rows."""
    train, held_out = build(token_counter(MODEL))
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "dataset"
        made.mkdir(mode=0o755)
        write(train, made / "train.jsonl")
        write(held_out, made / "heldout.jsonl")
        made.rename(target)
    return len(train), len(held_out)


def main() -> None:
    """Entry point of `make dataset`; needs the model's tokenizer (`make model`)."""
    if DATASET.exists():  # it was renamed into place whole
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        rows, held_out = make(DATASET)
    except DatasetError as error:
        sys.exit(f"dataset: {error}")
    print(f"dataset: {rows} training pairs and {held_out} held-out pairs are ready")


if __name__ == "__main__":
    main()
