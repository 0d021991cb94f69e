"""Our manifests against the schemas that Kubernetes, JobSet and LeaderWorkerSet publish: kubernetes_check.py FOLDER [MODULE…].

FOLDER has the manifests (tests/golden/kubernetes: the tests compare what is written with them). MODULE is the folder of a Go
module (sigs.k8s.io/jobset, sigs.k8s.io/lws) whose CRDs have its schemas; without it its sets are passed over, and that is
said."""
import copy
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """The schema, with every object closed: an unknown field is an error, as the API server warns."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)
    return schema


def custom_schemas(modules):
    schemas = {}
    for path in (file for module in modules for file in pathlib.Path(module).rglob("crd/bases/*.yaml")):
        crd = yaml.safe_load(path.read_text())
        for version in crd["spec"]["versions"]:
            schema = strict(copy.deepcopy(version["schema"]["openAPIV3Schema"]))
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return schemas


def check(item, sets):
    if "x-k8s.io" in item["apiVersion"]:
        if (item["apiVersion"], item["kind"]) not in sets:
            return False
        jsonschema.validate(item, sets[item["apiVersion"], item["kind"]])
        # What is in it are Jobs, or pods, too.
        for replicated in item["spec"].get("replicatedJobs", []):
            check({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **replicated["template"]}, sets)
        templates = item["spec"].get("leaderWorkerTemplate", {})
        for template in (templates[key] for key in ("leaderTemplate", "workerTemplate") if key in templates):
            check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}, sets)
        return True
    for version in ("1.28", "1.31", "1.34"):
        kubernetes_validate.validate(item, version, strict=True)
    return True


def refuses(item, sets, path, value):
    """The checks can fail: the same manifest with a wrong value."""
    wrong = copy.deepcopy(item)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        check(wrong, sets)
    except Exception:  # either library's own
        return True
    return False


sets = custom_schemas(sys.argv[2:])
files = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
assert files, f"no manifests in {sys.argv[1]}"
checked = 0
for file in files:
    for item in json.loads(file.read_text())["items"]:
        assert item["metadata"]["name"], file
        if not check(item, sets):
            print(f"kubernetes: {file.name}'s {item['kind']} is not checked: no Go here to fetch its schema")
            continue
        checked += 1
        assert refuses(item, sets, ["metadatum"], {}) and refuses(item, sets, ["spec" if "spec" in item else "data"], 1), (file, item["kind"])
        if item["kind"] == "Job":
            assert refuses(item, sets, ["spec", "completions"], "two"), file
        if item["kind"] == "JobSet":
            assert refuses(item, sets, ["spec", "replicatedJobs", 0, "replica"], 1), file
        if item["kind"] == "LeaderWorkerSet":
            assert refuses(item, sets, ["spec", "leaderWorkerTemplate", "restartPolicy"], "Sometimes"), file
print(f"kubernetes: {checked} objects of {len(files)} manifests are valid")
