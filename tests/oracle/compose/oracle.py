"""What hydra-core 1.3.2 and omegaconf 2.3 make of a configuration: the flat form of `flagscale config show --flat`."""
import os
import warnings

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig

warnings.simplefilter("ignore")


def flatten(value, path, out, depth=0):
    if depth > 60:
        raise RecursionError(path)
    if isinstance(value, (DictConfig, dict)):
        keys = list(value.keys())
        if not keys and path:
            out[path] = {}
        for key in keys:
            visit(value, key, f"{path}.{key}" if path else str(key), out, depth)
    elif isinstance(value, (ListConfig, list, tuple)):
        if len(value) == 0:
            out[path] = []
        for index in range(len(value)):
            visit(value, index, f"{path}[{index}]", out, depth)
    else:
        out[path] = value


def visit(container, key, path, out, depth):
    try:
        value = container[key]
    except Exception as error:
        out[path] = {"error": type(error).__name__}
        return
    flatten(value, path, out, depth + 1)


def show(folder, name, overrides):
    """The flat form, or a string that names the exception."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(os.path.abspath(folder), version_base=None):
            config = compose(name, overrides=list(overrides))
        out = {}
        flatten(config, "", out)
        return out
    except Exception as error:
        return type(error).__name__
