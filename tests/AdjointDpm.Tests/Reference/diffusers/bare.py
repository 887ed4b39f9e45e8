"""Lets single modules of diffusers' source run on plain PyTorch: what they import besides is replaced by empty names."""
import functools, importlib, importlib.machinery, inspect, logging, sys, types
from collections import OrderedDict
from dataclasses import fields, is_dataclass
import torch


class Config(dict):
    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self[name] = value


class ConfigMixin:
    config_name = "config.json"

    def register_to_config(self, **values):
        self.__dict__["config"] = Config({**self.__dict__.get("config", {}), **values})

    def __getattr__(self, name):
        if "config" in self.__dict__ and name in self.__dict__["config"]:
            return self.__dict__["config"][name]
        up = getattr(super(), "__getattr__", None)
        if up is None:
            raise AttributeError(name)
        return up(name)


def register_to_config(init):
    @functools.wraps(init)
    def wrapped(self, *args, **kwargs):
        bound = inspect.signature(init).bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = {k: v for k, v in bound.arguments.items() if k != "self"}
        if isinstance(self, torch.nn.Module) and "_modules" not in self.__dict__:
            torch.nn.Module.__init__(self)
        self.__dict__["config"] = Config(values)
        init(self, *args, **kwargs)
    return wrapped


class BaseOutput(OrderedDict):
    def __post_init__(self):
        for f in fields(self):
            self[f.name] = getattr(self, f.name)

    def to_tuple(self):
        return tuple(self[k] for k in self if self[k] is not None)


class Network(torch.nn.Module):
    @property
    def dtype(self):
        return next(self.parameters()).dtype

    @property
    def device(self):
        return next(self.parameters()).device


class Anything:
    def __init__(self, *a, **k):
        pass

    def __call__(self, *a, **k):
        return a[0] if len(a) == 1 and callable(a[0]) and not k else None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


def stub(name, **values):
    module = types.ModuleType(name)
    module.__dict__.update(values)

    def missing(attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute.startswith("is_") and attribute != "is_torch_version":
            return lambda *a, **k: False
        return type(attribute, (object,), {}) if attribute[:1].isupper() else Anything()
    module.__getattr__ = missing
    module.__path__ = []
    sys.modules[name] = module
    return module


class Rest:
    """Whatever else of the package is asked for and not found."""

    def find_spec(self, name, path=None, target=None):
        if not name.startswith("diffusers."):
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        return stub(spec.name)

    def exec_module(self, module):
        pass


def install(source):
    for name, path in [("diffusers", source), ("diffusers.schedulers", source + "/schedulers"), ("diffusers.models", source + "/models"),
                       ("diffusers.models.unets", source + "/models/unets"), ("diffusers.models.autoencoders", source + "/models/autoencoders"), ("diffusers.models.transformers", source + "/models/transformers")]:
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module
    stub("huggingface_hub"), stub("huggingface_hub.utils", validate_hf_hub_args=lambda f: f)
    try:
        import typing_extensions
    except ImportError:
        stub("typing_extensions")
    stub("diffusers.configuration_utils", ConfigMixin=ConfigMixin, register_to_config=register_to_config, LegacyConfigMixin=ConfigMixin, FrozenDict=Config)
    log = types.SimpleNamespace(get_logger=lambda n: logging.getLogger(n))
    stub("diffusers.utils", BaseOutput=BaseOutput, deprecate=lambda *a, **k: None, logging=log, is_torch_version=lambda op, v: False,
         is_scipy_available=lambda: False, USE_PEFT_BACKEND=False, scale_lora_layers=lambda *a: None, unscale_lora_layers=lambda *a: None,
         apply_lora_scale=lambda *a, **k: (lambda f: f))
    stub("diffusers.utils.torch_utils", randn_tensor=None, maybe_allow_in_graph=lambda c: c, is_compiled_module=lambda m: False, apply_freeu=lambda *a, **k: (a[1], a[2]), lru_cache_unless_export=lambda *a, **k: (lambda f: f))
    stub("diffusers.utils.accelerate_utils", apply_forward_hook=lambda f: f)
    stub("diffusers.models.modeling_utils", ModelMixin=Network, LegacyModelMixin=Network)
    for name in ["loaders", "quantizers", "hooks", "models.attention_dispatch", "models._modeling_parallel"]:
        stub("diffusers." + name)
    sys.meta_path.append(Rest())
    return importlib.import_module
