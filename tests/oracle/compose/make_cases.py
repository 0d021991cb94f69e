#!/usr/bin/env python3
"""Writes tests/golden/compose/cases.json: what hydra-core makes of the folders in trees/ beside it, of scalars and overrides
listed here, and of random configurations.

    pip install hydra-core==1.3.2 omegaconf==2.3.0
    make_cases.py
"""
import json
import math
import os
import pathlib
import random
import tempfile

from oracle import show
from random_cases import KINDS, case, write_files

here = pathlib.Path(__file__).resolve().parent
golden = here.parent.parent / "golden" / "compose"

SCALARS = """1e-5 1E5 2.0e-5 1e5 1.e3 .5 5. -.5 +.5 1_000 1__0 1_ _1 0x10 0X10 0o17 017 089 00 0b11 0b2 1:30 1:30:45 1:75 12:30:45.5 -0 +1 0.0 -0.0 .inf -.INF +.Inf .nan .NaN .Nan inf nan
yes Yes YES no on ON oFF off y n Y N true TRUE True tRue false null Null NULL nuLL ~ None 2026-11-23 2026-11-23T10:00:00Z 1e 1e+ e5 1.5e-05 1.5e 0x 0b - -- 0xFFFFFFFFFFFFFFFFFF 123456789012345678901234567890
0,1,2 a,b a:b a::b #x a#b http://x:80/y C:\\x @a 'a b' "1" '1' "yes" "\\u00e9\\t\\x41" !!str 1 !!int "7" !!float 3 !!bool "yes" !!null x 1.0.0 1-2 +1e3 1e1000 -1e1000 5e-324 0.1 100000000000000000.0 1e16 1e15 123456789.123456789
1_0.5_0 1_0e5 1e5_0 .5_5 ._5 0_1 0_9 +0x1F -0b10 -017 190:20:30 1:2.5 ??? ${a} a${b}c \\${x} <<x =x %x &""".split("\n")

OVERRIDES = """a=2|a=1e-5|a=1_000|a=0x10|a=|a= 3 |a=null|a=NULL|a=True|a=tRuE|a=yes|a=inf|a=-nan|a=.5|a=5.|a=+1|a=-1|a=00|a=1.2.3|a=a b|a='a b'|a="a,b"|a=a,b|a=[1,2]|a=[1, 2 ,x]|a=[]|a={}|a={x:1,y:[z]}|a={x: 1}|a={x:}
a={1:2,true:3,1.5:x}|a={a:1,a:2}|a=[[1],[{}]]|a=${b.c}|a=${oc.env:FUZZ_VAR}|a=x${b.c}y|a='${b.${s2}}'|a=${nope}|a=???|a=it's|a='it\\'s'|a="q\\"q"|a='\\\\'|a=\\,|a=a\\,b|a=\\ x|a=a\\:b|a=a:b|a=a=b|a=$x|a=%d|a=a/b.c-d_e@f|a=a!b|a=é|a='é'
a=int(3.7)|a=int('12')|a=float(1)|a=str(1)|a=str(true)|a=bool(0)|a=bool('true')|a=int(x)|a=str([1,2])|a=sort([3,1,2])|a=sort([3,1],reverse=true)|a=choice(1,2)|a=range(1,3)|a=interval(0,1)|a=glob(*)|a=foo(1)|a=1,2|a=tag(x,choice(1))
+a=1|+a=[1]|+a={z:1}|++a=1|++new=1|+new=1|new=1|+new.x.y=1|new.x=1|++new.x.y=1|~a|~a=1|~a=2|~new|~b|~b.c|~b.c=2.5|~l.0|~m|~b.e.f|b=1|b={c:9}|b={z:9}|+b={z:9}|b=[1]|b.c.d=1|+b.c.d=1|l=[9]|l=5|l.0=5|l.9=5|l.x=5|+l.0=5|+l=[1]|l.2.0=7
b.e.g.2.h=[1]|r.x=1|b.d=${.c}|b.d=${..a}|m=1|+m=1|s.x.y=1|a@b=1|g/h=1|b[c]=1|0=1|=1|a|+|~|a b=1|hydra.run.dir=x|hydra.nope=1|+hydra.nope=1|hydra/job_logging=disabled|hydra/job_logging=nope|hydra.job.chdir=true|a=1 b=2|a='x' 'y'|a=[a b,c]|a=(1)|a=@x|a=#x|a=a\\tb"""


