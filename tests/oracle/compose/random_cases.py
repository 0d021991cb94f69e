"""Random scalars, overrides, interpolations, YAML and trees of configurations, near the edges of their grammars."""
import json

BASE = """a: 1
b: {c: 2.5, d: text, e: {f: null, g: [1, x, {h: true}]}}
l: [10, 20, [30]]
s: hello
m: ???
t: on
r: ${b.c}
"""


def scalar(rng):
    return "".join(rng.choice(["0", "1", "9", "_", ".", "e", "E", "+", "-", ":", "x", "b", "o", "~", "null", "inf", ".inf", "nan", ".NaN", "yes", "No", "on",
                               "true", "y", "a", "0x", "5", "60", "1", "2"]) for _ in range(rng.randint(1, 5)))


def value(rng):
    return "".join(rng.choice(["a", "B", "1", "0", "1_0", ".", "5", "e", "-", "+", ",", "[", "]", "{", "}", ":", "=", " ", "\t", "\\", "'", '"', "$", "${a}", "${b.c}", "${", "null", "true",
                               "False", "inf", "nan", "(", ")", "int", "str", "float", "bool", "/", "%", "*", "@", "?", "|", "_", "x-y", "\\,", "\\\\", "\\'", "[1,2]", "{a:1}", "'q'",
                               '"z,w"', "~", "#", "!", "é", "sort", "choice"])
                   for _ in range(rng.randint(1, 6)))


def key(rng):
    return rng.choice(["a", "b", "b.c", "b.e.f", "b.e.g", "b.e.g.0", "b.e.g.2.h", "l", "l.0", "l.2.0", "l.7", "s", "m", "t", "r", "new", "b.new", "new.x.y", "s.x", "l.x", "b.e", "m.x", "",
                       "a-b", "$x", "b..c", "g", "g/h", "a@b", "0", "b[c]", "r.x", "hydra.run.dir", "hydra.nope", "hydra.job.name"])


def override(rng):
    return rng.choice(["", "", "+", "++", "~"]) + key(rng) + rng.choice(["=", "=", "=", "=", "", " = "]) + rng.choice([value(rng), value(rng), "1", "x", "{c:3}", "[1]"])


def interpolation(rng):
    parts = ["${a}", "${b.c}", "${b.e.g[0]}", "${.d}", "${..a}", "${m}", "${nope}", "${oc.env:HOME_X,dd}", "${oc.env:FUZZ_VAR}", "${oc.select:b.c,7}", "${oc.select:zz,[1,2]}",
             "${oc.decode:'[1,2]'}", "${oc.dict.keys:b}", "${oc.dict.values:b}", "${oc.create:{x:1}}", "${b}", "${l}", "${l.0}", "${s}", "${r}", "text", " ", "\\", "$", "{", "}", "[", "]",
             "'", '"', ":", "${", "${oc.env:", ",", ".", "\\${a}", "\\\\${a}", "${oc.env:FUZZ_VAR,${a}}", "${b.${s2}}", "${oc.decode:${s}}", "${x:}", "${y:??}", "${z??}", "null", "1e3",
             "${oc.env:'FUZZ_VAR'}", '${oc.env:"NO_${a}","q\'"}', "${self}", "${t}", "${ a }", "${[b].c}", "${b[c]}", "${oc.decode:null}", "${oc.decode:1_0}", "${oc.decode:a b}"]
    return "".join(rng.choice(parts) for _ in range(rng.randint(1, 3)))


def flow(rng):
    parts = ["a", "1", ":", ": ", ",", ", ", "[", "]", "{", "}", "?", "? ", "-", "- ", "#", " #", " ", "'q'", '"d"', "&a ", "*a", "!!str ", "|", ">", "%", "@", "x:y", "${a}", "~", "\n  ", "=", "!"]
    inner = "".join(rng.choice(parts) for _ in range(rng.randint(1, 7)))
    return rng.choice([f"[{inner}]", f"{{{inner}}}", inner])


def block(rng):
    parts = ["a", "b", ":", ": ", "- ", "-", "\n", "\n  ", "\n    ", "\n", "?", "? ", "#", " # c", " ", "'q", "'", '"', "&a ", "*a", "!!str ", "|", ">", "|-", ">+", "|2", "x:y", "\t", "---", "...",
             "%YAML 1.1", "k: v", "k2: v", "[1]", "{x: 1}", "<<: ", "1", "null", "\\", ",", "@"]
    return "".join(rng.choice(parts) for _ in range(rng.randint(1, 9)))


