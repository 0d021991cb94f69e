#!/usr/bin/env python3
"""vLLM's and SGLang's own argument parsers read what `flagscale run --engine vllm|sglang` would start.

    engine_arguments.py PROGRAM ENGINE EXAMPLES

ENGINE is vllm or sglang, whose Python files must be importable (their wheels unpacked into PYTHONPATH are enough, with
torch and transformers): what else they import is put in place of by empty modules, as no engine is made. EXAMPLES is a
folder of FlagScale's, whose serve configurations are tried.
"""
import argparse, contextlib, importlib.abc, importlib.machinery, io, json, os, pathlib, subprocess, sys, tempfile, types

# Their presence would mean another device.
ABSENT = {"libtpu", "tpu_inference", "amdsmi", "torch_xla", "habana_frameworks", "torch_npu"}


class Anything:
    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        from pydantic_core import core_schema
        return core_schema.any_schema()


class EmptyModule(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (Anything,), {}) if name[:1].isupper() else Anything()
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last one asked: stands in for what an engine's own files import and is not installed."""

    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        if top in ABSENT or top in sys.stdlib_module_names or (top in ("vllm", "sglang") and "._" not in name):
            return None
        frame = sys._getframe(1)
        while "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        if not any(f"/{engine}/" in frame.f_code.co_filename for engine in ("vllm", "sglang")):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return EmptyModule(spec.name)

    def exec_module(self, module):
        pass


def parser_of(engine):
    sys.meta_path.append(Finder())
    json.JSONEncoder.default = lambda self, value: str(value)  # an empty module's attribute as a default
    if engine == "sglang":
        from sglang.srt.server_args import ServerArgs
        parser = argparse.ArgumentParser()
        ServerArgs.add_cli_args(parser)
        return parser, ["python", "-m", "sglang.launch_server"]
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform
    vllm.platforms._current_platform = CpuPlatform()
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    try:
        from vllm.entrypoints.common.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    return make_arg_parser(FlexibleArgumentParser()), ["vllm", "serve"]


# Written for an engine of another year, or another engine.
OTHERS = {"vllm": {"grok2/conf/serve.yaml": "tokenizer-path is SGLang's",
                   "qwen3/conf/serve.yaml": "full_cuda_graph has left vLLM's compilation_config"}, "sglang": {}}


def served(config):
    """True for a configuration that runs an engine on this machine."""
    text = config.read_text()
    return "type: serve" in text and "hostfile: examples" not in text and "hostfile: /path" not in text


def main():
    program, engine, examples = sys.argv[1:]
    parser, start = parser_of(engine)
    accepted, refused = 0, []
    for config in sorted(pathlib.Path(examples).glob("*/conf/serve*.yaml")):
        if not served(config) or str(config.relative_to(examples)) in OTHERS[engine]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([program, "run", "--config-path", str(config.parent), "--config-name", config.stem, "--engine",
                                  engine, "--json", "action=dryrun", f"experiment.exp_dir={folder}"], capture_output=True,
                                 text=True, env={**os.environ, "QWEN3_PATH": "/models/Qwen3-8B", "QWEN3_PORT": "9010"})
        if run.returncode:
            print(f"{config}: no command: {run.stderr.strip().splitlines()[-1]}")
            continue
        argv = json.loads(run.stdout)[0]["argv"]
        assert argv[:len(start)] == start, argv
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parser.parse_args(argv[len(start):])
            accepted += 1
        except SystemExit:
            refused.append(config)
            print(f"{config}: refused: {said.getvalue().strip().splitlines()[-1]}\n    {' '.join(argv)}")
    print(f"{engine}: {accepted} accepted, {len(refused)} refused")
    sys.exit(bool(refused) or not accepted)


main()