# Hard places of YAML: tags and block scalars with something behind them, keys merged twice, and what random texts found.
TEXTS = ["a: [!]", "a: [!, 1]", "a: [! x]", "a: [! 1]", "a: {b: !}", "a: !", "a: ! ''", "a: ! 1", "a: [!!str]", "a: [!!str, b]", "a: [!!str , b]",
         "a: !!str", "a: !!str,", "a: !!map{b: 1}", "a: !!map {b: 1}", "a: !!seq[1]", "a: !!seq [1]", "a: !<tag:yaml.org,2002:str> 1",
         "a: [!<tag:yaml.org,2002:str>]", "a: &x !!str 1", "a: !!str &x 1", "a: &x\n  !!int 1", "a: 'x!]'", "a: [x!]", "a: [\"!\"]",
         "a: |-#x\n  text", "a: |#x\n  text", "a: |- #x\n  text", "a: >-#x\n  t", "a: |2#x\n  t", "a: |-2 #x\n   t", "a: |-2#x\n   t", "a: b |-#x",
         "a: |\n  x: |-#y\n  z", "a: &q |-#x\n  t", "a: !!str |-#x\n  t", "a: !!str |- #x\n  t", "- |-#x", "a: |",
         "m: &m {ab: 1}\nk: {<<: *m, <<: *m}", "m: &m {ab: 1}\nn: &n {cd: 2}\nk: {<<: [*m, *n], ef: 3}", "m: &m {ab: 1}\nn: &n {<<: *m, ab: 2}\nk: {<<: *n}",
         "m: &m {ab: 1}\nn: &n {ab: 2}\nk: {<<: [*m, *n], ab: 3}", "k: {<<: {<<: {ab: 1}, ab: 2}}", "k: {<<: {ab: .nan}}",
         "k: {<<: {ab: 1}, <<: {ab: 2}}", "m: &m {ab: [1, {c: 2}]}\nk: {<<: *m, d: 1}", "k: {<<: {ab: 1, ab: 2}}",
         "!!str k: v\n%YAML 1.1 # c", "k: v\n    'q- @\n%YAML 1.1", "? >\n\n\n", "!!str :", "? \n|", "? |", '"": \n  !!str ', '"": {}', '"": {a: 1}', "!!str : b",
         "!!str : #@", "? >\n    \n", "!!str 1\n? *anull>+", "!!str \t|-: ", "a: \nx:y\\ # c#- ", "b- <<: \n\\|2:?- ", "%YAML 1.1", "...", "# c\n... # c",
         "k: {!\n  &a a,}", "k: {x:y\n  }", "k: !| ", "k: {-~&a \n  }",
         'k: {"d"\n  }', "1.0:\n  ~: [1, 2]\ntrue: [a: 1]", "true:\n  <<: {~: 1}\n1.0: x", "k: {<<: {ab: {~: 1}}, ab: 2}", "1: ${\ntrue: 2", "1: !x y\ntrue: 2",
         ": a", "? a\n: b\n? c", "- - a\n  - b\n-\n- c: 1\n  d: 2", "a:\n- 1\n- 2\nb: 3", "a: 'x\n  y\n\n  z'", 'a: "x\\\n  y\\x41\\u00e9\\N"', 'a: "\\q"', "a: 'x\n---\n'",
         "a: b\n c\n\n d # e", "a: b\n---\nc: d", "a: b\n...\nc: d", "a: b\n...\n...", "---\n---", "--- a: 1", "%TAG !e! tag:yaml.org,2002:\n---\na: !e!str 1",
         "%TAG ! tag:yaml.org,2002:\n---\na: !int '1'", "%YAML 2.0\n---\na: 1", "%YAML 1.2\n%YAML 1.1\n---\na: 1", "a: !e!x 1", "a: !!s%74r 1",
         "a: |1\n  x\n y", "a: |0\n x", "a: >\n x\n  y\n z\n\n w", "a: >+\n x\n\n", "a: |-\n x\n\n", "a: &b\n  c: *b", "a: &b 1\nc: *b", "a: &b 1\nc: &b 2", "a: *b",
         "a: [1, 2", "a: {b: 1", "a: ]", "a: [b: c, d]", "a: [b, : c]", "a: {b, c: , : d}", "a: [,]", "a: [b,, c]", "a: {a b: c d}", "a: [a\n  b]", "a: @b", "a: `b", "a: %b", "a: -b",
         "a: - b", "a: ?b", "a: ? b", "a: :b", "a: b: c", "a:\tb", "a: b\t# c", "\ta: b", "a: 'b'c", "a: 'b' #c", "a: 'b'#c", "a\n", "a: b\nc", "a: b\n c: d", "- a\nb: c",
         "a: " + "x" * 1030 + ": b", '"' + "x" * 1030 + '": b', "a: b\r\nc: d\r\n", "a: |\r\n  b\r\n  c\r\n", "\ufeffa: b", "a: \u2028b", "a: !!int x:1", "a: !!int '1:'", "a: !!int 1:30", "a: !!float 1:x", "a: !!float 1:30.5", "a: 'b\u0085  c'"]


