"""Prompt templates: a small, safe part of Jinja2.

A template may print variables, choose with `if` and a few tests, and change letters with a few filters. It has no
loops, no calls, no arithmetic and no access to attributes, and its size is limited, like that of the values in it:
rendering is short, and reaches nothing but the variables. (Jinja2's sandbox is a second protection.) Printing a
variable that has no value is an error, never an empty place in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pinco.errors import PincoError, first_line

MAX_TEMPLATE = 4_000
MAX_PROMPT = 2_000
"""Characters. The longest text encoder in use reads 512 tokens."""

MAX_NODES = 500
"""Variables, texts and operations in one template."""

MAX_FILLED_IN = 20_000
"""Characters of all variables, each as often as the template names it: what one expression can at most make."""

FILTERS = ("capitalize", "d", "default", "lower", "title", "trim", "upper")
TESTS = ("defined", "undefined", "eq", "equalto", "ne", "in")

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
        environment.tests = {name: environment.tests[name] for name in TESTS}
        straight = _TAG.sub(lambda tag: tag.group().translate(_SMART_QUOTES), source)
        try:
            tree = environment.parse(straight)
            _check(tree)
            self._template: Template = environment.from_string(straight)
        except TemplateSyntaxError as error:
            raise TemplateError(f"the template cannot be read: {error.message}") from error
        except (RecursionError, SyntaxError, MemoryError) as error:  # Python's own limits on what Jinja compiles to
            raise TemplateError("the template is nested too deeply") from error
        except ValueError as error:  # the compiler works constants out, and a number may be too long to be written
            if isinstance(error, TemplateError):
                raise
            raise TemplateError(f"the template cannot be read: {first_line(error)}") from error
        guarded = {
            name.name
            for node in tree.find_all((nodes.Filter, nodes.Test))
            if node.name in ("default", "d", "defined", "undefined")
            for name in node.find_all(nodes.Name)
        }
        self._named = [node.name for node in tree.find_all(nodes.Name)]
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
        if sum(len(variables.get(name, "")) for name in self._named) > MAX_FILLED_IN:
            longest = max(self._named, key=lambda name: len(variables.get(name, "")))
            raise TemplateError(
                f"the values filled in have more than {MAX_FILLED_IN} characters together; "
                f"{{{{ {longest} }}}} alone has {len(variables[longest])}"
            )
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
        except TemplateError:
            raise
        except Exception as error:  # of a filter or a comparison: TypeError, ValueError, SecurityError, ...
            raise TemplateError(f"the template cannot be filled in: {first_line(error)}") from error
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
    for number, node in enumerate(tree.find_all(nodes.Node)):
        if number >= MAX_NODES:
            raise TemplateError(f"the template has more than {MAX_NODES} parts, or is nested too deeply")
        if not isinstance(node, _ALLOWED):
            raise TemplateError(f"{_name_of(node)} is not possible in a prompt template")
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise TemplateError(f"there is no filter {node.name!r}; there are {', '.join(FILTERS)}")
        if isinstance(node, nodes.Test) and node.name not in TESTS:
            raise TemplateError(f"there is no test {node.name!r}; there are {', '.join(TESTS)}")


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