def yaml_text(rng, depth=0):
    def plain():
        return rng.choice(["x", "1", "a b", "'q'", '"d\\n"', "~", "", "a:b", "a#b", "a #c", "- x", "? k", "*anc", "&anc v", "!!str 1", "!!int '3'", "!foo x", "{a: 1}", "[1, 2]", "{a, b}",
                           "[a: 1]", "{a: 1, a: 2}", "|\n    lit\n    two\n", ">\n    fold\n    two\n", "<<", "=", "@x", "`x", "%x", "!!float 1", "'it''s'", "[x, ]", "{x: , y}", "a, b", "[]", "{}",
                           "\"\\x41\\u00e9\"", "- - 1", "x:", "http://a:80/b", "${a}", "'${a}'", "12:30:45", "1_000", "{1: a, 1: b}", "&x {k: v}", "*x", "-", "--- x", "... "])

    def name():
        return rng.choice(["k", "k1", "k2", "'k'", "1", "true", "~", "<<", "k 3", "? k4", "a.b", "0x1", "1.0", "=", "!!str 5", "&kk k5"])

    indent = "  " * depth
    lines = []
    for _ in range(rng.randint(1, 4)):
        roll = rng.random()
        if depth < 2 and roll < 0.25:
            lines.append(f"{indent}{name()}:\n{yaml_text(rng, depth + 1)}")
        elif roll < 0.35:
            lines.append(f"{indent}{name()}:" + "".join(f"\n{indent}- {plain()}" for _ in range(2)))
        elif roll < 0.38:
            lines.append(f"{indent}# comment")
        elif roll < 0.40:
            lines.append(f"{indent}\t{name()}: 1")
        else:
            key, value = name(), plain()
            if key == "<<" and value == "{1: a, 1: b}":  # which of the two PyYAML takes depends on its version
                value = "{1: a}"
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def tree(rng):
    """A random tree of groups with defaults lists."""
    files = {}
    groups = ["db", "db/kind", "srv"]
    options = ["one", "two"]
    packages = ["", "", "", "", "@pk", "@_global_", "@_here_", "@pk.q", "@_group_"]

    def entry(depth):
        kind = rng.random()
        prefix = rng.choice(["", "", "", "/"]) if depth else ""
        if kind < 0.5:
            group = rng.choice(groups if depth == 0 else ["kind", "srv", "db"])
            word = rng.choice(["", "", "", "", "optional ", "override "])
            option = rng.choice(options + ["null", "nope", "'???'", "[one, two]", "[two]", "${db}", "one"])
            return f"  - {word}{prefix}{group}{rng.choice(packages)}: {option}"
        if kind < 0.7:
            return "  - _self_"
        return f"  - {prefix}{rng.choice(options + ['base', 'kind/one', 'srv/two'])}{rng.choice(packages)}"

    def body(label, depth):
        text = ""
        if rng.random() < 0.12:
            text += f"# @package {rng.choice(['_global_', 'hd', '_group_', '_global_.zz', 'a b'])}\n"
        entries = [entry(depth) for _ in range(rng.randint(0, 3 if depth == 0 else 1))]
        if entries and rng.random() < 0.8:
            text += "defaults:\n" + "\n".join(entries) + "\n"
        text += f"v: {label}\n{label}: 1\nsub: {{{label}: 2, k: {rng.choice(['1', '[1, 2]', '{z: 1}', '???', 'null', '${v}', '${sub}'])}}}\n"
        return text

    files["config.yaml"] = body("root", 0)
    files["base.yaml"] = body("base", 1)
    for group in groups:
        for option in options:
            files[f"{group}/{option}.yaml"] = body(group.replace("/", "_") + "_" + option, 1) if rng.random() < 0.85 else "- 1\n- 2\n"
    choices = ["db=one", "db=two", "srv=two", "+srv=one", "+db/kind=two", "db/kind=one", "~db", "~srv", "~db=one", "db@pk=two", "+db@pk=one", "db=[one,two]", "+db=[two]", "db=nope", "v=9", "+sub.n=1",
               "sub.k=5", "sub={root:3}", "~v", "db=null", "++db=one", "sub.root=x"]
    return files, rng.sample(choices, rng.choice([0, 0, 1, 1, 2]))


KINDS = ["scalar", "override", "interpolation", "yaml", "flow", "block", "tree"]


def case(rng, kind):
    """Files by path, and overrides; the configuration is config.yaml."""
    if kind == "tree":
        return tree(rng)
    if kind == "scalar":
        return {"config.yaml": f"k: {scalar(rng)}\nl: [{scalar(rng)}]\n"}, []
    if kind == "override":
        return {"config.yaml": BASE}, [override(rng) for _ in range(rng.choice([1, 1, 2]))]
    if kind == "interpolation":
        text = json.dumps(interpolation(rng), ensure_ascii=False)
        return {"config.yaml": f"{BASE}s2: c\nself: ${{self}}\nn:\n  i: {text}\n  d: near\nref: ${{n.i}}\n"}, []
    if kind == "flow":
        return {"config.yaml": f"k: {flow(rng)}\n"}, []
    if kind == "block":
        return {"config.yaml": block(rng) + rng.choice(["", "\n"])}, []
    return {"config.yaml": yaml_text(rng) + "\n"}, []


def write_files(files, folder):
    import os

    for path, text in files.items():
        full = os.path.join(folder, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as file:
            file.write(text)
