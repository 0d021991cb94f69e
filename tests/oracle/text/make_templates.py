#!/usr/bin/env python3
"""What transformers renders from chat templates: make_templates.py OUT.json LLAMA_CPP_MODELS [--all]

Templates of our own, which use what the families read here use (ChatML and LLaMA-3 headers, alternation with
raise_exception, tools as JSON, thinking blocks, namespaces, macros, loop controls, Python's methods and printing), and those
of real models: LLAMA_CPP_MODELS is models/templates/ in the source of PyPI's llama-cpp-python 0.3.36. SAMPLE names the ones
that the golden file holds; --all takes the whole folder.

OUT: {"templates": {name: source}, "chats": {name: messages and so on}, "cases": [...]}. A case has the rendered `text`, or
`error`, what the template said in raise_exception. Where jinja2 itself fails (a template that adds a list to a text) there is
no case. «@TODAY %Y-%m-%d@» in a text is the day.
"""
import argparse
import datetime
import json
import pathlib

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

SAMPLE = """Qwen-Qwen2.5-7B-Instruct Qwen-QwQ-32B Qwen-Qwen3-0.6B Qwen3.5-4B Qwen3-Coder meta-llama-Llama-3.1-8B-Instruct
meta-llama-Llama-3.2-3B-Instruct deepseek-ai-DeepSeek-R1-Distill-Qwen-32B deepseek-ai-DeepSeek-V3.1 mistralai-Mistral-Nemo-Instruct-2407
Mistral-Small-3.2-24B-Instruct-2506 google-gemma-2-2b-it microsoft-Phi-3.5-mini-instruct HuggingFaceTB-SmolLM3-3B Kimi-K2-Instruct
GLM-4.6 MiniMax-M2 openai-gpt-oss-120b ibm-granite-granite-3.3-2B-Instruct NousResearch-Hermes-3-Llama-3.1-8B-tool_use
CohereForAI-c4ai-command-r7b-12-2024-tool_use
meetkai-functionary-medium-v3.2""".split()
OURS = {
    "chatml": """{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "headers": """{{ bos_token }}{% for message in messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}
{{ content }}
{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    "alternating": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + ((system + '\\n\\n') if loop.first and system is defined else '') + message['content'].strip() + ' [/INST]' }}
    {%- else %}
        {%- generation %}{{- ' ' + message['content'].rstrip() + eos_token }}{%- endgeneration %}
    {%- endif %}
{%- endfor %}""",
    "tools": """{%- macro show(tool, level=0) %}{{ '  ' * level }}{{ tool.function.name }}: {{ tool.function | tojson }}{% endmacro %}
{%- if tools is defined and tools %}
Tools:
{%- for tool in tools %}
{{ show(tool, level=loop.index0) }}
{{ tool | tojson(indent=2) }}
{%- endfor %}
{% endif %}
{%- for message in messages %}
{%- if message.tool_calls is defined %}
{%- for call in message.tool_calls %}<call>{{ call.function.name }}({% for key, value in call.function.arguments.items() %}{{ key }}={{ value if value is string else value | tojson }}{{ ', ' if not loop.last }}{% endfor %})</call>
{% endfor %}
{%- else %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>
{% endif %}
{%- endfor %}""",
    "thinking": """{%- set ns = namespace(last=-1, count=0) %}
{%- for message in messages[::-1] %}
    {%- set ns.count = ns.count + 1 %}
    {%- if message.role == 'user' and ns.last < 0 %}{% set ns.last = messages | length - loop.index0 - 1 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and '</think>' in message.content and loop.index0 < ns.last %}
        {{- message.content.split('</think>')[-1].lstrip('\\n') }}
    {%- elif message.content.startswith('skip') %}
        {%- continue %}
    {%- else %}
        {{- message.role | upper }}: {{ message.content | replace('\\n', ' / ') }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}A: {% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{% endif %}
""",
    "printing": """{{ true }} {{ none }} {{ 1.0 }} {{ 1e20 }} {{ 1e-7 }} {{ [1, 'a', "it's", none, true] }} {{ {'k': 'v', 'n': 2.5} }} {{ undefined_name }}|
{{ messages[0].content.title() }} {{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ ['b', 'a'] | sort | join(',') }} {{ messages[0].get('name', 'nobody') }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 'x' in 'xyz' }} {{ {'é': '\u4e2d', 'q': '"<&>'} | tojson }}
""",
}
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "It's \"now\" <b>", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "Where", "enum": ["Paris", "Zürich"]},
                                         "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "weather", "arguments": {"city": "Paris", "days": 3, "exact": True, "limit": 0.5}}}
CHATS = {
    "plain": {"messages": [{"role": "user", "content": " What is the capital of France?\n"}]},
    "long": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
                          {"role": "assistant", "content": "<think>hm</think>\n\nHello! "}, {"role": "user", "content": "É 中 🙂"}]},
    "unpaired": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "skip b"}]},
    "calling": {"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
                "tools": [WEATHER]},
    "answered": {"messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Weather?"},
                              {"role": "assistant", "content": None, "tool_calls": [CALL]},
                              {"role": "tool", "name": "weather", "tool_call_id": "call12345", "content": "{\"degrees\": 21.5}"},
                              {"role": "assistant", "content": "It is 21.5 degrees."}, {"role": "user", "content": "Thanks"}],
                 "tools": [WEATHER]},
    "offered": {"messages": [{"role": "user", "content": "Hello"}], "tools": [WEATHER]},
    "reasoned": {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "reasoning": "Two and two.", "content": "4"},
                              {"role": "user", "content": "3+3?"}, {"role": "assistant", "reasoning_content": "Three.\n", "content": "6"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "One, "}, {"type": "text", "text": "two."}]}]},
    "not thinking": {"messages": [{"role": "user", "content": "x"}], "extra": {"enable_thinking": False}},
    "dated": {"messages": [{"role": "user", "content": "x"}], "extra": {"date_string": "26 Jul 2024", "reasoning_effort": "high"}},
}
ESCAPED = ["meetkai-functionary-medium-v3.1"]  # by `|safe` jinja2 writes tools as HTML («&#39;»), which ours does not
DATES = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y")


def without_today(text):
    for form in DATES:
        text = text.replace(datetime.date.today().strftime(form), f"@TODAY {form}@")
    return text


def rendered(source, chat, prompt):
    try:
        texts, _ = render_jinja_template([chat["messages"]], tools=chat.get("tools"), chat_template=source,
                                         add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", **chat.get("extra", {}))
        return {"text": without_today(texts[0])}
    except jinja2.TemplateError as error:
        return {"error": str(error)} if type(error) is jinja2.TemplateError else None
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    names = sorted(path.stem for path in arguments.models.glob("*.jinja")) if arguments.all else SAMPLE
    templates = {**OURS, **{name: (arguments.models / f"{name}.jinja").read_text() for name in names}}
    cases = [{"template": name, "chat": chat, "add_generation_prompt": prompt, **result}
             for name, source in templates.items() for chat, given in CHATS.items() for prompt in (True, False)
             if not (name in ESCAPED and "tools" in given) and (result := rendered(source, given, prompt))]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    parts = (json.dumps(part, ensure_ascii=False, indent=1) for part in (templates, CHATS))
    arguments.out.write_text('{"templates": %s,\n"chats": %s,\n"cases": [\n%s\n]}\n' % (*parts, lines))
    print(len(templates), "templates,", len(cases), "cases:", sum("error" in case for case in cases), "refused")


main()
