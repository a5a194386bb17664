import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from workers.errors import ModelError
from workers.llm.dialogue import messages_of, turns_of
from workers.llm.template import Template, read_template

NOW = datetime(2024, 5, 6, 7, 8)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source: str, question: str = "Why?") -> str:
    messages = messages_of(turns_of(question), ["image"] * 2)
    return Template("a/b", source, TOKENS).render(messages, NOW)


@pytest.mark.parametrize(
    "source",
    [
        "{{ bos_token }}{{ messages[0].role }}|{{ tools is none }}|{{ documents is none }}",
        "{% for part in messages[0]['content'] %}\n  {%- if loop.first %}first{% endif %}\n"
        "  {{ part | tojson }}\n    {% if not loop.last %}\n  next\n{% endif %}\n{% endfor %}\n",
        "{{ messages | tojson(indent=2) }}{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true) }}",
        "{% generation %}said {{ eos_token }}{% set x = 1 %}{% endgeneration %}{{ x is defined }}",
        "{% set ns = namespace(self=1, n=0) %}{% for m in [1, 2, 3] %}{% if m == 3 %}{% break %}"
        "{% endif %}{% set ns.n = ns.n + m %}{% endfor %}{{ ns.n }}{{ ns.self }}",
        "{{ dict(a=1) }}{{ dict.fromkeys(['x'], 2) }}{{ add_generation_prompt }}{{ missing }}",
    ],
)
def test_it_renders_as_transformers_does(source: str) -> None:
    content = [{"type": "image"}] * 2 + [{"type": "text", "text": "a <é> 猫"}]
    expected, _ = render_jinja_template(
        [[{"role": "user", "content": content}]],
        chat_template=source,
        add_generation_prompt=True,
        **TOKENS,
    )
    assert render(source, "a <é> 猫") == expected[0]


def test_the_time_is_that_of_the_prompt() -> None:
    assert render("{{ strftime_now('%d %b %Y, %H:%M') }}") == "06 May 2024, 07:08"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('only text, please') }}", "only text, please"),
        ("{{ messages.append(1) }}", "access to attribute 'append' .* unsafe"),
        ("{{ dict.__class__ }}{{ dict.__class__.__mro__ }}", "unsafe|access to attribute"),
        ("{{ strftime_now.__self__.year }}", "unsafe|access to attribute"),
        ("{% set ns = namespace(_x=1) %}", "may not set an attribute '_x'"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "may not set an attribute"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ missing.part }}", "'missing' is undefined"),
    ],
)
def test_what_it_may_not_do_is_one_line(source: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"^a/b: chat template: [^\n]*({reason})[^\n]*$"):
        render(source)


def test_a_broken_one_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"^a/b: chat template: [^\n]+$"):
        Template("a/b", "{% for %}", TOKENS)


FILES = {
    "processor_config.json": {"chat_template": "processor"},
    "chat_template.json": {"chat_template": "older"},
    "chat_template.jinja": "file",
    "tokenizer_config.json": {"chat_template": [{"name": "default", "template": "tokenizer"}]},
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (list(FILES), "processor"),
        (list(FILES)[1:], "older"),
        (list(FILES)[2:], "file"),
        (list(FILES)[3:], "tokenizer"),
    ],
)
def test_it_is_read_from_where_transformers_looks_first(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    contents: dict[str, Any] = {name: FILES[name] for name in files}
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text)
    processor = contents.get("processor_config.json", {})
    assert read_template(str(tmp_path), processor, contents["tokenizer_config.json"]) == expected


def test_none_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no chat template.* to chat_template\.jinja"):
        read_template(str(tmp_path), {}, {"chat_template": {"other": "x"}})


def test_one_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: not UTF-8 text$"):
        read_template(str(tmp_path), {}, {})
