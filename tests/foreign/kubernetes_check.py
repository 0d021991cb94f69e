"""Our manifests against the schemas that Kubernetes and JobSet publish: kubernetes_check.py FOLDER [JOBSET_MODULE].

FOLDER has the manifests (tests/golden/kubernetes: the tests compare what is written with them). JOBSET_MODULE is the folder
of the Go module sigs.k8s.io/jobset, whose CRD has its schema; without it sets are passed over, and that is said."""
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


def job_set_schema(module):
    path = pathlib.Path(module) / "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    strict(schema)["properties"]["metadata"] = {"type": "object"}
    return schema


def check(item, sets):
    if item["kind"] == "JobSet":
        if not sets:
            return False
        jsonschema.validate(item, sets)
        # What is in it is a Job too.
        for replicated in item["spec"]["replicatedJobs"]:
            check({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **replicated["template"]}, sets)
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


sets = job_set_schema(sys.argv[2]) if len(sys.argv) > 2 else None
files = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
assert files, f"no manifests in {sys.argv[1]}"
checked = 0
for file in files:
    for item in json.loads(file.read_text())["items"]:
        assert item["metadata"]["name"], file
        if not check(item, sets):
            print(f"kubernetes: {file.name}'s JobSet is not checked: no Go here to fetch its schema")
            continue
        checked += 1
        assert refuses(item, sets, ["metadatum"], {}) and refuses(item, sets, ["kind"], "Jobb"), (file, item["kind"])
        if item["kind"] == "Job":
            assert refuses(item, sets, ["spec", "completions"], "two"), file
        if item["kind"] == "JobSet":
            assert refuses(item, sets, ["spec", "replicatedJobs", 0, "replica"], 1), file
print(f"kubernetes: {checked} objects of {len(files)} manifests are valid")
