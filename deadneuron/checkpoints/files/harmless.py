"""Which of the names that a pickle holds are let through, and what stands for each: nothing is ever imported by name.

Three kinds. What weights and optimizer states need has a stand-in that says what was there. What training dicts often
hold is replaced by an inert object without asking. All else blocks the file until the user allows it by its name, and
then an inert object stands for it too. So a name that is allowed runs nothing; blocking is there so that a file that
holds what no checkpoint needs is seen for what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from deadneuron.checkpoints.files import described, standins
from deadneuron.errors import CheckpointError

_STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
    **{"ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64},
    **{"UntypedStorage": torch.uint8, "QInt8Storage": torch.qint8, "QUInt8Storage": torch.quint8},
    **{"QInt32Storage": torch.qint32, "QUInt4x2Storage": torch.quint4x2, "QUInt2x4Storage": torch.quint2x4},
}
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_ONLY_ITS_CODE = "a kind of tensor that only its own code can read"

ENCODE = "_codecs.encode"  # its stand-in is made anew for each file
_BUILT: dict[str, Any] = {
    "torch._utils._rebuild_tensor": described.tensor,
    "torch._utils._rebuild_tensor_v2": described.tensor,
    "torch._utils._rebuild_tensor_v3": described.tensor_v3,
    "torch._utils._rebuild_parameter": described.parameter,
    "torch._utils._rebuild_parameter_with_state": described.parameter,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": described.cpu_copy,
    "torch._tensor._rebuild_from_type_v2": described.subclass,
    "torch._utils._rebuild_qtensor": described.of_kind("quantised torch.Tensor", "a quantised tensor"),
    "torch._utils._rebuild_sparse_tensor": described.of_kind("sparse torch.Tensor", "a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": described.of_kind("nested torch.Tensor", "a nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": described.of_kind(
        "meta torch.Tensor", "a meta tensor, which has no numbers"
    ),
    "torch._utils._rebuild_wrapper_subclass": described.of_kind("torch.Tensor subclass", _ONLY_ITS_CODE),
    "torch._utils._rebuild_device_tensor_from_numpy": described.of_kind("torch.Tensor", _ONLY_ITS_CODE),
    "torch._utils._rebuild_xla_tensor": described.of_kind("torch.Tensor", _ONLY_ITS_CODE),
    "torch.Tensor": described.TENSOR,
    "torch.nn.parameter.Parameter": described.PARAMETER,
    "torch.nn.parameter.Buffer": described.BUFFER,
    "torch.Size": standins.size,
    "builtins.tuple": standins.size,
    "builtins.dict": standins.plain_dict,
    "builtins.list": standins.plain_list,
    "builtins.set": standins.plain_list,
    "builtins.frozenset": standins.plain_list,
    "builtins.complex": standins.complex_number,
    "collections.OrderedDict": standins.plain_dict,
    "collections.Counter": standins.plain_dict,
    "collections.defaultdict": standins.plain_dict,
    "collections.deque": standins.plain_list,
    ENCODE: standins.Encoder,
    "numpy.dtype": standins.NumpyDtype,
    "numpy.ndarray": standins.NumpyArray,
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), standins.numpy_scalar),
    **dict.fromkeys(
        ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), standins.numpy_array
    ),
    "lightning.fabric.utilities.data.AttributeDict": standins.DictLike,
    "lightning_fabric.utilities.data.AttributeDict": standins.DictLike,
    "pytorch_lightning.utilities.parsing.AttributeDict": standins.DictLike,
    **{f"torch.{name}": described.StorageKind(of) for name, of in _STORAGES.items()},
    **{f"torch.cuda.{name}": described.StorageKind(of) for name, of in _STORAGES.items()},
    "torch.storage.UntypedStorage": described.StorageKind(torch.uint8),
    **_DTYPES,
}
"""Names that say something of tensors or are plain containers, and what stands for each."""

# What training dicts hold beside that: hyperparameters, dates, paths, random states, configurations.
_OFTEN = """builtins.int builtins.float builtins.bool builtins.str builtins.bytes builtins.object builtins.slice
builtins.range builtins.type pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePath pathlib.PurePosixPath
pathlib.PureWindowsPath pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath datetime.datetime
datetime.date datetime.time datetime.timedelta datetime.timezone argparse.Namespace types.SimpleNamespace uuid.UUID
decimal.Decimal fractions.Fraction collections.ChainMap typing.Any copyreg._reconstructor enum.Enum random.Random
torch.device torch.layout torch.Generator torch.serialization._get_layout torch.torch_version.TorchVersion
torch.per_tensor_affine torch.per_tensor_symmetric torch.per_channel_affine torch.per_channel_symmetric
torch.per_channel_affine_float_qparams"""
_ROOMS = """omegaconf. ml_collections. transformers. accelerate. lightning. lightning_fabric. pytorch_lightning.
torchao. numpy.random. numpy.dtypes. numpy.float numpy.int numpy.uint numpy.bool numpy.complex torch.distributed.tensor.
torch.distributed._tensor. torch.distributed.device_mesh. torch.distributed._shard. torch.nested."""
_OFTEN_NAMES, _OFTEN_ROOMS = frozenset(_OFTEN.split()), tuple(_ROOMS.split())
_NEVER = ("sys", "os", "posix", "nt")  # torch refuses these whatever it is told, and so do we
# No training dict holds these: whoever finds them is not told how to let them in.
_ALARMING = """sys. os. posix. nt. subprocess. builtins. importlib. runpy. operator. socket. shutil. ctypes. pty. code.
codeop. pickle. marshal. types. webbrowser. pdb. timeit. profile. cProfile. bdb. asyncio. multiprocessing. pip. ssl.
urllib. http. requests. torch.load torch.hub. torch.jit. torch.serialization. torch._inductor. torch.utils. pydoc.
torch._utils._import"""
_ALARMING_ROOMS = tuple(_ALARMING.split())
_SHOWN = 6


def stand_ins(names: Iterable[str], allow: Collection[str], place: str) -> Mapping[str, Any]:
    """What stands for each of the names. Raises `CheckpointError` that names those which block the file."""
    found: dict[str, Any] = {}
    blocked: list[str] = []
    for name in dict.fromkeys(names):
        known = _BUILT.get(name)
        if known is not None:
            found[name] = known
        elif name.partition(".")[0] in _NEVER or not (
            name in _OFTEN_NAMES or name.startswith(_OFTEN_ROOMS) or name in allow
        ):
            blocked.append(name)
        else:
            found[name] = standins.inert(name)
    if blocked:
        raise _refusal(blocked, place)
    return found


def _passes(name: str, allow: Collection[str]) -> bool:
    often = name in _OFTEN_NAMES or name.startswith(_OFTEN_ROOMS)
    return name.partition(".")[0] not in _NEVER and (often or name in allow)


def _refusal(blocked: list[str], place: str) -> CheckpointError:
    modules = [name for name in blocked if name.startswith(("torch.nn.modules.", "torch.nn.Module"))]
    if modules:
        what = f"it holds a pickled model ({modules[0]}), which only its own code can load"
        return CheckpointError(what, where=place, todo="save model.state_dict() instead")
    more = f" and {len(blocked) - _SHOWN} more" if len(blocked) > _SHOWN else ""
    what = f"it names what no weights need: {', '.join(blocked[:_SHOWN])}{more}"
    if any(name.startswith(_ALARMING_ROOMS) for name in blocked):
        todo = "do not trust this file: loaded freely, it could run commands"
    else:
        ways = " ".join(f"--allow-global {name}" for name in blocked[:_SHOWN])
        todo = (
            f"if you know what these are, {ways} (allow= in Python) puts inert objects in their place; nothing is run"
        )
    return CheckpointError(what, where=place, todo=todo)
