"""Makes tests/golden/data/conversations.json: which tokens of conversations are learnt, by transformers.

    python tests/oracle/data/make_conversations.py TRL_CHAT_TEMPLATES

TRL_CHAT_TEMPLATES is trl/chat_templates in PyPI's trl 1.2 or later: templates of real models as they are
shipped, and beside each the same with {% generation %} marks. The reference is transformers' own
apply_chat_template(return_assistant_tokens_mask) over the marked one, with tests/golden/text/smollm.json as the
tokenizer. A case where the shipped template writes another text than the marked one is left out.

OUT: {"templates": {name: {"plain", "marked"}}, "chats": {name: messages}, "cases": [{"template", "chat", "text", "ids",
"mask"}]}.
"""
import json
import pathlib
import sys

import jinja2
from transformers import PreTrainedTokenizerFast

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
NAMES = """llama3 gemma gemma3 phi3 phi3_5 lfm2 cohere cohere2 deepseekv3 qwen3 qwen3_instruct_2507 deepseek_r1_distill
qwen2_5""".split()
CHATS = {
    "one": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
               {"role": "assistant", "content": "Hello! 你好 🙂"}],
    "turns": [{"role": "user", "content": "First?"}, {"role": "assistant", "content": "One."},
              {"role": "user", "content": "And then?"}, {"role": "assistant", "content": "  Two,\n\nand <b>three</b>. "},
              {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "\nBye"}],
    "same": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "Say it."},
             {"role": "user", "content": "Say it."}, {"role": "assistant", "content": "Say it."}],
}


def tokenizer():
    fast = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "text" / "smollm.json"))
    fast.bos_token, fast.eos_token = "<|im_start|>", "<|im_end|>"
    return fast


def reference(fast, plain, marked, messages):
    try:
        text = fast.apply_chat_template(messages, chat_template=plain, tokenize=False)
        if text != fast.apply_chat_template(messages, chat_template=marked, tokenize=False):
            return None
        out = fast.apply_chat_template(messages, chat_template=marked, tokenize=True, return_dict=True,
                                       return_assistant_tokens_mask=True)
    except jinja2.TemplateError:
        return None
    return {"text": text, "ids": out["input_ids"], "mask": out["assistant_masks"]}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, fast = pathlib.Path(sys.argv[1]), tokenizer()
    templates = {n: {"plain": (folder / f"{n}.jinja").read_text(), "marked": (folder / f"{n}_training.jinja").read_text()}
                 for n in NAMES}
    cases = [{"template": n, "chat": c} | found for n, t in templates.items() for c, messages in CHATS.items()
             if (found := reference(fast, t["plain"], t["marked"], messages))]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    parts = (json.dumps(part, ensure_ascii=False, indent=1) for part in (templates, CHATS))
    (GOLDEN / "data" / "conversations.json").write_text(
        '{"templates": %s,\n"chats": %s,\n"cases": [\n%s\n]}\n' % (*parts, lines))
    print(len(cases), "cases of", len({case["template"] for case in cases}), "templates")
    for name in NAMES:
        print(name, [c["chat"] for c in cases if c["template"] == name])


if __name__ == "__main__":
    main()
