from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.sheet.template import MAX_PROMPT, MAX_TEMPLATE, PromptTemplate, TemplateError, is_template, one_line

_values = st.text(min_size=1, max_size=50).filter(str.strip)


def render(source: str, **variables: str) -> str:
    return PromptTemplate(source).render(variables)


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("a {{ colour }} mug on {{ place }}", "a red mug on wood"),
        ("{{ colour | upper }} {{ place | title }}", "RED Wood"),
        ("{% if colour == 'red' %}warm{% else %}cold{% endif %} light", "warm light"),
        ("{{ light | default('soft') }} light", "soft light"),
        ("{% if light is defined %}{{ light }} light on {% endif %}{{ place }}", "wood"),
        ("  two   spaces\n and a line  ", "two spaces and a line"),
        ("{{ 'dark ' ~ colour if place == 'wood' else colour }}", "dark red"),
        ("{{ “dark” }} „{{ colour }}“", "dark „red“"),
    ],
)
def test_rendering(source: str, prompt: str) -> None:
    assert render(source, colour="red", place="wood") == prompt


def test_values_are_text_and_never_templates() -> None:
    assert render("{{ x }}", x="{{ y }} {% for %} <b>&") == "{{ y }} {% for %} <b>&"


@given(_values)
def test_values_are_rendered_unchanged(value: str) -> None:
    assert render("{{ x }}", x=value) == " ".join(value.split())


def test_names_are_known_before_rendering() -> None:
    template = PromptTemplate("{{ a }} {% if b is defined %}{{ b }}{% endif %} {{ c | default('x') }} {{ d }}")
    assert template.required == {"a", "d"}
    assert template.optional == {"b", "c"}


def test_a_missing_value_is_an_error_that_names_it() -> None:
    with pytest.raises(TemplateError, match="place") as caught:
        render("{{ colour }} on {{ place }}", colour="red")
    assert caught.value.missing == "place"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(999999999) %}x{% endfor %}",
        "{% for a in 'abc' %}{{ a }}{% endfor %}",
        "{{ range(10) }}",
        "{{ ''.__class__ }}",
        "{{ x.y }}",
        "{{ x['__class__'] }}",
        "{{ x.join('ab') }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ x | center(1000000000) }}",
        "{{ x | replace('a', 'b') }}",
        "{% set x = x ~ x %}{{ x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% block b %}x{% endblock %}",
        "{{ self }}{{ self._TemplateReference__context }}",
        "{{ x | attr('__class__') }}",
        "{{ [1, 2] }}",
        "{{ {'a': 1} }}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
        "{% if '%4000000000d' is divisibleby 1 %}x{% endif %}",
        "{% if x is sameas x %}x{% endif %}",
        "{% if x is test 'defined' %}x{% endif %}",
        "{{ 2 + 2 }}",
        "{{ -1 }}",
        "{{ 7 // 2 }}",
    ],
)
def test_loops_calls_and_access_to_attributes_are_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        PromptTemplate(source)


BROKEN = ["{{ x", "{% if x %}", "{{ x | }}", "{{ 1 + }}", "{% nonsense %}", "{{ x | nofilter }}"]


@pytest.mark.parametrize("source", BROKEN)
def test_broken_templates_are_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        PromptTemplate(source)


@pytest.mark.parametrize(("left", "right"), [("(", ")"), ("not ", ""), ("x if x else ", "")])
def test_deep_nesting_is_refused(left: str, right: str) -> None:
    times = 3900 // len(left + right)
    with pytest.raises(TemplateError, match="nested too deeply"):
        PromptTemplate("{{" + left * times + "x" + right * times + "}}")


@pytest.mark.parametrize(
    "source",
    ["{% if '%4000000000d' is divisibleby 1 %}x{% endif %}", "{{ 0x" + "f" * 3900 + " }}", "{{ " + "9" * 3900 + " }}"],
)
def test_hostile_constants_cost_neither_time_nor_memory(source: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(TemplateError):
            render(source)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2


def test_tests_that_are_allowed() -> None:
    for test in ("is defined", "is eq 'red'", "is equalto 'red'", "is not ne 'red'", "is in 'dark red'", "== 'red'"):
        assert render("{% if x " + test + " %}yes{% else %}no{% endif %}", x="red") == "yes"
    with pytest.raises(TemplateError, match="no test 'divisibleby'; there are defined"):
        PromptTemplate("{{ x is divisibleby 2 }}")


def test_the_number_of_parts_is_limited() -> None:
    PromptTemplate("{{ x" + " ~ x" * 200 + " }}")
    with pytest.raises(TemplateError, match="more than 500 parts"):
        PromptTemplate("{{ x" + " ~ x" * 900 + " }}")


def test_values_that_are_filled_in_are_limited() -> None:
    with pytest.raises(TemplateError, match=r"more than 20000 characters together; \{\{ x \}\} alone has 5000"):
        render("{% if x ~ x ~ x ~ x ~ y == 'a' %}b{% endif %}", x="z" * 5000, y="a")
    assert render("{{ x }}", x="a", unused="z" * 100_000) == "a"


def test_the_refusal_of_a_loop_names_the_way_out() -> None:
    with pytest.raises(TemplateError, match=r"a loop .*a \| b \| c"):
        PromptTemplate("{% for a in b %}{% endfor %}")


def test_a_missing_value_inside_a_filter_is_an_error() -> None:
    with pytest.raises(TemplateError):
        render("{{ x | upper }}")


@given(st.text(alphabet="{}%# |'\"ab.()[]*~+-=if else for in set endif", max_size=60))
def test_any_text_is_a_template_or_refused(source: str) -> None:
    try:
        assert render(source, a="x", b="y").strip()
    except TemplateError as error:
        assert str(error)


@pytest.mark.parametrize("source", ["{{ x }}", "{% if x == 'no' %}a{% endif %}", " "])
def test_an_empty_prompt_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="empty"):
        render(source, x=" ")


def test_lengths_are_limited() -> None:
    with pytest.raises(TemplateError, match=f"at most {MAX_TEMPLATE}"):
        PromptTemplate("x" * (MAX_TEMPLATE + 1))
    with pytest.raises(TemplateError, match=f"more than {MAX_PROMPT}"):
        render("{{ x }}" * 3, x="y" * 1000)
    with pytest.raises(TemplateError, match=f"at most {MAX_PROMPT}"):
        one_line("x" * (MAX_PROMPT + 1))
    assert len(render("{{ x }}" * 2, x="y" * 1000)) == MAX_PROMPT


def test_texts_with_something_to_fill_in_are_templates() -> None:
    assert is_template("a {{ b }}")
    assert is_template("{% if a %}b{% endif %}")
    assert not is_template("a {b}")
