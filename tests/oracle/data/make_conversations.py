"""Makes tests/golden/data/conversations.json: which tokens of conversations are learnt, by transformers.

    python tests/oracle/data/make_conversations.py TRL_CHAT_TEMPLATES

TRL_CHAT_TEMPLATES is trl/chat_templates in PyPI's trl 1.16: templates of real models as they are shipped, and beside each
the same with {% generation %} marks. The reference is transformers' own
apply_chat_template(return_assistant_tokens_mask) over the marked one, with tests/golden/text/smollm.json as the
tokenizer. Where the shipped template writes another text than the marked one ("plain" is false), the marked one alone is
a case. What a template refuses is none, nor are calls that it does not write.

OUT: {"templates": {name: {"plain", "marked"}}, "chats": {name: record}, "cases": [{"template", "chat", "plain", "ids",
"mask"}]}.
"""
import json
import pathlib
import sys

import jinja2
from transformers import PreTrainedTokenizerFast

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
NAMES = """llama3 gemma gemma3 phi3 phi3_5 lfm2 lfm2_v2 cohere cohere2 deepseekv3 qwen3 qwen3_instruct_2507 qwen3_5_think qwen3_6
deepseek_r1_distill qwen2_5 gptoss glm4moe nemotron_3_nano""".split()
TOOLS = [{"type": "function", "function": {
    "name": "rain", "description": "Whether it rains.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}, "required": ["city"]}}}]


def call(city):
    return {"type": "function", "function": {"name": "rain", "arguments": {"city": city}}}


CHATS = {
    "one": {"messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}]},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
                            {"role": "assistant", "content": "Hello! 你好 🙂"}]},
    "turns": {"messages": [
        {"role": "user", "content": "First?"}, {"role": "assistant", "content": "One."},
        {"role": "user", "content": "And then?"}, {"role": "assistant", "content": "  Two,\n\nand <b>three</b>. "},
        {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "\nBye"}]},
    "same": {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "Say it."}] * 2},
    "empty": {"messages": [{"role": "user", "content": "Say nothing."}, {"role": "assistant", "content": ""},
                           {"role": "user", "content": "Now speak."}, {"role": "assistant", "content": "Yes?"}]},
    "reasoning": {"messages": [
        {"role": "user", "content": "3 + 4?"}, {"role": "assistant", "reasoning_content": "Add them.", "content": "7"},
        {"role": "user", "content": "And 1?"}, {"role": "assistant", "reasoning_content": "7 + 1.", "content": "8"}]},
    "call": {"messages": [{"role": "user", "content": "Rain in Oslo?"},
                          {"role": "assistant", "content": "", "tool_calls": [call("Oslo")]},
                          {"role": "tool", "name": "rain", "content": "yes"},
                          {"role": "assistant", "content": "It rains."}], "tools": TOOLS},
    "calls": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain in Oslo or Rome?"},
                           {"role": "assistant", "content": "Let me see.", "tool_calls": [call("Oslo"), call("Rome")]},
                           {"role": "tool", "name": "rain", "content": "yes"}, {"role": "tool", "name": "rain", "content": "no"},
                           {"role": "assistant", "content": "Only there."}, {"role": "user", "content": "Thanks"},
                           {"role": "assistant", "content": "Bye"}], "tools": TOOLS},
}


def tokenizer():
    fast = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "text" / "smollm.json"))
    fast.bos_token, fast.eos_token = "<|im_start|>", "<|im_end|>"
    return fast


def template(path):
    return path.read_text().replace('strftime_now("%Y-%m-%d")', '"2025-06-28"')  # gpt-oss writes the day


def reference(fast, plain, marked, chat):
    messages, tools = chat["messages"], chat.get("tools")

    def text(template):
        try:
            return fast.apply_chat_template(messages, tools=tools, chat_template=template, tokenize=False)
        except (jinja2.TemplateError, TypeError):
            return None

    whole = text(marked)
    if whole is None or (tools and whole.count("Oslo") < 2):
        return None
    out = fast.apply_chat_template(messages, tools=tools, chat_template=marked, tokenize=True, return_dict=True,
                                   return_assistant_tokens_mask=True)
    return {"plain": text(plain) == whole, "ids": out["input_ids"], "mask": out["assistant_masks"]}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, fast = pathlib.Path(sys.argv[1]), tokenizer()
    templates = {n: {"plain": template(folder / f"{n}.jinja"), "marked": template(folder / f"{n}_training.jinja")}
                 for n in NAMES}
    cases = [{"template": n, "chat": c} | found for n, t in templates.items() for c, chat in CHATS.items()
             if (found := reference(fast, t["plain"], t["marked"], chat))]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    parts = (json.dumps(part, ensure_ascii=False, indent=1) for part in (templates, CHATS))
    (GOLDEN / "data" / "conversations.json").write_text(
        '{"templates": %s,\n"chats": %s,\n"cases": [\n%s\n]}\n' % (*parts, lines))
    print(len(cases), "cases of", len({case["template"] for case in cases}), "templates")
    for name in NAMES:
        print(name, [c["chat"] + ("" if c["plain"] else "*") for c in cases if c["template"] == name])


if __name__ == "__main__":
    main()