def text_cases():
    for text in TEXTS:
        yield {"config.yaml": text + "\n"}, []


def override_cases():
    for text in OVERRIDES.replace("\n", "|").split("|"):
        yield "overrides", "config", [text.replace("\\t", "\t")] if text != "a=1 b=2" else ["a=1", "a=2", "b.c=3"]


def scalar_cases():
    words, text = [], "\n".join(SCALARS)
    for line in text.split("\n"):
        words += [w for w in line.replace("!!str 1", "!!str\u00a01").replace('!!int "7"', '!!int\u00a0"7"').replace("!!float 3", "!!float\u00a03").replace('!!bool "yes"', '!!bool\u00a0"yes"')
                  .replace("!!null x", "!!null\u00a0x").replace("'a b'", "'a\u00a0b'").split(" ") if w]
    for word in words:
        word = word.replace("\u00a0", " ")
        yield {"config.yaml": f"k: {word}\nl: [{word}]\n{word}: 1\n"}, []
        yield {"config.yaml": f"k: {word}\n"}, []


def tree_cases():
    """Each config*.yaml of a folder, alone and with the overrides of the folder's overrides.txt."""
    for folder in sorted((golden / "trees").iterdir()):
        overrides = [[]]
        listed = folder / "overrides.txt"
        if listed.exists():
            overrides += [json.loads(line) for line in listed.read_text().splitlines() if line]
        for config in sorted(folder.glob("config*.yaml")):
            for override in overrides:
                yield folder.name, config.stem, override


def encode(value):
    """JSON has no infinities and no integers beyond 64 bits: those are {"special": text}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"special": str(value)}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return {"special": str(value)}
    return value


def outcome(result):
    return {"error": result} if isinstance(result, str) else {"want": {path: encode(value) for path, value in result.items()}}


def main():
    os.environ["FUZZ_VAR"] = "env value"
    cases = []
    for tree, name, overrides in [*tree_cases(), *override_cases()]:
        cases.append({"tree": tree, "name": name, "overrides": overrides} | outcome(show(golden / "trees" / tree, name, overrides)))
    rng = random.Random(2026)
    counts = {"scalar": 0, "override": 150, "interpolation": 150, "yaml": 80, "flow": 60, "block": 60, "tree": 40}
    inline = [*text_cases(), *scalar_cases(), *(case(rng, kind) for kind in KINDS for _ in range(counts[kind]))]
    for files, overrides in inline:
        with tempfile.TemporaryDirectory() as folder:
            write_files(files, folder)
            result = show(folder, "config", overrides)
        cases.append({"files": files, "name": "config", "overrides": overrides} | outcome(result))
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    (golden / "cases.json").write_text(f"[\n{lines}\n]\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "refused")


main()
