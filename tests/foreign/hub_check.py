"""What we fetched from a hub, huggingface_hub and transformers' loaders find without one:

    python tests/foreign/hub_check.py PROGRAM MODEL_FOLDER
"""
import os
import pathlib
import subprocess
import sys
import tempfile

from local_hub import COMMIT, LocalHub

program, folder = sys.argv[1:]
with tempfile.TemporaryDirectory() as home:
    with LocalHub(folder) as url:
        environment = {**os.environ, "HF_HOME": home, "HF_ENDPOINT": url}
        environment.pop("HF_HUB_OFFLINE", None)
        fetched = subprocess.run([program, "models", "fetch", "owner/model"], env=environment, stdout=subprocess.PIPE, text=True)
        assert fetched.returncode == 0
    snapshot = pathlib.Path(fetched.stdout.strip())
    os.environ.update(HF_HOME=home, HF_HUB_OFFLINE="1")  # before the import, which reads them

    import huggingface_hub

    for path in snapshot.iterdir():
        found = huggingface_hub.hf_hub_download("owner/model", path.name, local_files_only=True)
        assert pathlib.Path(found).read_bytes() == (pathlib.Path(folder) / path.name).read_bytes(), path.name
        assert huggingface_hub.try_to_load_from_cache("owner/model", path.name) == found, path.name
    assert pathlib.Path(huggingface_hub.snapshot_download("owner/model", local_files_only=True)) == snapshot
    cache = huggingface_hub.scan_cache_dir()
    assert not cache.warnings, cache.warnings
    (repository,) = cache.repos
    assert repository.repo_id == "owner/model" and repository.repo_type == "model"
    (revision,) = repository.revisions
    assert revision.commit_hash == COMMIT and revision.refs == {"main"}, revision
    listed = subprocess.run([program, "models"], env={**os.environ}, check=True, capture_output=True, text=True).stdout
    assert "owner/model" in listed, listed
    print(f"ok, {revision.nb_files} files")
