"""Prompt templates: a small, safe part of Jinja2.

A template may print variables, choose with `if`, and change letters with a few filters. It has no loops, no calls and
no access to attributes: rendering is short, and reaches nothing but the variables. (Jinja2's sandbox is a second
protection.) Printing a variable that has no value is an error, never an empty place in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pinco.errors import PincoError

MAX_TEMPLATE = 4_000
MAX_PROMPT = 2_000
"""Characters. The longest text encoder in use reads 512 tokens."""

FILTERS = ("capitalize", "d", "default", "lower", "title", "trim", "upper")

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Name, nodes.Const, nodes.Filter,
    nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Keyword,
)  # fmt: skip
_SMART_QUOTES = str.maketrans("“”„‟‘’‚‛", "\"\"\"\"''''")  # noqa: RUF001 - these are the ones word processors insert


class TemplateError(PincoError, ValueError):
    """A template cannot be used, or not with these variables.

    Attributes:
        missing: Name of the variable that has no value, if that is the error.
    """

    code = "invalid_template"

    def __init__(self, message: str, missing: str | None = None) -> None:
        super().__init__(message)
        self.missing = missing


class PromptTemplate:
    """A checked template, which can be rendered many times.

    Args:
        source: Its text.

    Attributes:
        required: Variables that must have a value.
        optional: Variables that the template tests for, or has a default for.

    Raises:
        TemplateError: The text is too long, has a syntax error, or uses something that prompt templates may not.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_TEMPLATE:
            raise TemplateError(f"the template has {len(source)} characters; at most {MAX_TEMPLATE} are allowed")
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        environment.globals.clear()
        environment.filters = {name: environment.filters[name] for name in FILTERS}
        straight = _TAG.sub(lambda tag: tag.group().translate(_SMART_QUOTES), source)
        try:
            tree = environment.parse(straight)
            _check(tree)
            self._template: Template = environment.from_string(straight)
        except TemplateSyntaxError as error:
            raise TemplateError(f"the template cannot be read: {error.message}") from error
        except (RecursionError, SyntaxError, MemoryError) as error:  # Python's own limits on what Jinja compiles to
            raise TemplateError("the template is nested too deeply") from error
        guarded = {
            name.name
            for node in tree.find_all((nodes.Filter, nodes.Test))
            if node.name in ("default", "d", "defined", "undefined")
            for name in node.find_all(nodes.Name)
        }
        names = find_undeclared_variables(tree)
        self.optional = frozenset(names & guarded)
        self.required = frozenset(names - guarded)

    def render(self, variables: Mapping[str, str]) -> str:
        """The prompt, with every run of white space replaced by one space.

        Raises:
            TemplateError: A variable has no value, or the prompt is empty or too long.
        """
        for name in sorted(self.required - variables.keys()):
            raise TemplateError(f"{{{{ {name} }}}} has no value", missing=name)
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(**variables):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_PROMPT:
                    raise TemplateError(f"the prompt has more than {MAX_PROMPT} characters")
        except UndefinedError as error:
            raise TemplateError(f"a variable has no value: {error.message}") from error
        except (SecurityError, TypeError, ValueError) as error:
            if isinstance(error, TemplateError):
                raise
            raise TemplateError(f"the template cannot be filled in: {error}") from error
        return one_line("".join(pieces))


_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


@lru_cache(maxsize=512)
def prompt_template(source: str) -> PromptTemplate:
    """`PromptTemplate(source)`, made once for all rows that use it."""
    return PromptTemplate(source)


def is_template(text: str) -> bool:
    """Whether a text has variables or conditions to fill in."""
    return "{{" in text or "{%" in text


def one_line(text: str) -> str:
    """A prompt as it is used: every run of white space is one space.

    Raises:
        TemplateError: The prompt is empty or too long.
    """
    line = " ".join(text.split())
    if not line:
        raise TemplateError("the prompt is empty")
    if len(line) > MAX_PROMPT:
        raise TemplateError(f"the prompt has {len(line)} characters; at most {MAX_PROMPT} are allowed")
    return line


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise TemplateError(f"{_name_of(node)} is not possible in a prompt template")
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise TemplateError(f"there is no filter {node.name!r}; there are {', '.join(FILTERS)}")


def _name_of(node: nodes.Node) -> str:
    names: dict[type[nodes.Node], str] = {
        nodes.For: "a loop (write a list of values as a | b | c in a var: column instead)",
        nodes.Call: "a call",
        nodes.Getattr: "access to attributes",
        nodes.Getitem: "access to items",
        nodes.Assign: "an assignment",
        nodes.Macro: "a macro",
    }
    return names.get(type(node), f"'{type(node).__name__}'")
