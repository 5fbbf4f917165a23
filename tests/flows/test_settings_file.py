from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings_file import MAX_BYTES, SettingsError, parse_settings, read_settings_file

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


def parse(text: str | bytes) -> dict[str, object]:
    return parse_settings(text if isinstance(text, bytes) else text.encode(), Path("pinco.yaml")).values


def test_sections_values_and_lines() -> None:
    found = parse_settings(b"# mine\nray:\n  threads: 2\n\nchannels: {web: {size: 800x600}}\n", Path("pinco.yaml"))
    assert found.values == {"ray": {"threads": 2}, "channels": {"web": {"size": "800x600"}}}
    assert found.line_of(("ray", "threads")) == 3
    assert found.line_of(("ray", "unknown")) == 2
    assert found.line_of(("channels", "web", "size")) == 5
    assert found.line_of(("model",)) is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "\ufeff"])
def test_a_file_may_be_empty(text: str) -> None:
    assert parse(text) == {}


def test_aliases_and_merges_are_unfolded() -> None:
    text = "channels:\n  a: &a {size: '512', format: png}\n  b: {<<: *a, format: jpeg}\n  c: {<<: [{x: 1}, *a]}\n"
    assert parse(text)["channels"] == {
        "a": {"size": "512", "format": "png"},
        "b": {"size": "512", "format": "jpeg"},
        "c": {"x": 1, "size": "512", "format": "png"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ray: {threads: 2\n", r"pinco\.yaml, line 2: this is not valid YAML: expected"),
        ("ray:\n\tthreads: 2\n", r"line 2: this is not valid YAML: found character '\\t'"),
        ("ray: {threads: 1}\nray: {threads: 2}\n", "line 2: ray occurs twice"),
        ("ray:\n  threads: 1\n  threads: 2\n", r"line 3: ray\.threads occurs twice"),
        ("- ray\n- model\n", r"sections of names and values, as in .*, not \['ray', 'model'\]"),
        ("just text\n", "not 'just text'"),
        ("5: x\n", "line 1: a name must be text; put it between quotes"),
        ("no: x\n", "line 1: a name must be text"),
        ("[a, b]: x\n", "line 1: a name must be text"),
        ("? {a: b}\n: x\n", "line 1: a name must be text"),
        ("a: !!python/object/apply:os.system ['x']\n", "line 1: the tag .*python/object.* is not supported"),
        ("a: !!set {x, y}\n", "line 1: the tag .*set is not supported"),
        ("a: !!python/name:os.system x\n", "line 1: this value cannot be read"),
        ("a: 2026-99-99\n", "line 1: this value cannot be read"),
        ("a: " + "9" * 5000 + "\n", "line 1: this value cannot be read"),
        ("a: !!int x\n", "line 1: this value cannot be read"),
        ("a: &a [*a]\n", "line 1: the settings are nested too deeply, or refer to themselves"),
        ("a: &a {b: *a}\n", "refer to themselves"),
        ("a: &a {<<: *a}\n", "refer to themselves"),
        ("a: {<<: 5}\n", "line 1: << takes over names and values"),
        ("a: *nowhere\n", "line 1: this is not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "line 2: this is not valid YAML"),
        ("a: " + "[" * 5000 + "\n", "nested too deeply"),
        ("a: " + "{b: " * 30 + "1" + "}" * 30 + "\n", "nested too deeply"),
        (b"a: caf\xe9\n", "line 1: this is not UTF-8 text"),
        ("a: 1\n".encode("utf-16"), "not UTF-8 text"),
        (b"a: b\0c\n", "not valid YAML"),
        (BOMB, "more than 10000 values"),
        (MERGE_BOMB, "more than 10000 values"),
        ("a: [" + "x, " * 10_001 + "]\n", "more than 10000 values"),
    ],
)
def test_mistakes_are_sentences_with_the_file_and_the_line(text: str | bytes, message: str) -> None:
    began = time.process_time()
    with pytest.raises(SettingsError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith("pinco.yaml")
    assert time.process_time() - began < 5


def test_a_missing_file_has_no_settings_unless_it_was_named(tmp_path: Path) -> None:
    assert read_settings_file(tmp_path / "pinco.yaml").values == {}
    with pytest.raises(SettingsError, match=r"other\.yaml: there is no such settings file"):
        read_settings_file(tmp_path / "other.yaml", required=True)


def test_what_is_no_file_or_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SettingsError, match="not a file"):
        read_settings_file(tmp_path / "folder.yaml")
    (tmp_path / "long.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SettingsError, match="at most 256 KiB"):
        read_settings_file(tmp_path / "long.yaml")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "pinco.yaml").write_text("")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SettingsError, match=r"pinco\.yaml: the settings file cannot be read"):
        read_settings_file(tmp_path / "pinco.yaml")


@given(st.text(alphabet="abr: {}[]&*!-?|>'\"#%@<\n\t0123.~,", max_size=60))
def test_any_text_is_settings_or_an_error(text: str) -> None:
    try:
        assert isinstance(parse(text), dict)
    except SettingsError as error:
        assert str(error).startswith("pinco.yaml")
