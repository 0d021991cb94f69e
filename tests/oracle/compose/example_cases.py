"""Odd overrides for configurations that people wrote: keys are taken from the file, group choices from its folder."""
import pathlib

VALUES = ["1", "-1", "+1", "1.0", "1e-5", "1E5", ".5", "5.", "1_000", "0x10", "010", "00", "1e", "null", "NULL", "Null", "~", "none", "true", "True", "TRUE", "yes", "No", "off", "FALSE",
          "inf", "-inf", "nan", "NaN", "x", "x y", "'x y'", '"x,y"', "a,b", "a\\,b", "a:b", "a=b", "", " ", "'", "it's", "'it\\'s'", "\\\\", "\\", "$x", "%d", "@x", "#x", "?", "???", "'???'",
          "*", "~x", "!x", "é", "日本", "'日本'", "2026-11-23", "12:30", "1:2:3", "/a/b_c-d.bin", "./x", "../x", "http://h:80/p?q=1", "[]", "[1,2,three]", "[1, 2,]", "[a b,c]", "[[1],[2,[3]]]",
          "{}", "{a:1}", "{a: 1, b: {c: [1]}}", "{a:1,a:2}", "{1:2,true:3}", "{a:}", "{'a b':1}", "{a-b:1}", "{a.b:1}", "{a/b:1}", "[", "{", "]", "(", "(1)", "[1", "{a", "int(3)", "int('3')",
          "float(1)", "str(1)", "bool(1)", "str([1,2])", "sort(2,1)", "range(3)", "choice(a,b)", "glob(*)", "json_str({a:1})", "extend_list(1)", "shuffle(1,2)", "tag(1)", "foo(1)",
          "'${experiment.exp_name}'", "${experiment.exp_name}", "${experiment.exp_name}/x", "x${experiment.exp_name}", "${experiment}", "${experiment.envs}", "${nope}", "${.x}", "${..exp_name}",
          "${...}", "${}", "${", "${a", "${oc.env:HOME_X}", "${oc.env:HOME_X,d}", "${oc.env:HOME_X,null}", "${oc.env:HOME_X,1}", "${oc.env:FUZZ_VAR}", "${oc.env: FUZZ_VAR}", "${oc.env:FUZZ_NUM}",
          "${oc.decode:${oc.env:FUZZ_NUM}}", "${oc.decode:'{a:1}'}", "${oc.select:experiment.exp_name}", "${oc.select:nope,7}", "${oc.dict.keys:experiment}", "${oc.dict.values:experiment.envs}",
          "${oc.create:{a:1}}", "${oc.create:[1,2]}", "${oc.deprecated:experiment.exp_name}", "${hydra:job.name}", "${env:HOME}", "${a:??}", "${a??}", "${now:%Y}", "\\${x}", "'\\${x}'", "a\\ b",
          "a\\tb", "\"a\\\"b\"", "1 ", " 1", "a  b", "1 2", "null x", "1,", ",1", "00:00", "-.5", "+.inf", ".inf", "1.e3", "1e+3", "0b1", "0o7", "1__0", "_1", "1_", "9223372036854775808", "1e400",
          "${experiment[exp_name]}", "${experiment[envs].CUDA_DEVICE_MAX_CONNECTIONS}", "${oc.env:FUZZ_VAR}${oc.env:FUZZ_VAR}", "{a:${experiment.exp_name}}", "[${experiment.exp_name},1]"]
MORE = ["hydra.run.dir=x", "hydra.run.dir=${experiment.exp_name}", "~hydra", "hydra.nope=1", "+hydra.nope=1", "hydra.job.chdir=true", "hydra/launcher=basic", "hydra/launcher=nope", "~hydra/launcher",
        "hydra/job_logging=none", "+experiment.x.y.z=1", "experiment.x.y=1", "++experiment.x.y=1", "~experiment.envs", "~experiment.exp_name", "~experiment.exp_name=zz", "~experiment.nope",
        "~action", "action=dryrun", "+action=x", "++action=x", "a/b=1", "+a/b=1", "x@y=1", "+x@y=1", "experiment=1", "experiment=null", "experiment=[]", "experiment={}", "+experiment={z:1}",
        "++experiment={exp_name:q}", "experiment={exp_name:q}", "experiment={nope:q}", "experiment.envs={A:1}", "~experiment", "=", "a", "+", "~", "", "a b=1", " action=1", "action =1", "action= x ",
        "--action=1", "-action=1", "action==", "action==x", "experiment..x=1", ".a=1", "a.=1", "+a.=1", "+1=2", "+1.2=3", "+true=1", "+null=1", "+a-b=1", "+a b=1", "+'a'=1", "+$a=1", "+a:b=1",
        "+a[0]=1", "+defaults=[]", "defaults=[x]", "~defaults", "+experiment.envs.0=1", "experiment.exp_name.x=1", "+experiment.exp_name.x=1"]


def leaves(flat):
    """Dotted keys of a flat form, list items by number as an override names them, and the containers above."""
    keys = set()
    for path in flat:
        key = path.replace("[", ".").replace("]", "")
        parts = key.split(".")
        keys.update(".".join(parts[: i + 1]) for i in range(len(parts)))
    return sorted(keys)


def groups(folder):
    found = {}
    for path in pathlib.Path(folder).rglob("*.yaml"):
        relative = path.relative_to(folder)
        if len(relative.parts) > 1:
            found.setdefault("/".join(relative.parts[:-1]), []).append(relative.stem)
    return found


def override(rng, keys, options):
    roll = rng.random()
    if roll < 0.12 and options:
        group = rng.choice(sorted(options))
        option = rng.choice([*options[group], "nope", "null", f"[{rng.choice(options[group])}]", "'" + rng.choice(options[group]) + "'", "${experiment.exp_name}", "", "1"])
        return rng.choice(["", "", "", "+", "++", "~"]) + group + rng.choice(["", "", "", "@x", "@_global_", "@x.y", f"@{group}", f"@{group}:x"]) + rng.choice(["=" + option] * 6 + [""])
    if roll < 0.25:
        return rng.choice(MORE)
    key = rng.choice(keys) if keys and rng.random() < 0.9 else "experiment.new"
    if rng.random() < 0.12:
        key += rng.choice([".new", ".0", ".-1", ".99", ".x.y", "[0]", "x", "."])
    return rng.choice(["", "", "", "", "+", "++", "~"]) + key + rng.choice(["=" + rng.choice(VALUES)] * 12 + [""])
